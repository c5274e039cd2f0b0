from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from tests.onnx_networks import floats, he, parsed, saved, small_classifier, small_exit
from tests.unit.model.conftest import CLASSES, PICTURES, labelled, picture
from twinsplit.errors import (
    ManifestError,
    ModelFileError,
    SettingsError,
    StorageError,
    TwinsplitError,
    UnsupportedModelError,
)
from twinsplit.model.build import CutSettings, build_model, name_of
from twinsplit.model.manifest import MANIFEST_NAME, NO_EVIDENCE, Preprocessing, check_files, read_manifest
from twinsplit.model.runtime import SegmentRuntime

CUTTING = CutSettings(cuts=["a1", "a2"])


def same_as_whole(whole: Path, folder: Path) -> None:
    runtime = SegmentRuntime.load(folder)
    entry, output = runtime.manifest.cuts[0].tensor, runtime.manifest.cuts[-1].tensor
    session = onnxruntime.InferenceSession(str(whole), providers=["CPUExecutionProvider"])
    for seed in range(3):
        kind = np.dtype(entry.dtype)
        values = floats(*entry.shape, seed=seed) if kind.kind == "f" else np.full(entry.shape, seed)
        tensor = values.astype(kind)
        (expected,) = session.run([output.name], {entry.name: tensor})
        found = runtime.run_tail(0, tensor)
        assert found is not None
        assert found.shape == output.shape
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_the_manifest_tells_the_whole_folder(folder: Path) -> None:
    manifest, _ = read_manifest(folder)
    check_files(folder, manifest.files())
    assert {p.name for p in folder.iterdir()} == {*manifest.files(), MANIFEST_NAME}
    assert [c.tensor.name for c in manifest.cuts] == ["image", "a1", "a2", "a3", "logits"]
    assert [c.tensor.shape for c in manifest.cuts][1] == (1, 8, 8, 8)
    assert [s.macs for s in manifest.segments] == [8 * 64 * 27, 8 * 64 * 72, 12 * 64 * 36, 60]
    assert manifest.classes == CLASSES
    assert manifest.provenance["source"] == "small.onnx"
    assert [e.after_segment for e in manifest.exits] == [1, 2]
    assert [e.macs for e in manifest.exits] == [160, 160]


def test_exits_are_calibrated_on_frames_of_their_own(folder: Path) -> None:
    manifest, _ = read_manifest(folder)
    for e in manifest.exits:
        # The labels are made up: nothing is right more often than by chance, on either split.
        assert e.accuracy < 0.5
        assert max(e.p_right) < 0.6
        assert len(e.p_right) == 8
    assert set(manifest.exits[0].transitions) == {1}


def test_a_network_without_exits_or_labels_has_cuts_only(whole: Path, tmp_path: Path) -> None:
    manifest = build_model(whole, tmp_path / "out", cutting=CUTTING, threads=1).manifest
    assert manifest.exits == ()
    assert manifest.evidence_count == 1
    assert manifest.p_whole_right(NO_EVIDENCE) == 1.0
    same_as_whole(whole, tmp_path / "out")


def test_a_fixed_batch_of_several_frames_is_named(tmp_path: Path) -> None:
    text = "g (float[3,4] x) => (float[3,5] y) { a = Relu(x) y = MatMul(a, w) }"
    report = build_model(saved(parsed(text, {"w": floats(4, 5)}), tmp_path / "n.onnx"), tmp_path / "out", threads=1)
    assert any("every task is 3 frames" in note for note in report.notes)


def test_a_cut_that_still_shows_the_frame_is_named(tmp_path: Path) -> None:
    text = """
    g (uint8[1,8,8,3] x) => (float[1,10] y) {
        f = Cast<to=1>(x)
        t = Transpose<perm=[0,3,1,2]>(f)
        c = Conv(t, w)
        m = GlobalAveragePool(c)
        y = Flatten(m)
    }
    """
    whole = saved(parsed(text, {"w": he(10, 3, 3, 3)}), tmp_path / "bytes.onnx")
    report = build_model(whole, tmp_path / "out", cutting=CutSettings(cuts=["t", "c"]))
    (note,) = [note for note in report.notes if "tensors-only" in note]
    assert note.startswith("nothing is multiplied before cut 1 ('t')")
    assert report.manifest.first_sent_cut(is_tensors_only=True) == 2
    assert report.manifest.first_sent_cut(is_tensors_only=False) == 0


def test_an_output_that_is_no_classifiers_is_raw(tmp_path: Path) -> None:
    text = "g (float[1,3,8,8] x) => (float[1,2,8,8] y) { a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a) y = Conv(b, v) }"
    whole = saved(parsed(text, {"w": floats(4, 3, 3, 3), "v": floats(2, 4, 1, 1)}), tmp_path / "n.onnx")
    report = build_model(whole, tmp_path / "out", threads=1)
    assert report.manifest.task == "raw"
    assert any("raw tensor" in note for note in report.notes)
    same_as_whole(whole, tmp_path / "out")


def test_the_task_can_be_said(whole: Path, tmp_path: Path) -> None:
    assert build_model(whole, tmp_path / "out", task="raw", threads=1).manifest.task == "raw"
    text = "g (float[1,4] x) => (float[1,2,2] y) { a = Relu(x) y = Reshape(a, s) }"
    other = saved(parsed(text, {"s": np.array([1, 2, 2])}), tmp_path / "n.onnx")
    with pytest.raises(UnsupportedModelError, match="a classifier's is"):
        build_model(other, tmp_path / "other", task="classification", threads=1)


@pytest.mark.parametrize(
    ("last", "activation"),
    [("y = Softmax(c)", "probabilities"), ("d = Softmax(c) y = Flatten(d)", "probabilities"), ("y = Neg(c)", "logits")],
)
def test_a_softmax_at_the_end_is_seen(tmp_path: Path, last: str, activation: str) -> None:
    text = f"g (float[1,4] x) => (float[1,4] y) {{ a = MatMul(x, w) b = Relu(a) c = MatMul(b, w) {last} }}"
    whole = saved(parsed(text, {"w": floats(4, 4)}), tmp_path / "n.onnx")
    assert build_model(whole, tmp_path / "out", threads=1).manifest.output_activation == activation


@pytest.mark.parametrize(
    ("last", "activation"),
    [
        ("p = Softmax(z) q = QuantizeLinear(p, s, o)", "probabilities"),
        ("q = QuantizeLinear(z, s, o)", "logits"),
        ("r = QuantizeLinear(z, s, o) q = com.microsoft.QLinearSoftmax<opset=17>(r, s, o, s, o)", "probabilities"),
        ("r = QuantizeLinear(z, s, o) q = com.microsoft.QLinearSigmoid(r, s, o, s, o)", "probabilities"),
    ],
)
def test_a_softmax_in_whole_numbers_is_seen(tmp_path: Path, last: str, activation: str) -> None:
    text = f"g (float[1,4] x) => (float[1,5] y) {{ z = MatMul(x, w) {last} y = DequantizeLinear(q, s, o) }}"
    weights = {"w": floats(4, 5), "s": np.float32(1 / 255), "o": np.uint8(0)}
    whole = saved(parsed(text, weights), tmp_path / "n.onnx")
    assert build_model(whole, tmp_path / "out", threads=1).manifest.output_activation == activation


def test_a_network_that_cannot_be_cut_is_one_segment(tmp_path: Path) -> None:
    text = "g (float[1,4] x) => (float[1,4] y) { a = MatMul(x, w) y = Add(a, x) }"
    whole = saved(parsed(text, {"w": floats(4, 4)}), tmp_path / "n.onnx")
    report = build_model(whole, tmp_path / "out", threads=1)
    assert report.manifest.segment_count == 1
    assert any("one segment" in note for note in report.notes)
    same_as_whole(whole, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        (
            "g (int64[1,4] x) => (float[1,3] y) { e = Gather(t, x) f = Flatten(e) r = MatMul(f, v) y = MatMul(r, w) }",
            {"t": floats(9, 2), "v": floats(8, 8), "w": floats(8, 3)},
        ),
        (
            "g (float16[1,4] x) => (float16[1,4] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }",
            {"w": floats(4, 4).astype(np.float16)},
        ),
        (
            "g (double[1,4] x) => (double[1,4] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }",
            {"w": floats(4, 4).astype(np.float64)},
        ),
        (
            # Shared weights, a constant derived from them, and a shape that is read before the cut and used after it.
            """g (float[1,4,4] x) => (float[1,16] y) {
                s = Shape(x)
                t = Transpose(w)
                a = MatMul(x, t)
                b = Relu(a)
                c = MatMul(b, t)
                d = Flatten(c)
                e = Reshape(d, s)
                f = MatMul(e, w)
                y = Flatten(f)
            }""",
            {"w": floats(4, 4)},
        ),
    ],
    ids=["integers in", "float16", "float64", "constants"],
)
def test_segments_of_unusual_networks_give_what_the_whole_gives(
    tmp_path: Path, text: str, weights: dict[str, Any]
) -> None:
    whole = saved(parsed(text, weights), tmp_path / "n.onnx")
    manifest = build_model(whole, tmp_path / "out", threads=1).manifest
    assert manifest.segment_count > 1
    same_as_whole(whole, tmp_path / "out")


def test_an_unused_input_need_not_be_fed(tmp_path: Path) -> None:
    text = "g (float[1,4] x, float[1,N] info) => (float[1,4] y) { a = MatMul(x, w) y = Relu(a) }"
    whole = saved(parsed(text, {"w": floats(4, 4)}), tmp_path / "n.onnx")
    report = build_model(whole, tmp_path / "out", threads=1)
    assert "left out unused inputs: info" in report.notes


class TestExternalData:
    def build(self, folder: Path, **changes: Any) -> Path:
        model = small_classifier()
        whole = folder / "whole.onnx"
        onnx.save(model, whole, save_as_external_data=True, location="weights.bin", size_threshold=0)
        settings = replace(CUTTING, external_over_bytes=2200, **changes)
        build_model(whole, folder / "out", cutting=settings, threads=1)
        return whole

    @pytest.mark.parametrize("inline_bytes", [64, 10**6])
    def test_large_segments_get_their_weights_beside_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline_bytes: int
    ) -> None:
        # With the lower limit the network's own external data is copied from file to file.
        monkeypatch.setattr("twinsplit.model.graph.INLINE_BYTES", inline_bytes)
        whole = self.build(tmp_path)
        manifest, _ = read_manifest(tmp_path / "out")
        assert [set(s.external_files) for s in manifest.segments] == [set(), {"segment-1.data"}, set()]
        check_files(tmp_path / "out", manifest.files())
        same_as_whole(whole, tmp_path / "out")

    def test_weights_inside_of_nodes_are_read_in(self, tmp_path: Path) -> None:
        model = parsed(
            """
            g (float[1,3,8,8] x) => (float[1,5] y) {
                c = Conv(x, w)
                r = Relu(c)
                m = ReduceMean<keepdims=0>(r)
                is_more = Greater(m, limit)
                b = If(is_more) <
                    then_branch = yes () => (scaled) { scaled = Mul(r, s) },
                    else_branch = no () => (same) { same = Identity(r) }
                >
                f = GlobalAveragePool(b)
                y = Flatten(f)
            }
            """,
            {"limit": np.float32(-1.0)},
        )
        large = numpy_helper.from_array(floats(5, 6, 6, seed=1), "s")
        next(n for n in model.graph.node if n.op_type == "If").attribute[0].g.initializer.append(large)
        weights = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(he(5, 3, 3, 3), "w"))
        model.graph.node.insert(0, weights)
        whole = tmp_path / "whole.onnx"
        onnx.save(model, whole, save_as_external_data=True, location="w.bin", size_threshold=0, convert_attribute=True)
        build_model(whole, tmp_path / "out", cutting=CutSettings(cuts=["r"]), threads=1)
        same_as_whole(whole, tmp_path / "out")

    def test_a_folder_that_was_moved_still_runs(self, tmp_path: Path) -> None:
        whole = self.build(tmp_path)
        (tmp_path / "out").rename(tmp_path / "elsewhere")
        same_as_whole(whole, tmp_path / "elsewhere")

    @pytest.mark.parametrize("damage", [b"", b"x" * 100])
    def test_damaged_weights_are_refused(self, tmp_path: Path, damage: bytes) -> None:
        self.build(tmp_path)
        (tmp_path / "out" / "segment-1.data").write_bytes(damage)
        with pytest.raises(ModelFileError, match=r"segment-1\.data: its digest differs"):
            SegmentRuntime.load(tmp_path / "out")


class TestRefusals:
    def refused(self, whole: Path, out: Path, kind: type[TwinsplitError], match: str, **settings: Any) -> None:
        with pytest.raises(kind, match=match):
            build_model(whole, out, threads=1, **settings)
        # Nothing is left behind, neither in place nor beside it.
        assert not out.exists()
        assert not out.parent.exists() or list(out.parent.iterdir()) == []

    @pytest.mark.parametrize(
        ("kind", "match", "settings"),
        [
            (UnsupportedModelError, "no tensor or node", {"cutting": CutSettings(cuts=["nowhere"])}),
            (UnsupportedModelError, "no tensor or node", {"cutting": CutSettings(never=["nowhere"])}),
            (SettingsError, "4 class names for 5 outputs", {"classes": ["a", "b", "c", "d"]}),
            (SettingsError, "more than 255 characters", {"classes": ["a", "b", "c", "d", "e" * 256]}),
            (SettingsError, "cannot hold 9 of 3", {"cutting": CUTTING, "device_segments": 9}),
            (ManifestError, "need", {"preprocessing": Preprocessing(kind="image", layout="nhwc")}),
            (SettingsError, "give frames", {"exits": {1: Path("exit.onnx")}}),
        ],
    )
    def test_what_contradicts_itself(
        self, whole: Path, tmp_path: Path, kind: type[TwinsplitError], match: str, settings: Mapping[str, Any]
    ) -> None:
        self.refused(whole, tmp_path / "models" / "out", kind, match, **settings)

    @pytest.mark.parametrize(
        ("key", "exit_model", "kind", "match"),
        [
            (1, small_exit(channels=4), UnsupportedModelError, "reads float32 .1, 4, 8, 8"),
            (3, small_exit(), SettingsError, "inner cuts are a1, a2"),
            (0, small_exit(), SettingsError, "inner cuts are a1, a2"),
            ("a3", small_exit(), SettingsError, "inner cuts are a1, a2"),
        ],
    )
    def test_an_exit_that_does_not_fit(
        self,
        whole: Path,
        tmp_path: Path,
        key: int | str,
        exit_model: onnx.ModelProto,
        kind: type[TwinsplitError],
        match: str,
    ) -> None:
        file = saved(exit_model, tmp_path / "exit.onnx")
        frames = labelled(2)
        self.refused(
            whole,
            tmp_path / "models" / "out",
            kind,
            match,
            cutting=CUTTING,
            exits={key: file},
            preprocessing=PICTURES,
            test=frames,
            calibration=frames,
        )

    def test_random_operators(self, tmp_path: Path) -> None:
        text = "g (float[1,4] x) => (float[1,4] y) { a = Relu(x) n = RandomNormalLike(a) b = Add(a, n) y = Neg(b) }"
        whole = saved(parsed(text), tmp_path / "n.onnx")
        self.refused(whole, tmp_path / "models" / "out", UnsupportedModelError, "random operators")

    def test_a_full_disk(self, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(self: Path, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        self.refused(whole, tmp_path / "models" / "out", StorageError, "No space left on device; free some space")


class TestReplacing:
    def test_a_folder_that_holds_something_is_not_touched(self, whole: Path, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(SettingsError, match="--force"):
            build_model(whole, tmp_path, threads=1)
        assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]

    def test_a_model_takes_the_place_of_another_and_leaves_other_files(self, whole: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        build_model(whole, out, cutting=CUTTING, threads=1)
        (out / "mine.txt").write_text("mine")
        build_model(whole, out, cutting=CutSettings(cuts=["a2"]), is_replacing=True, threads=1)
        assert {p.name for p in out.iterdir()} == {"segment-0.onnx", "segment-1.onnx", "manifest.json", "mine.txt"}
        same_as_whole(whole, out)

    def test_a_build_that_fails_leaves_the_old_model(self, whole: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        build_model(whole, out, cutting=CUTTING, threads=1)
        before = {p.name: p.read_bytes() for p in out.iterdir()}
        with pytest.raises(SettingsError):
            build_model(whole, out, classes=["one"], is_replacing=True, threads=1)
        assert {p.name: p.read_bytes() for p in out.iterdir()} == before

    def test_a_file_is_no_folder(self, whole: Path, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("")
        with pytest.raises(SettingsError, match="is a file"):
            build_model(whole, tmp_path / "out", is_replacing=True, threads=1)


@pytest.mark.parametrize(
    ("file", "name"),
    [("resnet50.onnx", "resnet50"), ("my net (v2).onnx", "my-net-v2"), ("-.onnx", "model"), ("日本.onnx", "model")],
)
def test_a_name_is_made_from_the_files(file: str, name: str) -> None:
    assert name_of(Path(file)) == name


def test_frames_of_any_size_are_measured(whole: Path, tmp_path: Path) -> None:
    frames = labelled(2)
    odd = type(frames)([picture(1, 40, 30), picture(2, 9, 90)], [0, 1])
    manifest = build_model(
        whole, tmp_path / "out", cutting=CUTTING, preprocessing=PICTURES, test=odd, threads=1
    ).manifest
    assert manifest.provenance["accuracy_frames"] == "2"


def test_segments_may_take_several_tensors_at_once(whole: Path, tmp_path: Path) -> None:
    report = build_model(whole, tmp_path / "out", cutting=replace(CUTTING, is_batch=True), threads=1)
    assert not any("one tensor at a time" in note for note in report.notes)
    same_as_whole(whole, tmp_path / "out")
    runtime = SegmentRuntime.load(tmp_path / "out")
    rng = np.random.default_rng(1)
    tensors = [rng.standard_normal(report.manifest.cuts[0].tensor.shape).astype(np.float32) for _ in range(3)]
    together = runtime.run_tail(0, np.concatenate(tensors))
    alone = [runtime.run_tail(0, tensor) for tensor in tensors]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-4)
    closed = build_model(whole, tmp_path / "closed", cutting=CUTTING, threads=1)
    assert not SegmentRuntime.load(closed.folder).takes_batches(0), "nothing changes without asking"


def test_a_segment_that_mixes_its_tensors_is_named(tmp_path: Path) -> None:
    text = "g (float[1,4] x) => (float[1,4] y) { s = ReduceSum<keepdims=1>(x, axes) y = Add(x, s) }"
    whole = saved(parsed(text, {"axes": np.array([0], np.int64)}), tmp_path / "n.onnx")
    report = build_model(whole, tmp_path / "out", cutting=CutSettings(is_batch=True), task="raw", threads=1)
    assert any("segment 0 takes one tensor at a time" in note for note in report.notes)
