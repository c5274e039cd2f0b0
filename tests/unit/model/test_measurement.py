from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.onnx_networks import floats, parsed, saved, small_classifier
from tests.unit.model.conftest import PICTURES, labelled, picture
from twinsplit.errors import FrameError
from twinsplit.model.build import CutSettings, build_model
from twinsplit.model.frames import LabelledFrames
from twinsplit.model.manifest import Manifest, Preprocessing, RepresentationEntry
from twinsplit.model.measurement import measure, score
from twinsplit.model.runtime import SegmentRuntime


class CountingRuntime(SegmentRuntime):
    runs = 0

    def run_segment(self, index: int, tensor: NDArray[np.generic]) -> NDArray[np.generic]:
        type(self).runs += 1
        return super().run_segment(index, tensor)


def by_name(manifest: Manifest, cut: int) -> dict[str, RepresentationEntry]:
    return {r.name: r for r in manifest.cuts[cut].representations}


def built(folder: Path, text: str, frames: LabelledFrames, cuts: list[str], **weights: NDArray[np.generic]) -> Manifest:
    whole = saved(parsed(text, weights), folder / "n.onnx")
    return build_model(whole, folder / "out", cutting=CutSettings(cuts=cuts), test=frames, threads=1).manifest


def test_the_shipped_table_is_complete(folder: Path) -> None:
    manifest = SegmentRuntime.load(folder, segments=range(0), with_exits=False).manifest
    assert {"float32", "float16", "uint8", "uint4", "png", "jpeg60", "jpeg75", "jpeg90"} <= set(by_name(manifest, 0))
    for cut in range(1, 4):
        entries = by_name(manifest, cut)
        assert {"float32", "float16", "uint8", "uint4"} <= set(entries)
        assert entries["float32"].mean_bytes == 4 * entries["uint8"].mean_bytes == 8 * entries["uint4"].mean_bytes
        assert entries["float32"].accuracy == manifest.whole_accuracy
        assert entries["float32"].loss == 0.0
    assert manifest.cuts[4].representations == ()
    assert manifest.accuracy_basis == "labels"
    assert manifest.provenance["accuracy_frames"] == "40"


def test_accuracy_is_what_the_labels_say(folder: Path) -> None:
    runtime = SegmentRuntime.load(folder)
    frames = labelled(40)
    assert frames.labels is not None
    from twinsplit.model.preprocessing import prepare

    hits = 0
    for frame, label in zip(frames.frames, frames.labels, strict=True):
        output = runtime.run_tail(0, prepare(frame, runtime.manifest).tensor)
        assert output is not None
        hits += int(output.argmax()) == label
    assert runtime.manifest.whole_accuracy == pytest.approx(hits / 40)


def test_lossless_representations_are_not_run_again(folder: Path) -> None:
    runtime = CountingRuntime.load(folder)
    CountingRuntime.runs = 0
    measure(runtime, labelled(3))
    # Per frame: 4 segments, then tails of 4, 3, 2, 1 segments for float16, uint8 and uint4, and of 4 for three JPEGs;
    # one encoding serves both codecs, and float32 and PNG need no tail at all.
    assert CountingRuntime.runs == 3 * (4 + 3 * (4 + 3 + 2 + 1) + 3 * 4)


def test_without_labels_agreement_is_measured_and_called_so(tmp_path: Path) -> None:
    whole = saved(small_classifier(), tmp_path / "n.onnx")
    frames = LabelledFrames([picture(i) for i in range(10)])
    report = build_model(whole, tmp_path / "out", preprocessing=PICTURES, test=frames, threads=1)
    assert report.manifest.accuracy_basis == "agreement"
    assert report.manifest.whole_accuracy == 1.0


def test_a_representation_that_costs_too_much_is_not_offered(tmp_path: Path) -> None:
    # One huge element: eight bits cannot hold it beside the small ones that decide.
    text = "g (float[1,4] x) => (float[1,3] y) { a = Concat<axis=1>(x, huge) y = MatMul(a, w) }"
    weights = {"huge": np.full((1, 1), 1000, np.float32), "w": np.vstack([floats(4, 3), np.zeros((1, 3), np.float32)])}
    frames = LabelledFrames([floats(1, 4, seed=i) for i in range(40)])
    manifest = built(tmp_path, text, frames, ["a"], **weights)
    entries = by_name(manifest, 1)
    assert entries["float32"].is_offered
    assert entries["float16"].is_offered
    assert not entries["uint8"].is_offered
    assert entries["uint8"].loss > 0.3
    assert entries["uint8"].accuracy == pytest.approx(1.0 - entries["uint8"].loss, abs=1e-5)


def test_the_tolerance_decides_what_is_offered(folder: Path) -> None:
    runtime = SegmentRuntime.load(folder)
    strict = measure(runtime, labelled(15), tolerance=0.0)
    generous = measure(runtime, labelled(15), tolerance=1.0)
    assert all(e.is_offered == (e.loss == 0.0) for entries in strict.representations for e in entries)
    assert all(e.is_offered for entries in generous.representations for e in entries)


def test_a_codec_that_saves_nothing_is_not_listed(tmp_path: Path) -> None:
    text = "g (uint8[1,600] x) => (float[1,3] y) { a = Cast<to=1>(x) y = MatMul(a, w) }"
    noise = LabelledFrames([np.random.default_rng(0).integers(0, 256, (1, 600), np.uint8)])
    assert set(by_name(built(tmp_path, text, noise, ["a"], w=floats(600, 3)), 0)) == {"float32"}
    (tmp_path / "zeros").mkdir()
    zeros = LabelledFrames([np.zeros((1, 600), np.uint8)])
    entries = by_name(built(tmp_path / "zeros", text, zeros, ["a"], w=floats(600, 3)), 0)
    assert entries["float32+zstd"].mean_bytes < 60


def test_integers_are_sent_as_they_are(tmp_path: Path) -> None:
    text = "g (int64[1,4] x) => (float[1,3] y) { a = Gather(table, x) f = Flatten(a) y = MatMul(f, w) }"
    frames = LabelledFrames([np.array([[i % 7, 1, 2, 3]]) for i in range(5)])
    manifest = built(tmp_path, text, frames, ["a"], table=floats(7, 2), w=floats(8, 3))
    assert {r.kind for r in manifest.cuts[0].representations} == {"float32"}
    assert {r.kind for r in manifest.cuts[1].representations} == {"float32", "float16", "uint8", "uint4"}


def test_values_that_are_not_finite_rule_the_affine_representations_out(tmp_path: Path) -> None:
    text = "g (float[1,4] x) => (float[1,3] y) { a = Log(x) b = Max(a, low) y = MatMul(b, w) }"
    frames = LabelledFrames([np.array([[0, 1, 2, i]], np.float32) for i in range(3)])
    weights = {"low": np.full((1, 4), -5, np.float32), "w": floats(4, 3)}
    manifest = built(tmp_path, text, frames, ["a"], **weights)
    assert {r.kind for r in manifest.cuts[1].representations} == {"float32", "float16"}


def test_a_raw_output_is_measured_by_its_distance(tmp_path: Path) -> None:
    text = "g (float[1,2,3] x) => (float[1,2,3] y) { a = Relu(x) y = Neg(a) }"
    frames = LabelledFrames([floats(1, 2, 3, seed=i) for i in range(10)])
    manifest = built(tmp_path, text, frames, ["a"])
    entries = by_name(manifest, 1)
    assert (manifest.task, manifest.accuracy_basis) == ("raw", "agreement")
    assert entries["float32"].accuracy == 1.0
    assert 0.9 < (entries["uint4"].accuracy or 0) < (entries["uint8"].accuracy or 0) < 1.0


def test_the_score_of_raw_outputs() -> None:
    spec = Manifest.model_construct(task="raw")
    exact = np.array([3.0, 4.0])
    assert score(spec, exact, exact, None) == 1.0
    assert score(spec, np.array([3.0, 3.0]), exact, None) == pytest.approx(0.8)
    assert score(spec, np.array([-30.0, 3.0]), exact, None) == 0.0
    assert score(spec, np.zeros(2), np.zeros(2), None) == 1.0
    assert score(spec, np.ones(2), np.zeros(2), None) == 0.0


def test_frames_that_cannot_be_read_are_left_out_and_named(tmp_path: Path, folder: Path) -> None:
    frames = LabelledFrames([picture(1), b"broken", picture(2)], [0, 1, 2], ["a.png", "b.png", "c.png"])
    measurement = measure(SegmentRuntime.load(folder), frames)
    assert measurement.frame_count == 2
    assert len(measurement.skipped) == 1
    assert measurement.skipped[0].startswith("b.png: frame")
    with pytest.raises(FrameError, match="none of 1 frames"):
        measure(SegmentRuntime.load(folder), LabelledFrames([b"broken"]))


def test_progress_is_told_after_every_frame(folder: Path) -> None:
    told: list[tuple[str, int, int]] = []
    measure(SegmentRuntime.load(folder), labelled(3), progress=lambda *step: told.append(step))
    assert told == [("measuring representations", n, 3) for n in (1, 2, 3)]


def test_without_frames_only_float32_is_offered_and_said_so(tmp_path: Path) -> None:
    whole = saved(small_classifier(), tmp_path / "n.onnx")
    report = build_model(whole, tmp_path / "out", preprocessing=Preprocessing(), threads=1)
    for cut in report.manifest.cuts[:-1]:
        assert [r.name for r in cut.representations] == ["float32"]
        assert cut.representations[0].accuracy is None
        assert cut.representations[0].mean_bytes == 4 * np.prod(cut.tensor.shape)
    assert report.manifest.accuracy_basis == "none"
    assert any("--frames" in note for note in report.notes)
