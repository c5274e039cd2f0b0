"""Small exits as ONNX: pooling with fixed sizes, then one or two linear layers. Needs onnx.

Pooling is a graph of its own as well, so that training sees exactly what the exit will see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from twinsplit.errors import StorageError, UnsupportedModelError
from twinsplit.model.manifest import TensorSpec
from twinsplit.model.shapes import value_info

MOST_FEATURES = 2048
"""Pooling is made coarser until a tensor with channels has at most so many; then a head costs about as much as one
block's tenth (measured on the shipped network: 0.26 M MACs of 38 M)."""
_GRIDS = (8, 4, 2, 1)
_OPSET = 17
_IR_VERSION = 8


@dataclass(frozen=True)
class Layer:
    """One linear layer: outputs = weight @ inputs + bias. Layers have ReLU between them."""

    weight: NDArray[np.float32]  # (outputs, inputs)
    bias: NDArray[np.float32]  # (outputs,)


def write_pooling(spec: TensorSpec, file: Path) -> None:
    """Write the pooling of the tensor ``spec`` as ``file``: from the tensor to its features (1, F) float32.

    Raises:
        UnsupportedModelError: the tensor has no shape that can be pooled.
        StorageError: the disk is full or cannot be written.
    """
    nodes, features = _pooling(spec)
    _write("pooling", spec, nodes, {}, features, file)


def write_head(spec: TensorSpec, layers: Sequence[Layer], file: Path) -> None:
    """Write an exit as ``file``: from the tensor ``spec`` through its pooling and ``layers`` to logits (1, K).

    Raises:
        UnsupportedModelError: the tensor has no shape that can be pooled.
        StorageError: the disk is full or cannot be written.
    """
    nodes, name = _pooling(spec)
    weights: dict[str, NDArray[np.float32]] = {}
    for number, layer in enumerate(layers, start=1):
        if number > 1:
            nodes.append(helper.make_node("Relu", [name], [f"active{number - 1}"]))
            name = f"active{number - 1}"
        weights |= {f"weight{number}": layer.weight, f"bias{number}": layer.bias}
        output = "logits" if number == len(layers) else f"hidden{number}"
        nodes.append(helper.make_node("Gemm", [name, f"weight{number}", f"bias{number}"], [output], transB=1))
        name = output
    _write("exit", spec, nodes, weights, name, file)


def _pooling(spec: TensorSpec) -> tuple[list[Any], str]:
    """Nodes from ``spec`` to features (1, F), and the name of these.

    (1, C, H, W): mean and maximum over a grid of up to 8 x 8 windows. (1, A, B), tokens or a signal: mean and maximum
    over A and over B. (1, F): as it is. More dimensions: mean and maximum of every channel.
    """
    shape = spec.shape
    if len(shape) < 2 or shape[0] != 1:
        raise UnsupportedModelError(
            f"cut tensor '{spec.name}' has shape {shape}, but exits need one that starts with a batch of 1; "
            "choose another cut (--after)"
        )
    nodes: list[Any] = []
    name = spec.name
    if spec.dtype != "float32":
        nodes.append(helper.make_node("Cast", [name], ["as_float"], to=TensorProto.FLOAT))
        name = "as_float"
    parts: list[str] = []

    def add(op_type: str, part: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(op_type, [name], [part], **attributes))
        parts.append(part)

    if len(shape) == 4:
        window = _window(shape[1], (shape[2], shape[3]))
        if window["kernel_shape"] == [1, 1]:
            parts.append(name)
        else:
            add("AveragePool", "means", **window)
            add("MaxPool", "maxima", **window)
    elif len(shape) == 2:
        parts.append(name)
    else:
        for number, axes in enumerate([[1], [2]] if len(shape) == 3 else [list(range(2, len(shape)))]):
            add("ReduceMean", f"means{number}", axes=axes, keepdims=0)
            add("ReduceMax", f"maxima{number}", axes=axes, keepdims=0)
    flat = []
    for part in parts:
        nodes.append(helper.make_node("Flatten", [part], [f"flat_{part}"], axis=1))
        flat.append(f"flat_{part}")
    nodes.append(helper.make_node("Concat", flat, ["features"], axis=1))
    return nodes, "features"


def _window(channels: int, size: tuple[int, int]) -> dict[str, list[int]]:
    """Kernel and strides that give the finest grid of at most :data:`MOST_FEATURES` features."""
    grid = next((g for g in _GRIDS if 2 * channels * min(g, size[0]) * min(g, size[1]) <= MOST_FEATURES), 1)
    strides, kernel = [], []
    for length in size:
        windows = min(grid, length)
        strides.append(length // windows)
        # The first windows - 1 strides and one kernel cover the whole length, whatever remains of the division.
        kernel.append(length - (windows - 1) * (length // windows))
    return {"kernel_shape": kernel, "strides": strides}


def _write(
    name: str, spec: TensorSpec, nodes: list[Any], weights: dict[str, NDArray[np.float32]], output: str, file: Path
) -> None:
    graph = helper.make_graph(
        nodes,
        name,
        [value_info(spec)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, key) for key, values in weights.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="twinsplit",
    )
    try:
        file.write_bytes(onnx.shape_inference.infer_shapes(model, strict_mode=True).SerializeToString())
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror}; free some space or choose another --out") from None
