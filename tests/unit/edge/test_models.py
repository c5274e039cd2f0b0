from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge.models import HeldModel, held_model, load_models, model_folders
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.clock import SystemClock
from twinsplit.errors import BadMessageError, ManifestError, ModelError, ModelFileError, ProviderError, WrongDigestError
from twinsplit.model.profile import Profile
from twinsplit.model.runtime import PROVIDERS, SegmentRuntime


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_tiny_model(root / "b" / "1")
    write_tiny_model(root / "a", name="flat", seed=1)
    (root / "notes").mkdir()
    return root


@pytest.fixture(scope="module")
def models(root: Path) -> dict[str, HeldModel]:
    return load_models(root, clock=SystemClock())


def test_a_model_folder_is_found_as_itself_and_below_a_root(root: Path) -> None:
    assert model_folders(root / "a") == [root / "a"]
    assert model_folders(root / "b") == [root / "b" / "1"]
    assert model_folders(root) == [root / "a", root / "b" / "1"]


def test_a_folder_without_models_is_refused_with_the_cure(root: Path) -> None:
    with pytest.raises(ModelError, match="holds no model; name a folder"):
        model_folders(root / "notes")
    with pytest.raises(ModelError, match="holds no model"):
        model_folders(root / "not-there")


def test_every_model_is_measured_with_decoding_included(models: dict[str, HeldModel]) -> None:
    assert {model.manifest.name for model in models.values()} == {"tiny", "flat"}
    for digest, model in models.items():
        assert model.digest == digest
        assert len(model.tail_s) == model.manifest.segment_count
        assert all(time_s > 0.0 for time_s in model.segment_s + model.decode_s)
        assert model.tail_s[0] == pytest.approx(sum(model.segment_s) + model.decode_s[0])


def test_the_slowdown_counts_for_segments_and_not_for_decoding(models: dict[str, HeldModel]) -> None:
    model = next(iter(models.values()))
    slowed = HeldModel(model.manifest, model.digest, model.runtime, (0.1, 0.2, 0.3), (0.01, 0.02, 0.03), 10.0)
    assert slowed.tail_s == pytest.approx((6.01, 5.02, 3.03))


def test_times_that_are_known_already_are_not_measured_again(root: Path) -> None:
    folder = root / "b" / "1"
    digest = SegmentRuntime.load(folder).digest
    known = Profile(digest, PROVIDERS["cpu"], 1, "made up", 1, (0.1, 0.2, 0.3), (), {})
    assert load_models(folder, known=known, clock=SystemClock())[digest].segment_s == (0.1, 0.2, 0.3)
    other = replace(known, threads=2)
    assert load_models(folder, known=other, clock=SystemClock())[digest].segment_s != (0.1, 0.2, 0.3)


def test_the_same_model_twice_is_held_once(root: Path, tmp_path: Path) -> None:
    for version in ("1", "2"):
        write_tiny_model(tmp_path / version)
    lines: list[str] = []
    assert len(load_models(tmp_path, clock=SystemClock(), progress=lines.append)) == 1
    assert len(lines) == 2


def test_a_digest_that_is_not_held_is_refused_with_what_is(models: dict[str, HeldModel]) -> None:
    with pytest.raises(WrongDigestError, match=r"ffffffffffff, only .*tiny/1"):
        held_model(models, "f" * 64, 0)


@pytest.mark.parametrize("cut", [-1, 3, 99])
def test_a_cut_without_a_tail_is_refused_with_those_that_have_one(models: dict[str, HeldModel], cut: int) -> None:
    digest = next(iter(models))
    with pytest.raises(BadMessageError, match=r"cuts 0\.\.2"):
        held_model(models, digest, cut)


def test_a_corrupt_model_a_corrupt_manifest_and_an_unknown_provider_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    with pytest.raises(ProviderError, match="--provider cpu"):
        load_models(folder, provider="no-such", clock=SystemClock())
    (folder / "segment-2.onnx").unlink()
    with pytest.raises(ModelFileError, match=r"segment-2\.onnx"):
        load_models(folder, clock=SystemClock())
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(ManifestError):
        load_models(folder, clock=SystemClock())
