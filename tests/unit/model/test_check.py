from pathlib import Path

import numpy as np
import pytest

from tests.onnx_networks import saved, small_classifier
from twinsplit.errors import ModelError
from twinsplit.model.check import check_source, compare, open_whole, random_inputs, relative_difference
from twinsplit.model.runtime import SegmentRuntime


def test_whole_and_segments_agree_on_random_inputs(folder: Path, whole: Path) -> None:
    runtime = SegmentRuntime.load(folder)
    check_source(whole, runtime.manifest)
    comparisons = compare(open_whole(whole, runtime.manifest), runtime, random_inputs(runtime.manifest, 4))
    assert [c.name for c in comparisons] == ["random 1", "random 2", "random 3", "random 4"]
    assert all(c.is_within and c.is_same_label for c in comparisons)
    assert max(c.difference for c in comparisons) < 1e-4


def test_another_network_is_told_apart(folder: Path, tmp_path: Path) -> None:
    runtime = SegmentRuntime.load(folder)
    other = saved(small_classifier(seed=99), tmp_path / "other.onnx")
    with pytest.raises(ModelError, match=r"not the file this model was split from \(small\.onnx\)"):
        check_source(other, runtime.manifest)
    comparisons = compare(open_whole(other, runtime.manifest), runtime, random_inputs(runtime.manifest, 2))
    assert not any(c.is_within for c in comparisons)


def test_the_tolerance_can_be_said(folder: Path, whole: Path, tmp_path: Path) -> None:
    runtime = SegmentRuntime.load(folder)
    other = saved(small_classifier(seed=99), tmp_path / "other.onnx")
    inputs = random_inputs(runtime.manifest, 1)
    assert compare(open_whole(other, runtime.manifest), runtime, inputs, tolerance=1e6)[0].is_within


def test_random_inputs_differ_and_repeat(folder: Path) -> None:
    manifest = SegmentRuntime.load(folder).manifest
    (_, first), (_, second) = random_inputs(manifest, 2)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(random_inputs(manifest, 1)[0][1], first)


@pytest.mark.parametrize(
    ("expected", "found", "difference"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0.0),
        ([1.0, -4.0], [2.0, -4.0], 0.25),
        ([0.0, 0.0], [0.0, 0.5], 0.5),
        ([1.0, np.inf], [1.0, np.inf], 0.0),
        ([1.0, np.nan], [1.0, np.nan], 0.0),
        ([1.0, np.inf], [1.0, 5.0], np.inf),
        ([1.0, 2.0], [1.0, np.nan], np.inf),
        ([1.0, 2.0], [1.0], np.inf),
    ],
)
def test_differences_are_counted_against_the_largest_value(
    expected: list[float], found: list[float], difference: float
) -> None:
    assert relative_difference(np.array(expected), np.array(found)) == difference
