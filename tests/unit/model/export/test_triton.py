"""A Triton model repository as files; tests/engines gives it to Triton's own parser and to Triton."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.onnx_networks import saved, small_classifier
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.errors import StorageError
from twinsplit.model.build import CutSettings, build_model
from twinsplit.model.export.pbtxt import Word, pbtxt
from twinsplit.model.export.tails import export_tails
from twinsplit.model.export.triton import TritonSettings, export_triton


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def values(config: str, name: str) -> list[str]:
    return re.findall(rf'(?m)^ *{name}: "?([^"\n]*)"?$', config)


def test_segments_hold_the_weights_and_ensembles_hold_none(tiny: Path, tmp_path: Path) -> None:
    found = export_triton(tiny, tmp_path)
    assert found.models == ("tiny", "tiny.from_cut_1", "tiny.from_cut_2")
    assert found.segments == ("tiny.segment_0", "tiny.segment_1", "tiny.segment_2")
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.onnx")}
    assert files == {f"{name}/1/model.onnx" for name in found.segments}
    assert all((tmp_path / name / "1").is_dir() for name in found.models), "Triton wants the version's folder"
    assert (tmp_path / "tiny.segment_1/1/model.onnx").read_bytes() == (tiny / "segment-1.onnx").read_bytes()


def test_an_ensemble_chains_the_segments_of_its_tail(tiny: Path, tmp_path: Path) -> None:
    export_triton(tiny, tmp_path)
    config = (tmp_path / "tiny.from_cut_1" / "config.pbtxt").read_text()
    assert values(config, "platform") == ["ensemble"]
    assert values(config, "model_name") == ["tiny.segment_1", "tiny.segment_2"]
    assert values(config, "value") == ["t1", "t2", "t2", "t3"]
    assert values(config, "dims") == ["1", "4", "8", "8", "1", "4"]


def test_instances_threads_and_kind_are_those_asked_for(tiny: Path, tmp_path: Path) -> None:
    export_triton(tiny, tmp_path, TritonSettings(instances=3, kind="gpu", threads=2))
    config = (tmp_path / "tiny.segment_0" / "config.pbtxt").read_text()
    assert values(config, "backend") == ["onnxruntime"]
    assert values(config, "count") == ["3"]
    assert values(config, "kind") == ["KIND_GPU"]
    assert values(config, "string_value") == ["2", "1"]
    assert "dynamic_batching" not in config


@pytest.mark.slow
def test_segments_that_take_batches_are_batched_and_their_ensembles_too(tmp_path: Path) -> None:
    whole = saved(small_classifier(), tmp_path / "small.onnx")
    model = tmp_path / "model"
    build_model(whole, model, name="small", cutting=CutSettings(is_batch=True))
    found = export_triton(model, tmp_path / "out", TritonSettings(max_batch=16, batch_delay_us=300))
    assert found.max_batch == 16
    for name in (*found.segments, *found.models):
        assert values((tmp_path / "out" / name / "config.pbtxt").read_text(), "max_batch_size") == ["16"]
    config = (tmp_path / "out" / found.segments[0] / "config.pbtxt").read_text()
    assert values(config, "max_queue_delay_microseconds") == ["300"]
    alone = export_triton(model, tmp_path / "alone", TritonSettings(max_batch=1))
    assert alone.max_batch == 0


def test_a_second_version_is_refused_since_ensembles_are_the_same_in_all(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    second = write_tiny_model(tmp_path / "second", version=2, seed=1)
    export_triton(tiny, out)
    with pytest.raises(StorageError, match=r"version 1, .* ensemble .* --to tails, .* another server"):
        export_triton(second, out)
    with pytest.raises(StorageError, match="as ensembles"):
        export_tails(second, out, is_replacing=True)
    export_triton(second, out, is_replacing=True)
    assert {path.name for path in (out / "tiny").iterdir()} == {"2", "config.pbtxt"}
    assert (out / "tiny.segment_1/1/model.onnx").read_bytes() == (second / "segment-1.onnx").read_bytes()


def test_the_python_backend_gets_its_model_beside_the_network(tiny: Path, tmp_path: Path) -> None:
    export_triton(tiny, tmp_path, TritonSettings(backend="python"))
    code = (tmp_path / "tiny.segment_0" / "1" / "model.py").read_text()
    assert "class TritonPythonModel" in code
    compile(code, "model.py", "exec")


def test_text_format_quotes_texts_and_not_words() -> None:
    message = [("name", 'a "b"'), ("kind", Word("KIND_CPU")), ("group", [("count", 2)]), ("group", [("count", 3)])]
    assert pbtxt(message) == 'name: "a \\"b\\""\nkind: KIND_CPU\ngroup {\n  count: 2\n}\ngroup {\n  count: 3\n}\n'
