import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.unit.model.conftest import CLASSES, picture
from twinsplit.errors import ComputeError, ManifestError, ModelError, ModelFileError, ProviderError
from twinsplit.model.manifest import MANIFEST_NAME, manifest_digest
from twinsplit.model.preprocessing import prepare
from twinsplit.model.runtime import SegmentRuntime, provider_named, read_answer, softmax


def test_segments_in_a_row_give_what_the_whole_network_gives(folder: Path, whole: Path) -> None:
    runtime = SegmentRuntime.load(folder)
    session = onnxruntime.InferenceSession(str(whole), providers=["CPUExecutionProvider"])
    for seed in range(10):
        tensor = prepare(picture(seed), runtime.manifest).tensor
        (expected,) = session.run(None, {"image": tensor})
        output = runtime.run_tail(0, tensor)
        assert output is not None
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
        answer = runtime.answer(output)
        assert answer.label_index == int(expected.argmax())
        assert answer.label == CLASSES[int(expected.argmax())]
        assert answer.raw_confidence == pytest.approx(softmax(expected).max(), abs=1e-4)


def test_a_tail_from_any_cut_gives_the_same_output(folder: Path) -> None:
    runtime = SegmentRuntime.load(folder)
    tensor = prepare(picture(1), runtime.manifest).tensor
    expected = runtime.run_tail(0, tensor)
    for cut in range(runtime.manifest.segment_count):
        np.testing.assert_array_equal(runtime.run_tail(cut, tensor), expected)
        tensor = runtime.run_segment(cut, tensor)
    np.testing.assert_array_equal(runtime.run_tail(runtime.manifest.segment_count, tensor), expected)


def test_a_tail_nobody_waits_for_ends_at_the_next_segment(folder: Path) -> None:
    runtime = SegmentRuntime.load(folder)
    asked = []

    def is_wanted() -> bool:
        asked.append(None)
        return len(asked) < 3

    assert runtime.run_tail(0, prepare(picture(1), runtime.manifest).tensor, is_wanted) is None
    assert len(asked) == 3


def test_an_exit_answers_with_its_calibrated_probability(folder: Path) -> None:
    runtime = SegmentRuntime.load(folder)
    seen = set()
    for seed in range(20):
        tensor = runtime.run_segment(0, prepare(picture(seed), runtime.manifest).tensor)
        answer = runtime.run_exit(0, tensor)
        assert answer is not None
        place = runtime.manifest.exits[0].bin_of(answer.raw_confidence)
        assert answer.evidence == 1 + place
        assert answer.p_right == runtime.manifest.exits[0].p_right[place]
        assert 0 <= answer.label_index < 5
        seen.add(answer.evidence)
    assert len(seen) > 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_exit_whose_output_is_not_finite_answers_nothing(folder: Path, bad: float) -> None:
    runtime = SegmentRuntime.load(folder)
    boundary = runtime.run_segment(0, prepare(picture(1), runtime.manifest).tensor)
    assert runtime.run_exit(0, np.full_like(boundary, bad)) is None


@pytest.mark.parametrize("activation", ["logits", "probabilities"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_output_without_a_largest_element_is_no_answer(folder: Path, activation: str, bad: float) -> None:
    manifest = SegmentRuntime.load(folder).manifest.model_copy(update={"output_activation": activation})
    with pytest.raises(ComputeError, match=f"has {bad} as its largest element"):
        read_answer(manifest, np.array([[0.1, bad, 0.7, 0.0, 0.0]], np.float32))


def test_a_class_that_is_masked_out_hinders_no_answer(folder: Path) -> None:
    answer = SegmentRuntime.load(folder).answer(np.array([[0.1, -np.inf, 0.7, 0.0, 0.0]], np.float32))
    assert answer.label == CLASSES[2]


def test_a_device_may_hold_the_head_only(folder: Path) -> None:
    runtime = SegmentRuntime.load(folder, segments=range(1))
    tensor = prepare(picture(1), runtime.manifest).tensor
    boundary = runtime.run_segment(0, tensor)
    assert runtime.run_exit(0, boundary) is not None
    with pytest.raises(ComputeError, match="not loaded here"):
        runtime.run_segment(1, boundary)
    with pytest.raises(ComputeError, match="exit 1 is not loaded"):
        runtime.run_exit(1, boundary)


def test_only_files_that_are_needed_are_read(copied: Callable[[], Path]) -> None:
    folder = copied()
    (folder / "segment-3.onnx").unlink()
    (folder / "exit-0.onnx").unlink()
    assert SegmentRuntime.load(folder, segments=range(2), with_exits=False).segments == range(2)
    with pytest.raises(ModelFileError, match="exit-0"):
        SegmentRuntime.load(folder, segments=range(2))


def test_the_digest_is_that_of_the_manifest(folder: Path) -> None:
    runtime = SegmentRuntime.load(folder)
    assert runtime.manifest_bytes == (folder / MANIFEST_NAME).read_bytes()
    assert runtime.digest == manifest_digest(runtime.manifest_bytes)


@pytest.mark.parametrize("tensor", [np.zeros((1, 3, 16, 15), np.float32), np.zeros((1, 3, 16, 16), np.float64)])
def test_a_tensor_that_does_not_fit_is_a_named_error(folder: Path, tensor: np.ndarray) -> None:
    runtime = SegmentRuntime.load(folder)
    with pytest.raises(ComputeError, match=r"segment-0\.onnx"):
        runtime.run_segment(0, tensor)


def test_a_damaged_segment_is_refused(copied: Callable[[], Path]) -> None:
    folder = copied()
    damaged = bytearray((folder / "segment-1.onnx").read_bytes())
    damaged[-1] ^= 1
    (folder / "segment-1.onnx").write_bytes(damaged)
    with pytest.raises(ModelFileError, match="digest differs"):
        SegmentRuntime.load(folder)


def test_a_segment_of_another_model_is_refused(copied: Callable[[], Path]) -> None:
    folder = copied()
    (folder / "segment-1.onnx").write_bytes((folder / "segment-0.onnx").read_bytes())
    with pytest.raises(ModelFileError, match="digest differs"):
        SegmentRuntime.load(folder)


NO_NETWORK = b"\x08\x07"
"""A model with a version and nothing else."""


def test_a_file_that_is_no_network_is_refused_even_with_the_right_digest(copied: Callable[[], Path]) -> None:
    folder = copied()
    document = json.loads((folder / MANIFEST_NAME).read_text())
    (folder / "segment-0.onnx").write_bytes(NO_NETWORK)
    document["segments"][0]["sha256"] = manifest_digest(NO_NETWORK)
    (folder / MANIFEST_NAME).write_text(json.dumps(document))
    with pytest.raises(ComputeError, match=r"segment-0\.onnx: ONNX Runtime cannot load it"):
        SegmentRuntime.load(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe"])
def test_a_corrupt_manifest_is_refused(copied: Callable[[], Path], content: bytes) -> None:
    folder = copied()
    (folder / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(ManifestError):
        SegmentRuntime.load(folder)


def test_a_manifest_of_another_version_is_refused_with_the_cure(copied: Callable[[], Path]) -> None:
    folder = copied()
    document = json.loads((folder / MANIFEST_NAME).read_text())
    document["schema_version"] = 99
    (folder / MANIFEST_NAME).write_text(json.dumps(document))
    with pytest.raises(ManifestError, match="split the model again"):
        SegmentRuntime.load(folder)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"manifest\.json"):
        SegmentRuntime.load(tmp_path)


def test_segments_that_the_model_does_not_have_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="the model has 4"):
        SegmentRuntime.load(folder, segments=range(2, 6))


@pytest.mark.parametrize("name", ["cpu", "CPU", "CPUExecutionProvider"])
def test_the_provider_in_use_is_named(folder: Path, name: str) -> None:
    assert SegmentRuntime.load(folder, provider=name).provider == "CPUExecutionProvider"


@pytest.mark.parametrize("name", ["cuda", "CUDAExecutionProvider", "warp-drive"])
def test_a_provider_that_is_not_there_is_an_error_with_the_cure(folder: Path, name: str) -> None:
    with pytest.raises(ProviderError, match="--provider cpu"):
        SegmentRuntime.load(folder, provider=name)


def test_a_provider_that_falls_back_to_the_cpu_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    assert provider_named("cuda") == "CUDAExecutionProvider"
    # This build knows no CUDA: ONNX Runtime itself would quietly run on the CPU or fail, and either must be told.
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(ProviderError, match="does not load"):
        SegmentRuntime.load(folder, provider="cuda")


def test_softmax_of_large_logits_is_finite() -> None:
    np.testing.assert_allclose(softmax(np.array([[1e4, 1e4]], np.float32)), [0.5, 0.5])


def test_a_raw_output_is_passed_on(folder: Path) -> None:
    manifest = SegmentRuntime.load(folder).manifest.model_copy(update={"task": "raw"})
    output = np.ones((1, 5), np.float32)
    answer = read_answer(manifest, output)
    assert answer.output is output
    assert (answer.label_index, answer.label, answer.raw_confidence) == (None, None, None)


def test_a_class_without_a_name_is_called_by_its_number(folder: Path) -> None:
    manifest = SegmentRuntime.load(folder).manifest.model_copy(
        update={"classes": (), "output_activation": "probabilities"}
    )
    answer = read_answer(manifest, np.array([[0.1, 0.2, 0.7]], np.float32))
    assert (answer.label, answer.raw_confidence) == ("2", pytest.approx(0.7))


def _shape(document: Any) -> None:
    document["cuts"][1]["tensor"]["shape"] = [1, 99]


def _name(document: Any) -> None:
    document["cuts"][1]["tensor"]["name"] = "another"


def _kind(document: Any) -> None:
    document["cuts"][1]["tensor"]["dtype"] = "float64"


@pytest.mark.parametrize("change", [_shape, _name, _kind])
def test_a_manifest_that_is_not_that_of_its_segments_is_refused(
    copied: Callable[[], Path], change: Callable[[Any], None]
) -> None:
    folder = copied()
    document = json.loads((folder / MANIFEST_NAME).read_text())
    change(document)
    (folder / MANIFEST_NAME).write_text(json.dumps(document))
    with pytest.raises(ManifestError, match=r"cut 1 is .* but segment-0\.onnx gives"):
        SegmentRuntime.load(folder)
