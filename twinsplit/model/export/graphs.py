"""Segments of a model folder as ONNX graphs: what they take and give, and several of them as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx.compose
from onnx import TensorProto, helper, numpy_helper

from twinsplit.errors import UnsupportedModelError

LEAST_BESIDE_BYTES = 1024
"""Weights smaller than this stay in the file."""


def ends_of(file: Path) -> tuple[str, str]:
    """Names of the input and the output of an ONNX file.

    Raises:
        UnsupportedModelError: it takes more than one tensor.
    """
    graph = load_graph(file).graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [entry.name for entry in graph.input if entry.name not in stored]
    if len(inputs) != 1:
        raise UnsupportedModelError(
            f"{file.name} takes {len(inputs)} tensors ({', '.join(inputs)}); another server would have to feed them "
            "all: split the model again (twinsplit model split)"
        )
    return inputs[0], graph.output[0].name


def load_graph(file: Path) -> Any:
    """An ONNX model; what lies in files beside it is left there."""
    return onnx.load(str(file), load_external_data=False)


def parts_of(files: Sequence[Path]) -> list[Any]:
    """The models in ``files``, parts of one network in their order, with names that mean the same in all of them."""
    parts = [load_graph(file) for file in files]
    if _clash(parts):
        for index, part in enumerate(parts):
            onnx.compose.add_prefix(
                part,
                f"part_{index}/",
                rename_inputs=False,
                rename_outputs=False,
                rename_value_infos=False,
                inplace=True,
            )
    return parts


def joined(parts: Sequence[Any], name: str) -> Any:
    """One model that runs ``parts``, as :func:`parts_of` gave them, one after the other."""
    first, last = parts[0].graph, parts[-1].graph
    nodes = _once((node for part in parts for node in part.graph.node), _node_key)
    weights = _once((tensor for part in parts for tensor in part.graph.initializer), _weight_key)
    stored = {tensor.name for tensor in weights}
    entries = [entry for entry in first.input if entry.name not in stored]
    graph = helper.make_graph(nodes, name, entries, [last.output[0]], initializer=weights)
    opsets = {opset.domain: opset for part in parts for opset in part.opset_import}
    return helper.make_model(
        graph,
        opset_imports=list(opsets.values()),
        ir_version=max(part.ir_version for part in parts),
        producer_name="twinsplit",
    )


def move_weights(model: Any, file: Path) -> None:
    """Move the weights that stand in ``model`` into ``file``, to which it then points.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    with file.open("wb") as out:
        for tensor in model.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL or tensor.data_type == TensorProto.STRING:
                continue
            data = numpy_helper.to_array(tensor).tobytes()
            if len(data) < LEAST_BESIDE_BYTES:
                continue
            out.write(b"\0" * (-out.tell() % 4096))
            place = (("location", file.name), ("offset", out.tell()), ("length", len(data)))
            out.write(data)
            kept = TensorProto(
                name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, data_location=TensorProto.EXTERNAL
            )
            for key, value in place:
                kept.external_data.add(key=key, value=str(value))
            tensor.CopyFrom(kept)


def weight_bytes(model: Any) -> int:
    """Bytes of the weights that stand in ``model`` itself."""
    return sum(t.ByteSize() for t in model.graph.initializer if t.data_location != TensorProto.EXTERNAL)


def _clash(parts: Sequence[Any]) -> bool:
    """Whether two parts mean something else by the same name."""
    known: dict[Any, bytes] = {}
    for part in parts:
        named = [(_node_key(node), node) for node in part.graph.node]
        named += [(_weight_key(tensor), tensor) for tensor in part.graph.initializer]
        for key, each in named:
            data = each.SerializeToString()
            if known.setdefault(key, data) != data:
                return True
    return False


def _node_key(node: Any) -> tuple[str, ...]:
    return ("node", *node.output)


def _weight_key(tensor: Any) -> tuple[str, ...]:
    return ("weight", tensor.name)


def _once(found: Iterable[Any], key: Callable[[Any], Any]) -> list[Any]:
    kept: dict[Any, Any] = {}
    for each in found:
        kept.setdefault(key(each), each)
    return list(kept.values())
