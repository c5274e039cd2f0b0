"""An ONNX file as one network with one input, one output and fixed shapes, ready to be cut.

External data stays where it is: only small tensors are read, so a network of many gigabytes loads in little memory.
Needs onnx, as do all modules that cut; devices and edges never import it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from twinsplit.errors import ModelFileError, UnsupportedModelError
from twinsplit.model.manifest import TensorSpec
from twinsplit.model.shapes import fixed_input, infer_specs, measured_specs, value_info

Node: TypeAlias = Any
"""``onnx.NodeProto``; onnx ships no types that mypy strict takes."""
Tensor: TypeAlias = Any
"""``onnx.TensorProto``."""

INLINE_BYTES = 64 * 1024
"""External tensors up to this size are read at once: shapes may depend on them."""
LOWEST_IR_VERSION = 8
_RANDOM_OPS = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


@dataclass(frozen=True)
class Network:
    """One network. ``nodes``: those that depend on the input and that the output depends on, in an order that runs."""

    path: Path
    folder: Path
    """Where external data lies."""
    ir_version: int
    opsets: tuple[Any, ...]
    input: TensorSpec
    output: TensorSpec
    nodes: tuple[Node, ...]
    constant_nodes: dict[str, Node]
    """Output name to node, for nodes that depend on constants alone: they go along with whatever needs them."""
    initializers: dict[str, Tensor]
    specs: dict[str, TensorSpec]
    """Every tensor whose shape and type are fixed and known."""
    notes: tuple[str, ...] = field(default=())
    """What was assumed or left out, for the person who splits."""

    def is_constant(self, name: str) -> bool:
        """Whether the tensor is the same for every input (or is the empty name of an input left out)."""
        return not name or name in self.initializers or name in self.constant_nodes


def load_network(
    path: Path, *, shapes: Mapping[str, tuple[int, ...]] | None = None, output: str | None = None
) -> Network:
    """Read an ONNX file and fix its shapes.

    Args:
        path: the file; external data lies beside it.
        shapes: input name to shape, for symbolic dimensions; without one a default is tried and noted.
        output: the output to keep where there are several.

    Raises:
        UnsupportedModelError: not an ONNX file, or one that cannot be split; the text names the reason.
        ModelFileError: external data is missing.
    """
    model = _read(path)
    notes: list[str] = []
    initializers = _initializers(model, path)
    wanted_output = _wanted_output(model, output, notes)
    nodes = _needed_nodes(_sorted_nodes(model.graph.node), {wanted_output})
    entry = _entry(model, nodes, initializers, wanted_output, notes)
    spec = fixed_input(entry, dict(shapes or {}), notes)
    parts = _Parts(model, spec, wanted_output, nodes, initializers, path)
    specs = infer_specs(parts.model_without_weights(), path.name)
    if _read_names(nodes, wanted_output) - specs.keys():
        # Following the values of constants as well takes seconds where weights are computed.
        specs = infer_specs(parts.model_without_weights(), path.name, is_following_values=True)
    parts = replace(parts, nodes=_needed_nodes(_fold_shapes(nodes, specs, initializers), {wanted_output}))
    constant_nodes, nodes = _split_constants(parts.nodes, initializers)
    if wanted_output in constant_nodes or not nodes:
        raise UnsupportedModelError(f"{path.name}: output '{wanted_output}' does not depend on any input")
    unknown = sorted(_read_names(nodes, wanted_output) - specs.keys() - initializers.keys() - {spec.name})
    if unknown:
        specs |= measured_specs(parts.model_with_outputs(unknown), path.parent, spec, unknown)
    if wanted_output not in specs:
        raise UnsupportedModelError(
            f"{path.name}: the shape of output '{wanted_output}' depends on the data or is no plain tensor; "
            "keep another output (--output) or end the network before it"
        )
    specs |= {spec.name: spec}
    return Network(
        path=path,
        folder=path.parent,
        ir_version=max(model.ir_version, LOWEST_IR_VERSION),
        opsets=tuple(model.opset_import),
        input=spec,
        output=specs[wanted_output],
        nodes=tuple(nodes),
        constant_nodes=constant_nodes,
        initializers=initializers,
        specs=specs,
        notes=tuple(notes),
    )


def node_inputs(node: Node) -> list[str]:
    """Names a node reads, those that its subgraphs capture included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        graphs = [attribute.g] if attribute.type == AttributeProto.GRAPH else list(attribute.graphs)
        for graph in graphs:
            names.extend(_captured(graph))
    return names


def tensor_bytes(tensor: Tensor, folder: Path) -> bytes | memoryview:
    """Raw little-endian elements of an initializer, read from external data if they lie there.

    Raises:
        ModelFileError: the external data is missing or too short.
        UnsupportedModelError: it points out of the model's folder.
    """
    if tensor.data_location != TensorProto.EXTERNAL:
        return bytes(tensor.raw_data if tensor.HasField("raw_data") else numpy_helper.to_array(tensor).tobytes())
    place = {entry.key: entry.value for entry in tensor.external_data}
    file = _external_path(tensor, folder)
    offset = int(place.get("offset", 0))
    try:
        length = int(place.get("length", 0)) or file.stat().st_size - offset
        if not length:
            return b""
        mapped: Any = np.memmap(file, dtype=np.uint8, mode="r", offset=offset, shape=(length,))
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"{file.name}: external data of '{tensor.name}' cannot be read ({error}); keep it beside the ONNX file"
        ) from None
    return memoryview(mapped)


def external_files(tensors: Iterable[Tensor]) -> set[str]:
    """Names of the external data files that ``tensors`` point to."""
    return {
        entry.value
        for tensor in tensors
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }


@dataclass(frozen=True)
class _Parts:
    model: Any
    input: TensorSpec
    output: str
    nodes: list[Node]
    initializers: dict[str, Tensor]
    path: Path

    def model_without_weights(self) -> Any:
        """The graph with large weights declared as inputs: all that shape inference needs, in few bytes."""
        small = [t for t in self.initializers.values() if t.ByteSize() <= INLINE_BYTES and _is_inline(t)]
        names = {t.name for t in small}
        large = [
            helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
            for t in self.initializers.values()
            if t.name not in names
        ]
        return self._model([value_info(self.input), *large], [self.output], small)

    def model_with_outputs(self, names: list[str]) -> Any:
        """The whole graph with ``names`` as outputs, weights and all."""
        return self._model([value_info(self.input)], names, list(self.initializers.values()))

    def _model(self, inputs: list[Any], outputs: list[str], initializers: list[Tensor]) -> Any:
        kept = [info for info in self.model.graph.value_info if _is_static(info)]
        graph = helper.make_graph(
            self.nodes,
            "network",
            inputs,
            [onnx.ValueInfoProto(name=name) for name in outputs],
            initializers,
            value_info=kept,
        )
        ir_version = max(self.model.ir_version, LOWEST_IR_VERSION)
        return helper.make_model(graph, opset_imports=list(self.model.opset_import), ir_version=ir_version)


def _read(path: Path) -> Any:
    try:
        model = onnx.load(os.fspath(path), load_external_data=False)
    except OSError as error:
        raise UnsupportedModelError(f"{path}: {error.strerror}; name an ONNX file") from None
    except (DecodeError, ValueError, RuntimeError):
        model = None
    if model is None or not (model.graph.node and model.opset_import):
        raise UnsupportedModelError(f"{path}: not an ONNX model; export the network to ONNX first")
    if model.functions:
        from onnx import inliner  # rarely needed

        model = inliner.inline_local_functions(model)
    if model.graph.sparse_initializer:
        raise UnsupportedModelError(f"{path.name}: sparse weights cannot be split; store them dense")
    return model


def _initializers(model: Any, path: Path) -> dict[str, Tensor]:
    """Weights by name; small external ones are read, for all others it is seen that their file is there. What lies
    inside of nodes goes along with these and is read whatever its size."""
    tensors = [(tensor, False) for tensor in model.graph.initializer]
    tensors += [(tensor, True) for node in model.graph.node for tensor in _tensors_inside(node)]
    for tensor, is_inside in tensors:
        if _is_inline(tensor):
            continue
        file = _external_path(tensor, path.parent)
        # A link may lead to where one that is the ONNX file itself leads (Hugging Face's cache), and nowhere else.
        if not any(file.resolve().is_relative_to(home) for home in (path.parent.resolve(), path.resolve().parent)):
            raise UnsupportedModelError(
                f"external data of '{tensor.name}' lies outside of the ONNX file's folder: {file.name!r} is a link; "
                "put the file itself there"
            )
        if not file.is_file():
            raise ModelFileError(
                f"{file.name}: external data of {tensor.name!r} is missing; keep it beside the ONNX file"
            )
        element_bytes = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        if is_inside or int(np.prod(tensor.dims)) * element_bytes <= INLINE_BYTES:
            tensor.raw_data = bytes(tensor_bytes(tensor, path.parent))
            tensor.ClearField("external_data")
            tensor.data_location = TensorProto.DEFAULT
    return {tensor.name: tensor for tensor in model.graph.initializer}


def _tensors_inside(node: Node) -> Iterator[Tensor]:
    """Tensors that attributes of ``node`` hold, in subgraphs, too."""
    for attribute in node.attribute:
        yield from (attribute.t, *attribute.tensors)
        for graph in (attribute.g, *attribute.graphs):
            yield from graph.initializer
            for inner in graph.node:
                yield from _tensors_inside(inner)


def _external_path(tensor: Tensor, folder: Path) -> Path:
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    place = PurePath(location)
    if not location or place.is_absolute() or ".." in place.parts:
        raise UnsupportedModelError(
            f"external data of '{tensor.name}' lies outside of the ONNX file's folder ({location!r}); "
            "save it beside the file"
        )
    return folder / place


def _wanted_output(model: Any, output: str | None, notes: list[str]) -> str:
    names = [info.name for info in model.graph.output]
    if not names:
        raise UnsupportedModelError("it has no output, so that there is nothing to split; export the network again")
    if output is None:
        if len(names) > 1:
            raise UnsupportedModelError(
                f"{len(names)} outputs ({', '.join(names)}), but a split network has one; "
                "say which to keep with --output NAME"
            )
        return str(names[0])
    if output not in names:
        raise UnsupportedModelError(f"there is no output '{output}'; the outputs are {', '.join(names)}")
    if len(names) > 1:
        notes.append(f"kept output '{output}', left out {', '.join(n for n in names if n != output)}")
    return output


def _entry(model: Any, nodes: list[Node], initializers: dict[str, Tensor], output: str, notes: list[str]) -> Any:
    """The one input that is not a weight and that the output depends on."""
    read = {name for node in nodes for name in node_inputs(node)} | {output}
    entries = [info for info in model.graph.input if info.name not in initializers]
    needed = [info for info in entries if info.name in read]
    if len(needed) > 1:
        names = ", ".join(info.name for info in needed)
        raise UnsupportedModelError(
            f"{len(needed)} inputs ({names}), but a split network has one; join them into one tensor in the network, "
            "or fix all but one as initializers"
        )
    if not needed:
        raise UnsupportedModelError(f"output '{output}' does not depend on any input")
    unused = [info.name for info in entries if info.name not in read]
    if unused:
        notes.append(f"left out unused inputs: {', '.join(unused)}")
    return needed[0]


def _sorted_nodes(nodes: Iterable[Node]) -> list[Node]:
    """Nodes in an order that runs (files in the wild are not always sorted); their own order where that runs."""
    waiting = list(nodes)
    produced = {name for node in waiting for name in node.output if name}
    ready: set[str] = set()
    ordered: list[Node] = []
    while waiting:
        later: list[Node] = []
        for node in waiting:
            if all(name in ready or name not in produced for name in node_inputs(node)):
                ordered.append(node)
                ready.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise UnsupportedModelError(f"node '{later[0].name or later[0].op_type}' is part of a loop in the graph")
        waiting = later
    return ordered


def _needed_nodes(nodes: list[Node], outputs: set[str]) -> list[Node]:
    """Those that ``outputs`` depend on."""
    needed = set(outputs)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node_inputs(node))
    return kept[::-1]


def _read_names(nodes: Iterable[Node], output: str) -> set[str]:
    return {name for node in nodes for name in node.input if name} | {output}


def _fold_shapes(nodes: list[Node], specs: dict[str, TensorSpec], initializers: dict[str, Tensor]) -> list[Node]:
    """Turn Shape and Size of tensors with a fixed shape into initializers: they then no longer keep a tensor alive."""
    kept = []
    for node in nodes:
        if node.op_type not in ("Shape", "Size") or node.domain or node.input[0] not in specs:
            kept.append(node)
            continue
        shape = specs[node.input[0]].shape
        attributes = {a.name: a.i for a in node.attribute}
        value = (
            np.asarray(shape[attributes.get("start", 0) : attributes.get("end", len(shape))], dtype=np.int64)
            if node.op_type == "Shape"
            else np.asarray(np.prod(shape), dtype=np.int64)
        )
        initializers[node.output[0]] = numpy_helper.from_array(value, node.output[0])
    return kept


def _split_constants(nodes: list[Node], initializers: dict[str, Tensor]) -> tuple[dict[str, Node], list[Node]]:
    constant: dict[str, Node] = {}
    others = []
    for node in nodes:
        is_fixed = all(name in constant or name in initializers for name in node_inputs(node))
        if is_fixed and node.op_type not in _RANDOM_OPS:
            constant.update((name, node) for name in node.output if name)
        else:
            others.append(node)
    return constant, others


def _captured(graph: Any) -> set[str]:
    own = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {name for node in graph.node for name in node.output}
    read = {name for node in graph.node for name in node_inputs(node)} | {info.name for info in graph.output}
    return read - own


def _is_inline(tensor: Tensor) -> bool:
    return bool(tensor.data_location != TensorProto.EXTERNAL)


def _is_static(info: Any) -> bool:
    kind = info.type.tensor_type
    return info.type.HasField("tensor_type") and kind.HasField("shape") and all(d.dim_value > 0 for d in kind.shape.dim)
