from pathlib import Path

import pytest

from benchmarks import exits
from benchmarks.exits import Recipe, lines, measure
from benchmarks.testbed.scenarios import SHIPPED_MODEL
from models.frames import DatasetError
from twinsplit.errors import SourceError
from twinsplit.model.frames import LabelledFrames, read_frames
from twinsplit.model.manifest import read_manifest


@pytest.mark.slow
def test_new_exits_stand_beside_the_shipped_ones_at_the_same_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    # Fashion-MNIST need not be installed for this: shipped frames take the place of composed ones.
    monkeypatch.setattr(exits, "_composed", shipped_frames)
    recipes = [Recipe(100, views=1, hidden=0, is_labelled=True)]
    found = measure(SHIPPED_MODEL, recipes=recipes, test_frames=60, calibration_frames=40)
    own = read_manifest(SHIPPED_MODEL)[0].exits
    assert [e["accuracy"] for e in found["joint"]] == [e.accuracy for e in own]
    (row,) = found["rows"]
    assert row["frames"] == 100
    assert [e["cut"] for e in row["exits"]] == [1, 2]
    for new, joint in zip(row["exits"], own, strict=True):
        assert new["points_to_joint"] == pytest.approx(100 * (new["accuracy"] - joint.accuracy))
        # Ten classes: few frames and one layer are still better than chance.
        assert new["agreement"] > 0.15
    assert 0.7 < found["whole_accuracy"] < 1.0
    printed = lines(found)
    assert [word for word in printed[1].split() if "%" in word] == ["73.1%", "83.4%"]
    assert printed[2].startswith("100 frames, linear, labels")


def shipped_frames(part: str, indices: range, seed: int) -> LabelledFrames:
    """As many of the shipped frames as are asked for; other ones for every seed."""
    frames = read_frames(SHIPPED_MODEL / "frames")
    return frames.at([(7 * index + 331 * seed) % len(frames) for index in range(len(indices))])


def test_a_recipe_says_what_it_is() -> None:
    names = [exits._named(recipe) for recipe in exits.RECIPES]
    assert len(set(names)) == len(names)
    assert "5,000 frames x 4 views, 128 units, labels" in names
    assert "1,000 frames, 128 units, no labels" in names


def test_a_missing_dataset_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(part: str, cache: Path) -> None:
        raise DatasetError("not there. Cure: apt install it")

    monkeypatch.setattr(exits, "load_garments", missing)
    with pytest.raises(SourceError, match="Cure: apt install it"):
        measure(SHIPPED_MODEL)
