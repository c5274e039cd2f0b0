"""Fixed shapes: the input's from the file, the user or a stated default, all others by inference or by one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, shape_inference

from twinsplit.errors import ComputeError, UnsupportedModelError
from twinsplit.model.manifest import DTypeName, TensorSpec
from twinsplit.model.profile import random_tensor
from twinsplit.model.runtime import run_in_memory

BATCH_AXIS = "batch"
"""Name of an open first axis."""
DEFAULT_SIDE = 224
"""Height and width tried where a picture's are symbolic."""
DEFAULT_LENGTH = 128
"""Tried for any other symbolic dimension but the batch, which is 1, and channels, which are 3."""
_DTYPES: dict[int, DTypeName] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "float64",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
    TensorProto.BOOL: "bool",
}


def fixed_input(info: Any, shapes: dict[str, tuple[int, ...]], notes: list[str]) -> TensorSpec:
    """Spec of the input ``info`` (ValueInfoProto) with every dimension fixed; defaults tried are added to ``notes``.

    Raises:
        UnsupportedModelError: no plain tensor, an element type that cannot be sent, or a shape that contradicts it.
    """
    unknown_names = set(shapes) - {info.name}
    if unknown_names:
        raise UnsupportedModelError(
            f"--shape names '{sorted(unknown_names)[0]}', but the input is called '{info.name}'"
        )
    kind = info.type.tensor_type
    dtype = _DTYPES.get(kind.elem_type)
    if dtype is None:
        raise UnsupportedModelError(
            f"input '{info.name}' is no tensor of {', '.join(_DTYPES.values())}; convert it inside the network"
        )
    wanted = shapes.get(info.name)
    if not kind.HasField("shape"):
        if wanted is None:
            raise UnsupportedModelError(
                f"input '{info.name}' has no shape; give one with --shape {info.name}=1,3,224,224"
            )
        return TensorSpec(name=info.name, shape=wanted, dtype=dtype)
    declared = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim]
    if wanted is not None:
        is_fitting = len(wanted) == len(declared) and all(d in (None, w) for d, w in zip(declared, wanted, strict=True))
        if not is_fitting:
            raise UnsupportedModelError(
                f"--shape {info.name}={_listed(wanted)} contradicts the file, which fixes {_listed(declared)}"
            )
        return TensorSpec(name=info.name, shape=wanted, dtype=dtype)
    shape = _with_defaults(declared)
    if None in declared:
        notes.append(
            f"input '{info.name}' has symbolic dimensions ({_listed(declared)}): tried {_listed(shape)}; "
            f"say otherwise with --shape {info.name}={_listed(shape)}"
        )
    if shape[:1] != (1,):
        notes.append(f"input '{info.name}' has no batch dimension of 1: its output is passed on as a raw tensor")
    return TensorSpec(name=info.name, shape=shape, dtype=dtype)


def infer_specs(model: Any, name: str, *, is_following_values: bool = False) -> dict[str, TensorSpec]:
    """Spec of every tensor (constants included) whose shape inference fixes and whose element type can be sent.

    Raises:
        UnsupportedModelError: the shapes contradict one another.
    """
    try:
        inferred = shape_inference.infer_shapes(model, data_prop=is_following_values)
    except (shape_inference.InferenceError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or ["unknown"])[-1]
        raise UnsupportedModelError(
            f"{name}: shapes do not fit one another ({reason}); give the input's with --shape"
        ) from None
    specs: dict[str, TensorSpec] = {}
    for info in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        kind = info.type.tensor_type
        if info.type.HasField("tensor_type") and kind.HasField("shape") and kind.elem_type in _DTYPES:
            shape = tuple(d.dim_value for d in kind.shape.dim)
            if all(size > 0 for size in shape):
                specs[info.name] = TensorSpec(name=info.name, shape=shape, dtype=_DTYPES[kind.elem_type])
    for tensor in inferred.graph.initializer:
        if tensor.data_type in _DTYPES and all(size > 0 for size in tensor.dims):
            specs[tensor.name] = TensorSpec(name=tensor.name, shape=tuple(tensor.dims), dtype=_DTYPES[tensor.data_type])
    return specs


def measured_specs(model: Any, folder: Path, spec: TensorSpec, names: list[str]) -> dict[str, TensorSpec]:
    """Spec of the outputs ``names`` of ``model`` as two runs on different inputs show them, where both agree.

    For operators that shape inference does not know. ``folder`` is where external data lies.

    Raises:
        UnsupportedModelError: ONNX Runtime cannot run the network on an input of this shape.
    """
    # Zeros beside random numbers: what depends on the data shows here if anywhere.
    samples = [np.zeros(spec.shape, spec.dtype), random_tensor(spec.shape, spec.dtype, np.random.default_rng(0))]
    try:
        feeds = [{spec.name: sample} for sample in samples]
        runs = run_in_memory(model.SerializeToString(), feeds, names, external_folder=folder)
    except ComputeError as error:
        raise UnsupportedModelError(
            f"{error} (input {spec.dtype} {_listed(spec.shape)}; give another shape with --shape {spec.name}=...)"
        ) from None
    specs: dict[str, TensorSpec] = {}
    for name, first, second in zip(names, *runs, strict=True):
        both_plain = isinstance(first, np.ndarray) and isinstance(second, np.ndarray)
        if not both_plain or first.shape != second.shape or not first.size:
            continue
        dtype_name = next((known for known in _DTYPES.values() if known == first.dtype.name), None)
        if dtype_name is not None:
            specs[name] = TensorSpec(name=name, shape=first.shape, dtype=dtype_name)
    return specs


def value_info(spec: TensorSpec, *, is_batch: bool = False) -> Any:
    """ONNX's own form of ``spec``; ``is_batch``: with an open first axis."""
    element = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    shape = [BATCH_AXIS, *spec.shape[1:]] if is_batch else spec.shape
    return onnx.helper.make_tensor_value_info(spec.name, element, shape)


def _with_defaults(declared: list[int | None]) -> tuple[int, ...]:
    shape = []
    is_picture = len(declared) == 4
    is_channels_last = is_picture and declared[3] in (1, 3) and declared[1] not in (1, 3)
    channel_axis = 3 if is_channels_last else 1
    for axis, size in enumerate(declared):
        if size is not None:
            shape.append(size)
        elif axis == 0:
            shape.append(1)
        elif is_picture:
            shape.append(3 if axis == channel_axis else DEFAULT_SIDE)
        else:
            shape.append(DEFAULT_LENGTH)
    return tuple(shape)


def _listed(shape: tuple[int | None, ...] | list[int | None] | tuple[int, ...]) -> str:
    return ",".join("?" if size is None else str(size) for size in shape)
