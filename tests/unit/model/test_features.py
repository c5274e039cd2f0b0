from pathlib import Path

import numpy as np
import pytest

from tests.onnx_networks import floats, parsed, saved
from tests.unit.model.conftest import labelled, picture
from twinsplit.errors import FrameError, ModelError, StorageError
from twinsplit.model.build import CutSettings, build_model
from twinsplit.model.exit_head import write_pooling
from twinsplit.model.features import FrozenFeatures, run_frozen
from twinsplit.model.frames import LabelledFrames
from twinsplit.model.preprocessing import prepare
from twinsplit.model.runtime import SegmentRuntime, Session, open_session


@pytest.fixture(scope="session")
def runtime(folder: Path) -> SegmentRuntime:
    return SegmentRuntime.load(folder)


@pytest.fixture(scope="session")
def poolings(runtime: SegmentRuntime, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Session]:
    """Poolings of cuts 1 and 3."""
    folder = tmp_path_factory.mktemp("poolings")
    for cut in (1, 3):
        write_pooling(runtime.manifest.cuts[cut].tensor, folder / f"{cut}.onnx")
    return {cut: open_session(folder / f"{cut}.onnx") for cut in (1, 3)}


def same(first: FrozenFeatures, second: FrozenFeatures) -> bool:
    return np.array_equal(first.outputs, second.outputs) and all(
        np.array_equal(first.by_cut[cut], second.by_cut[cut]) for cut in first.by_cut
    )


def test_rows_are_what_the_network_makes_of_each_frame(
    runtime: SegmentRuntime, poolings: dict[int, Session], tmp_path: Path
) -> None:
    frames = labelled(4)
    found = run_frozen(runtime, poolings, frames, folder=tmp_path)
    assert set(found.by_cut) == {1, 3}
    assert found.labels is not None
    assert found.labels.tolist() == list(frames.labels or ())
    for row, (_, frame, _) in enumerate(frames):
        tensor = prepare(frame, runtime.manifest).tensor
        np.testing.assert_array_equal(found.outputs[row], runtime.run_tail(0, tensor)[0])
        tensor = runtime.run_segment(0, tensor)
        np.testing.assert_array_equal(found.by_cut[1][row], poolings[1].run(tensor)[0])
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_into_memory_lies_in_files(
    runtime: SegmentRuntime, poolings: dict[int, Session], tmp_path: Path
) -> None:
    in_memory, in_files = (
        run_frozen(runtime, poolings, labelled(4), folder=tmp_path, in_memory_bytes=size) for size in (10**9, 100)
    )
    assert isinstance(in_files.by_cut[1], np.memmap)
    assert {p.name for p in tmp_path.iterdir()} == {"features-1", "features-3"}
    assert same(in_memory, in_files)


def test_a_full_disk_is_named_before_it_is_written_to(
    runtime: SegmentRuntime, poolings: dict[int, Session], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[int] = []

    def full(_file: int, _start: int, size: int) -> None:
        wanted.append(size)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(StorageError, match=r"No space left on device; .* use fewer frames"):
        run_frozen(runtime, poolings, labelled(2), folder=tmp_path, in_memory_bytes=0)
    assert wanted == [2 * 512 * 4]


def test_views_follow_their_frame_and_are_drawn_by_the_seed(
    runtime: SegmentRuntime, poolings: dict[int, Session], tmp_path: Path
) -> None:
    one = run_frozen(runtime, poolings, labelled(3), folder=tmp_path)
    first, again, other = (
        run_frozen(runtime, poolings, labelled(3), folder=tmp_path, views=4, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.outputs[::4], one.outputs)
    assert (len(first.outputs), first.frame_count, one.frame_count) == (12, 3, 3)
    assert first.labels is not None
    assert one.labels is not None
    assert first.labels.tolist() == np.repeat(one.labels, 4).tolist()
    assert len(np.unique(first.by_cut[1], axis=0)) == 12
    assert same(first, again)
    assert not same(first, other)


def test_the_teacher_is_judged_by_frames_as_they_are() -> None:
    outputs = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 1]]
    found = FrozenFeatures({}, outputs, np.array([0, 0, 2, 2, 0, 0]), views=2, skipped=())
    assert found.teacher_accuracy == pytest.approx(2 / 3)
    assert FrozenFeatures({}, outputs, None, views=2, skipped=()).teacher_accuracy is None


def test_frames_that_cannot_be_read_are_left_out_and_named(
    runtime: SegmentRuntime, poolings: dict[int, Session], tmp_path: Path
) -> None:
    frames = LabelledFrames([picture(1), b"broken", picture(2)], [0, 1, 2], ["a.png", "b.png", "c.png"])
    found = run_frozen(runtime, poolings, frames, folder=tmp_path)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 2]
    assert len(found.by_cut[1]) == 2
    assert found.skipped[0].startswith("b.png: frame")
    with pytest.raises(FrameError, match="none of 1 frames can be read"):
        run_frozen(runtime, poolings, LabelledFrames([b"broken"]), folder=tmp_path)


def test_probabilities_teach_by_their_logarithms(tmp_path: Path) -> None:
    text = "g (float[1,4] x) => (float[1,4] y) { a = MatMul(x, w) b = Relu(a) c = MatMul(b, w) y = Softmax(c) }"
    whole = saved(parsed(text, {"w": floats(4, 4)}), tmp_path / "n.onnx")
    build_model(whole, tmp_path / "model", cutting=CutSettings(cuts=["b"]), threads=1)
    runtime = SegmentRuntime.load(tmp_path / "model")
    frame = floats(1, 4)
    found = run_frozen(runtime, {}, LabelledFrames([frame]), folder=tmp_path, views=3)
    assert found.views == 1, "a tensor is no picture that could be mirrored"
    np.testing.assert_allclose(np.exp(found.outputs[0]), runtime.run_tail(0, frame)[0], rtol=1e-4)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    text = "g (float[1,4] x) => (float[1,4] y) { a = MatMul(x, w) b = Log(a) y = MatMul(b, w) }"
    whole = saved(parsed(text, {"w": np.eye(4, dtype=np.float32)}), tmp_path / "n.onnx")
    build_model(whole, tmp_path / "model", cutting=CutSettings(cuts=["b"]), threads=1)
    frames = LabelledFrames([np.full((1, 4), value, np.float32) for value in (1.0, 0.0)], names=["good", "bad"])
    with pytest.raises(ModelError, match=r"^bad: .* not finite"):
        run_frozen(SegmentRuntime.load(tmp_path / "model"), {}, frames, folder=tmp_path)


def test_progress_is_told_after_every_frame(
    runtime: SegmentRuntime, poolings: dict[int, Session], tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    run_frozen(
        runtime, poolings, labelled(3), folder=tmp_path, views=2, progress=lambda _what, *step: told.append(step)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
