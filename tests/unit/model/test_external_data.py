"""Model folders whose files point out of them: never opened, whatever ONNX Runtime would do."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.errors import ModelFileError
from twinsplit.model.external_data import check_external_data, external_locations
from twinsplit.model.runtime import SegmentRuntime

LOCATIONS = ["../secret.bin", "/etc/passwd", "sub/../../secret.bin", "link.bin", "weights.bin"]


def external(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("length", "8"), ("location", location)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def constant(location: str) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], value=external(location))


def graph(location: str, *, initializer: bool = False) -> onnx.GraphProto:
    nodes = [] if initializer else [constant(location)]
    return helper.make_graph(nodes, "g", [], [], [external(location)] if initializer else [])


def wrapped(graph_inside: onnx.GraphProto) -> onnx.GraphProto:
    return helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=graph_inside)], "g", [], [])


def sparse(location: str) -> onnx.GraphProto:
    found = onnx.GraphProto()
    found.sparse_initializer.add().values.CopyFrom(external(location))
    return found


PLACES = {
    "initializer": lambda location: helper.make_model(graph(location, initializer=True)),
    "constant": lambda location: helper.make_model(graph(location)),
    "branch": lambda location: helper.make_model(wrapped(wrapped(graph(location)))),
    "sparse": lambda location: helper.make_model(sparse(location)),
    "function": lambda location: helper.make_model(
        graph("weights.bin"), functions=[helper.make_function("d", "f", [], ["c"], [constant(location)], [])]
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_found_wherever_a_model_may_hold_it(place: str) -> None:
    assert "deep.bin" in external_locations(PLACES[place]("deep.bin").SerializeToString())


def test_every_message_of_onnx_on_the_way_to_a_tensor_is_walked() -> None:
    """From onnx's own descriptors, so that a newer ONNX with another way fails here."""
    ways: dict[str, set[int]] = {}
    for descriptor in onnx.ModelProto.DESCRIPTOR.file.message_types_by_name.values():
        ways[descriptor.name] = {
            field.number
            for field in descriptor.fields
            if field.message_type is not None and "TensorProto" in _reached(field.message_type)
        }
    from twinsplit.model.external_data import _MESSAGES

    names = {
        "model": "ModelProto",
        "training": "TrainingInfoProto",
        "graph": "GraphProto",
        "function": "FunctionProto",
        "node": "NodeProto",
        "attribute": "AttributeProto",
        "sparse": "SparseTensorProto",
    }
    for ours, theirs in names.items():
        assert set(_MESSAGES[ours]) == ways.pop(theirs), theirs
    assert {name for name, fields in ways.items() if fields} == set()
    assert TensorProto.DESCRIPTOR.fields_by_name["external_data"].number in _MESSAGES["tensor"]


def _reached(descriptor: object, seen: frozenset[str] = frozenset()) -> set[str]:
    name = descriptor.name
    if name in seen:
        return set()
    found = {name}
    for field in descriptor.fields:
        if field.message_type is not None:
            found |= _reached(field.message_type, seen | {name})
    return found


def poisoned(folder: Path, location: str, known: dict[str, str] | None = None) -> Path:
    """A model folder of which the second segment points to ``location``; digests fit."""
    write_tiny_model(folder)
    model = onnx.load(folder / "segment-1.onnx")
    first = model.graph.initializer[0]
    size = int(np.prod(first.dims)) * 4
    first.ClearField("raw_data")
    first.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", str(size))):
        entry = first.external_data.add()
        entry.key, entry.value = key, value
    data = model.SerializeToString()
    (folder / "segment-1.onnx").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["segments"][1] |= {"sha256": hashlib.sha256(data).hexdigest(), "external_files": known or {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder.parent / "secret.bin").write_bytes(bytes(size))
    (folder / "weights.bin").write_bytes(bytes(size))
    (folder / "link.bin").symlink_to("../secret.bin")
    return folder


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_segment_that_points_to_what_its_manifest_lacks_is_not_opened(tmp_path: Path, location: str) -> None:
    folder = poisoned(tmp_path / "model", location)
    with pytest.raises(ModelFileError, match="not in its manifest"):
        SegmentRuntime.load(folder)


def test_a_file_of_the_manifest_may_be_pointed_to_unless_it_is_a_link_out(tmp_path: Path) -> None:
    folder = poisoned(tmp_path / "good", "weights.bin")
    digest = hashlib.sha256((folder / "weights.bin").read_bytes()).hexdigest()
    SegmentRuntime.load(poisoned(tmp_path / "better", "weights.bin", {"weights.bin": digest}))
    with pytest.raises(ModelFileError, match=r"link\.bin: is a link out of the model folder"):
        SegmentRuntime.load(poisoned(tmp_path / "worse", "link.bin", {"link.bin": digest}))


def test_a_folder_that_is_itself_a_link_is_a_model_folder(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model")
    (tmp_path / "link").symlink_to("model")
    SegmentRuntime.load(tmp_path / "link")


@pytest.mark.parametrize(
    "data", [b"\x3a\xff\xff\xff\xff\x0f", b"\x3a", b"\x0b", b"\x80" * 11, b"\x3a\x05\x0a", b"no model at all", b""]
)
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "x.onnx"
    file.write_bytes(data)
    with pytest.raises(ModelFileError, match="is no ONNX file"):
        check_external_data(file, ())


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    data = b""
    for _ in range(60):
        for field in (6, 5, 1):  # graph of an attribute of a node of a graph
            data = bytes([field << 3 | 2]) + _length(data) + data
    file = tmp_path / "x.onnx"
    file.write_bytes(b"\x3a" + _length(data) + data)
    with pytest.raises(ModelFileError, match="is no ONNX file"):
        check_external_data(file, ())


def _length(data: bytes) -> bytes:
    value, out = len(data), b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


class Counted(bytes):
    """Counts the bytes that are looked at."""

    looked_at = 0

    def __getitem__(self, key):
        found = super().__getitem__(key)
        Counted.looked_at += 1 if isinstance(key, int) else len(found)
        return found


def test_weights_are_passed_over_and_not_read() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 16], raw_data=bytes(1 << 18))
    data = Counted(helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString())
    assert external_locations(data) == set()
    assert 0 < Counted.looked_at < 200
