"""Tails as ONNX models of their own: the same answers, and weights that lie there once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.onnx_networks import saved, small_classifier
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.cli import run
from twinsplit.errors import StorageError, UnsupportedModelError
from twinsplit.model.build import CutSettings, build_model
from twinsplit.model.export.files import disk_bytes
from twinsplit.model.export.tails import export_tails
from twinsplit.model.profile import made_up_input
from twinsplit.model.runtime import SegmentRuntime, open_session


def assert_same_answers(model: Path, files: tuple[Path, ...]) -> None:
    runtime = SegmentRuntime.load(model, with_exits=False)
    tensor = made_up_input(runtime.manifest).tensor
    assert len(files) == runtime.manifest.segment_count
    for cut, file in enumerate(files):
        expected = runtime.run_tail(cut, tensor)
        assert expected is not None
        np.testing.assert_allclose(open_session(file).run(tensor), expected, rtol=1e-5, atol=1e-6)
        tensor = runtime.run_segment(cut, tensor)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("weights", ["inside", "beside"])
def test_every_tail_answers_as_its_segments_though_they_name_things_alike(
    tiny: Path, tmp_path: Path, weights: str
) -> None:
    tails = export_tails(tiny, tmp_path, weights=weights)
    assert tails.models == ("tiny", "tiny.from_cut_1", "tiny.from_cut_2")
    assert tails.files[1] == tmp_path / "tiny.from_cut_1" / "1" / "model.onnx"
    assert tails.is_beside == (weights == "beside")
    assert_same_answers(tiny, tails.files)
    if weights == "inside":  # onnx's checker takes several names of one file for an attack
        onnx.checker.check_model(str(tails.files[0]))


@pytest.mark.slow
def test_weights_beside_lie_on_the_disk_once_however_many_tails_have_them(tmp_path: Path) -> None:
    whole = saved(small_classifier(), tmp_path / "small.onnx")
    build_model(whole, tmp_path / "model", cutting=CutSettings())
    inside = export_tails(tmp_path / "model", tmp_path / "inside", weights="inside")
    beside = export_tails(tmp_path / "model", tmp_path / "beside", weights="beside")
    assert_same_answers(tmp_path / "model", inside.files)
    assert_same_answers(tmp_path / "model", beside.files)
    last = sorted(beside.files[-1].parent.glob("*.weights"))
    assert len(last) == 1
    assert last[0].stat().st_nlink == len(beside.files), "every tail has the last segment, by a link"
    assert not list((tmp_path / "beside").glob(".weights-*"))


@pytest.mark.slow
def test_weights_that_were_beside_a_segment_stay_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinsplit.model.segments.EXTERNAL_OVER_BYTES", 0)
    model = write_tiny_model(tmp_path / "model")
    file = model / "segment-1.onnx"
    onnx.save_model(
        onnx.load(str(file)), str(file), save_as_external_data=True, location="segment-1.data", size_threshold=0
    )
    _sign(model, "segment-1.onnx", "segment-1.data")
    assert_same_answers(model, export_tails(model, tmp_path / "out").files)


def _sign(model: Path, file: str, data: str) -> None:
    import hashlib

    path = model / "manifest.json"
    manifest = json.loads(path.read_text())
    segment = next(each for each in manifest["segments"] if each["file"] == file)
    segment["sha256"] = hashlib.sha256((model / file).read_bytes()).hexdigest()
    segment["external_files"] = {data: hashlib.sha256((model / data).read_bytes()).hexdigest()}
    path.write_text(json.dumps(manifest))


def test_a_model_that_is_there_is_replaced_only_on_request_and_others_stay(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "another").mkdir()
    export_tails(tiny, tmp_path)
    with pytest.raises(StorageError, match="holds tiny version 1 already"):
        export_tails(tiny, tmp_path)
    (tmp_path / "tiny.from_cut_9").mkdir()
    export_tails(tiny, tmp_path, is_replacing=True)
    assert {path.name for path in tmp_path.iterdir()} == {"another", "tiny", "tiny.from_cut_1", "tiny.from_cut_2"}
    assert disk_bytes(tmp_path) > 0


def test_versions_lie_beside_one_another_and_are_replaced_each_by_itself(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    second = write_tiny_model(tmp_path / "second", version=2, seed=1)
    first_files, second_files = export_tails(tiny, out).files, export_tails(second, out).files
    assert_same_answers(tiny, first_files)
    assert_same_answers(second, second_files)
    config = (out / "tiny.from_cut_1" / "config.pbtxt").read_text()
    assert config == 'name: "tiny.from_cut_1"\nbackend: "onnxruntime"\nversion_policy {\n  all {\n  }\n}\n'
    with pytest.raises(StorageError, match="holds tiny version 2 already"):
        export_tails(second, out)
    third = write_tiny_model(tmp_path / "third", version=2, seed=2)
    export_tails(third, out, is_replacing=True)
    assert_same_answers(tiny, first_files)
    assert_same_answers(third, second_files)


def test_segments_that_are_not_named_as_their_manifest_says_are_refused(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    manifest = json.loads((model / "manifest.json").read_text())
    manifest["cuts"][1]["tensor"]["name"] = "else"
    (model / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UnsupportedModelError, match="says from t0 to else"):
        export_tails(model, tmp_path / "out")


def test_the_command_says_what_it_wrote(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["model", "export", str(tiny), "--to", "tails", str(tmp_path / "tails")]) == 0
    assert "3 tails, weights in every tail that has them" in capsys.readouterr().out
    assert run(["model", "export", str(tiny), "--to", "triton", str(tmp_path / "repository")]) == 0
    assert "3 segments (one tensor at a time) and 3 ensembles" in capsys.readouterr().out
    assert run(["model", "export", str(tiny), "--to", "triton", str(tmp_path / "repository")]) == 7
    assert "--force" in capsys.readouterr().err
