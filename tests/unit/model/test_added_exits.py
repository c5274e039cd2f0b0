import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.onnx_networks import centred, floats, parsed, saved, small_classifier
from tests.unit.model.conftest import CLASSES, PICTURES, picture
from twinsplit.errors import ModelError, SettingsError, TwinsplitError
from twinsplit.model.added_exits import AddedExits, add_exits, exit_lines, next_version_folder
from twinsplit.model.build import CutSettings, build_model
from twinsplit.model.distillation import HeadSettings
from twinsplit.model.frame_parts import FrameParts
from twinsplit.model.frames import LabelledFrames
from twinsplit.model.manifest import MANIFEST_NAME, check_files, read_manifest
from twinsplit.model.preprocessing import prepare
from twinsplit.model.runtime import SegmentRuntime

QUICK = HeadSettings(hidden=16, views=1, epochs=1, least_steps=200, dropout=0.0, peak_learning_rate=3e-2)
FEW = replace(QUICK, least_steps=2)


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small classifier cut at a1, a2 and a3, neither with exits nor measured; its answers are well mixed."""
    folder = tmp_path_factory.mktemp("plain")
    whole = saved(small_classifier(), folder / "whole.onnx")
    cutting = CutSettings(cuts=["a1", "a2", "a3"])
    build_model(whole, folder / "draft", cutting=cutting, preprocessing=PICTURES, threads=1)
    manifest, _ = read_manifest(folder / "draft")
    centred(whole, [prepare(picture(seed), manifest).tensor for seed in range(40)])
    build_model(whole, folder / "1", cutting=cutting, classes=CLASSES, preprocessing=PICTURES, threads=1)
    return folder / "1"


@pytest.fixture(scope="session")
def by_teacher(plain: Path) -> FrameParts:
    """Frames whose labels are the network's answers."""
    runtime = SegmentRuntime.load(plain)

    def part(count: int, seed: int) -> LabelledFrames:
        pictures = [picture(seed + i) for i in range(count)]
        outputs = [runtime.run_tail(0, prepare(p, runtime.manifest).tensor) for p in pictures]
        return LabelledFrames(pictures, [int(np.argmax(output)) for output in outputs])

    return FrameParts(part(240, 10_000), part(80, 20_000), part(80, 30_000))


@pytest.fixture(scope="session")
def parts(by_teacher: FrameParts) -> FrameParts:
    """The same without labels."""
    return FrameParts(*(LabelledFrames(p.frames) for p in (by_teacher.train, by_teacher.calibration, by_teacher.test)))


@pytest.fixture(scope="session")
def distilled(plain: Path, parts: FrameParts, tmp_path_factory: pytest.TempPathFactory) -> AddedExits:
    """Exits after cuts 1 and 3, taught by the network alone."""
    out = tmp_path_factory.mktemp("distilled") / "2"
    return add_exits(plain, out, parts, after=["a1", 3], head=QUICK, threads=1, provenance={"site": "gate 4"})


@pytest.mark.slow
def test_exits_say_what_the_network_says_more_often_than_its_commonest_answer_would(
    distilled: AddedExits, by_teacher: FrameParts
) -> None:
    commonest = np.bincount(by_teacher.test.labels or ()).max() / len(by_teacher.test)
    first, last = distilled.manifest.exits
    assert first.accuracy > commonest + 0.1
    assert last.accuracy > first.accuracy
    assert distilled.attached.agreements == pytest.approx([first.accuracy, last.accuracy], abs=1e-6)


def test_the_new_folder_is_a_whole_model_of_the_next_version(distilled: AddedExits, plain: Path) -> None:
    manifest, _ = read_manifest(distilled.folder)
    check_files(distilled.folder, manifest.files())
    assert {p.name for p in distilled.folder.iterdir()} == {*manifest.files(), MANIFEST_NAME}
    assert (manifest.version, manifest.name, manifest.classes) == (2, "whole", CLASSES)
    assert manifest.segments == read_manifest(plain)[0].segments
    assert [e.after_segment for e in manifest.exits] == [1, 3]
    assert [e.macs for e in manifest.exits] == [512 * 16 + 16 * 5, 12 * 16 + 16 * 5]
    assert set(manifest.exits[0].transitions) == {1}


def test_an_exit_answers_as_it_was_measured(distilled: AddedExits, by_teacher: FrameParts) -> None:
    runtime = SegmentRuntime.load(distilled.folder)
    right = 0
    for _, frame, label in by_teacher.test:
        tensor = runtime.run_segment(0, prepare(frame, runtime.manifest).tensor)
        right += runtime.run_exit(0, tensor).label_index == label
    assert right / len(by_teacher.test) == pytest.approx(runtime.manifest.exits[0].accuracy, abs=1e-6)


def test_without_labels_every_figure_is_agreement(distilled: AddedExits) -> None:
    manifest = distilled.manifest
    assert manifest.accuracy_basis == "agreement"
    assert manifest.whole_accuracy == 1.0
    assert set(manifest.exits[0].p_whole_right) == {1.0}
    # The model had no figures; now that there are frames, other representations than float32 are offered.
    assert {r.kind for r in manifest.cuts[1].representations} >= {"float32", "uint8"}
    assert exit_lines(distilled)[0].startswith("exit after cut 1: says what the whole network says on ")
    assert exit_lines(distilled)[-1] == "240 frames trained, 80 tested"


def test_it_is_told_where_the_exits_come_from(distilled: AddedExits, plain: Path) -> None:
    digest = hashlib.sha256((plain / MANIFEST_NAME).read_bytes()).hexdigest()
    provenance = distilled.manifest.provenance
    assert provenance["exits_from"] == f"whole version 1, digest {digest}"
    assert provenance["exits_frames"] == "240 to train, 80 to calibrate, 80 to test"
    assert provenance["exits_trained_after"] == "cut 1, cut 3"
    assert provenance["exits_taught_by"] == "the network's answers"
    assert (provenance["exits_seed"], provenance["site"]) == ("1", "gate 4")
    assert provenance["source"] == "whole.onnx", "the model can still be checked against the file it was split from"


@pytest.mark.slow
def test_labels_make_accuracy(plain: Path, by_teacher: FrameParts, tmp_path: Path) -> None:
    added = add_exits(plain, tmp_path / "2", by_teacher, head=FEW, threads=1)
    assert added.manifest.accuracy_basis == "labels"
    assert added.teacher_accuracy == 1.0
    assert added.manifest.provenance["exits_taught_by"] == "the network's answers and labels"
    assert "the whole network is right on 100.0%" in exit_lines(added)[-1]
    assert [e.after_segment for e in added.manifest.exits] == [1, 2]


@pytest.mark.slow
def test_what_was_measured_by_the_same_basis_stays(
    plain: Path, parts: FrameParts, folder: Path, tmp_path: Path
) -> None:
    # `folder` was measured by labels over 40 frames.
    known = read_manifest(folder)[0]
    labels = {name: LabelledFrames(part.frames, [0] * len(part)) for name, part in vars(parts).items()}
    same = add_exits(folder, tmp_path / "same", FrameParts(**labels), head=FEW, is_replacing=True, threads=1)
    assert same.manifest.cuts == known.cuts
    assert same.manifest.whole_accuracy == known.whole_accuracy
    other = add_exits(folder, tmp_path / "other", parts, head=FEW, is_replacing=True, threads=1)
    assert other.manifest.accuracy_basis == "agreement"
    assert other.manifest.cuts != known.cuts
    assert any("measured by labels before and is measured by agreement now" in note for note in other.notes)


@pytest.mark.slow
def test_exits_that_are_there_stay_and_are_calibrated_with_the_new_ones(
    distilled: AddedExits, parts: FrameParts, tmp_path: Path
) -> None:
    before = digests(distilled.folder)
    added = add_exits(distilled.folder, tmp_path / "3", parts, after=["a2"], head=FEW, threads=1)
    assert digests(distilled.folder) == before, "the model they come from is not touched"
    exits = added.manifest.exits
    assert [e.after_segment for e in exits] == [1, 2, 3]
    assert added.manifest.version == 3
    assert set(exits[0].transitions) == {1, 2}
    # The same exits on the same frames: they say the same.
    assert [exits[i].accuracy for i in (0, 2)] == [e.accuracy for e in distilled.manifest.exits]


@pytest.mark.slow
def test_replacing_takes_the_models_own_exits_off(distilled: AddedExits, parts: FrameParts, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="stands after cut 1 already; --replace"):
        add_exits(distilled.folder, tmp_path / "3", parts, after=["a1"], head=FEW, threads=1)
    added = add_exits(distilled.folder, tmp_path / "3", parts, after=["a1"], head=FEW, is_replacing=True, threads=1)
    assert [e.after_segment for e in added.manifest.exits] == [1]
    assert added.manifest.exits[0].sha256 != distilled.manifest.exits[0].sha256


@pytest.mark.slow
def test_one_seed_makes_one_exit(distilled: AddedExits, parts: FrameParts, tmp_path: Path) -> None:
    few = replace(FEW, views=2)
    made = [
        add_exits(
            distilled.folder, tmp_path / str(n), parts, head=replace(few, seed=seed), is_replacing=True, threads=1
        )
        for n, seed in enumerate((1, 1, 2))
    ]
    first, again, other = (added.manifest.exits[0] for added in made)
    assert first == again
    assert first.sha256 != other.sha256


@pytest.mark.slow
def test_doubtful_frames_are_said(plain: Path, by_teacher: FrameParts, tmp_path: Path) -> None:
    shifted = [(label + 1) % 5 for label in by_teacher.train.labels or ()]
    train = LabelledFrames([*by_teacher.train.frames, b"broken"], [*shifted, 0])
    added = add_exits(plain, tmp_path / "2", replace(by_teacher, train=train), head=FEW, threads=1)
    assert any(note.startswith("frame left out: frame 240") for note in added.notes)
    assert any("hardly more than by chance" in note for note in added.notes)
    black = LabelledFrames([np.zeros((16, 16, 3), np.uint8)] * 100)
    added = add_exits(plain, tmp_path / "3", replace(by_teacher, train=black), head=FEW, threads=1)
    assert any("answers the same on every training frame" in note for note in added.notes)


class TestRefusals:
    """Nothing is made, and nothing is left behind."""

    def refused(self, folder: Path, out: Path, parts: FrameParts, kind: type[TwinsplitError], match: str) -> None:
        with pytest.raises(kind, match=match):
            add_exits(folder, out / "2", parts, head=FEW, threads=1)
        assert list(out.iterdir()) == []

    def test_a_model_without_a_cut(self, parts: FrameParts, tmp_path: Path) -> None:
        text = "g (float[1,4] x) => (float[1,4] y) { a = MatMul(x, w) y = Add(a, x) }"
        build_model(saved(parsed(text, {"w": floats(4, 4)}), tmp_path / "n.onnx"), tmp_path / "m", threads=1)
        (tmp_path / "out").mkdir()
        self.refused(tmp_path / "m", tmp_path / "out", parts, ModelError, "n is one segment")

    def test_an_output_that_is_no_classifiers(self, parts: FrameParts, tmp_path: Path) -> None:
        text = "g (float[1,4] x) => (float[1,4] y) { a = Relu(x) b = MatMul(a, w) y = Neg(b) }"
        whole = saved(parsed(text, {"w": floats(4, 4)}), tmp_path / "n.onnx")
        build_model(whole, tmp_path / "m", task="raw", threads=1)
        (tmp_path / "out").mkdir()
        self.refused(tmp_path / "m", tmp_path / "out", parts, SettingsError, "not a classifier's")

    @pytest.mark.parametrize(("label", "match"), [(5, "label 5 is none of the model's 5 classes"), (None, "too few")])
    def test_parts_that_cannot_be_used(
        self, plain: Path, parts: FrameParts, tmp_path: Path, label: int | None, match: str
    ) -> None:
        test = LabelledFrames([picture(1)] * 39) if label is None else LabelledFrames(parts.test.frames, [label] * 80)
        self.refused(plain, tmp_path, replace(parts, test=test), SettingsError, match)

    @pytest.mark.parametrize("taken", ["model", "file"])
    def test_a_folder_that_is_taken(self, plain: Path, parts: FrameParts, tmp_path: Path, taken: str) -> None:
        out = tmp_path / "taken"
        if taken == "file":
            out.write_text("mine")
        else:
            out.mkdir()
            (out / "mine.txt").write_text("mine")
        for place in (out, plain):
            with pytest.raises(SettingsError, match="no model is overwritten; name another folder with --out"):
                add_exits(plain, place, parts, head=FEW, threads=1)
        assert (out if taken == "file" else out / "mine.txt").read_text() == "mine"

    def test_a_damaged_model(self, plain: Path, parts: FrameParts, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        copy.mkdir()
        for file in plain.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        (copy / "segment-1.onnx").write_bytes(b"")
        (tmp_path / "out").mkdir()
        self.refused(copy, tmp_path / "out", parts, ModelError, r"segment-1\.onnx: its digest differs")


@pytest.mark.parametrize(
    ("folder", "expected"),
    [("models/net/1", "models/net/2"), ("models/net", "models/net-2"), ("net", "net-2"), ("7", "2")],
)
def test_a_new_version_goes_beside_the_old_one(folder: str, expected: str) -> None:
    assert next_version_folder(Path(folder), 2) == Path(expected)
