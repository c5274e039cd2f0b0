"""Segments as ONNX files of their own: nodes, the constants they need, and weights inside or beside the file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

from twinsplit.errors import StorageError
from twinsplit.model.graph import Network, Node, Tensor, node_inputs, tensor_bytes
from twinsplit.model.manifest import TensorSpec
from twinsplit.model.shapes import value_info

EXTERNAL_OVER_BYTES = 1 << 30
"""A segment whose weights take more gets them in a file beside it: protobuf ends at 2 GB."""
_ALIGNMENT = 4096
_SMALLEST_EXTERNAL_BYTES = 1024


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """One ONNX file, with its external data."""

    file: str
    sha256: str
    external_files: dict[str, str]
    """Name to SHA-256."""


def write_segment(
    network: Network,
    nodes: Sequence[Node],
    entry: TensorSpec,
    output: TensorSpec,
    file: Path,
    *,
    external_over_bytes: int = EXTERNAL_OVER_BYTES,
    is_batch: bool = False,
) -> WrittenFile:
    """Write the subgraph ``nodes`` from tensor ``entry`` to tensor ``output`` as ``file`` (``.onnx``).

    Weights of more than ``external_over_bytes`` in all go to ``file`` with the suffix ``.data``, one after another, so
    that no more than one is in memory. With ``is_batch`` the first axis of both tensors is left open.

    Raises:
        StorageError: the disk is full or cannot be written.
        ModelFileError: external data of the network cannot be read.
    """
    constants, weights = _needed_constants(network, nodes)
    try:
        if sum(_size(t) for t in weights) > external_over_bytes:
            data_file = file.with_suffix(".data")
            stored = _written_beside(weights, network.folder, data_file)
            external = {data_file.name: _sha256(data_file)}
        else:
            stored = [_inline(t, network.folder) for t in weights]
            external = {}
        ends = [[value_info(spec, is_batch=is_batch)] for spec in (entry, output)]
        graph = helper.make_graph([*constants, *nodes], file.stem, *ends, stored)
        model = helper.make_model(
            graph, opset_imports=list(network.opsets), ir_version=network.ir_version, producer_name="twinsplit"
        )
        data = model.SerializeToString()
        file.write_bytes(data)
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror}; free some space or choose another --out") from None
    return WrittenFile(file.name, hashlib.sha256(data).hexdigest(), external)


def _needed_constants(network: Network, nodes: Sequence[Node]) -> tuple[list[Node], list[Tensor]]:
    """Constant nodes in running order and weights that ``nodes`` depend on."""
    needed_nodes: dict[int, Node] = {}
    weights: dict[str, Tensor] = {}
    waiting = [name for node in nodes for name in node_inputs(node)]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in network.initializers:
            weights[name] = network.initializers[name]
        elif name in network.constant_nodes:
            node = network.constant_nodes[name]
            needed_nodes[id(node)] = node
            waiting.extend(node_inputs(node))
    order: dict[int, int] = {}
    for node in network.constant_nodes.values():
        order.setdefault(id(node), len(order))
    ordered_nodes = [needed_nodes[key] for key in sorted(needed_nodes, key=order.__getitem__)]
    return ordered_nodes, [weights[name] for name in sorted(weights)]


def _size(tensor: Tensor) -> int:
    if tensor.data_location != TensorProto.EXTERNAL:
        return int(tensor.ByteSize())
    length = next((int(e.value) for e in tensor.external_data if e.key == "length"), 0)
    if length:
        return length
    elements = 1
    for size in tensor.dims:
        elements *= size
    return elements * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _inline(tensor: Tensor, folder: Path) -> Tensor:
    if tensor.data_location != TensorProto.EXTERNAL:
        return tensor
    return TensorProto(
        name=tensor.name,
        data_type=tensor.data_type,
        dims=tensor.dims,
        raw_data=bytes(tensor_bytes(tensor, folder)),
    )


def _written_beside(tensors: Iterable[Tensor], folder: Path, data_file: Path) -> list[Tensor]:
    stored = []
    with data_file.open("wb") as file:
        for tensor in tensors:
            if _size(tensor) < _SMALLEST_EXTERNAL_BYTES or tensor.data_type in _PACKED_TYPES:
                stored.append(_inline(tensor, folder))
                continue
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            data = tensor_bytes(tensor, folder)
            reference = TensorProto(
                name=tensor.name,
                data_type=tensor.data_type,
                dims=tensor.dims,
                data_location=TensorProto.EXTERNAL,
            )
            for key, value in (("location", data_file.name), ("offset", file.tell()), ("length", len(data))):
                reference.external_data.add(key=key, value=str(value))
            file.write(data)
            stored.append(reference)
    return stored


_PACKED_TYPES: frozenset[Any] = frozenset({TensorProto.STRING})


def _sha256(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return hasher.hexdigest()
