"""The model folder that ships: whole, small, labelled, and as good as its manifest and README say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.testbed.scenarios import SHIPPED_MODEL
from twinsplit.model.frames import read_frames
from twinsplit.model.manifest import Cut, check_files, read_manifest
from twinsplit.model.preprocessing import prepare
from twinsplit.model.runtime import SegmentRuntime

README = Path(__file__).resolve().parents[2] / "README.md"
FRAMES = SHIPPED_MODEL / "frames"
MANIFEST, _ = read_manifest(SHIPPED_MODEL)
ANSWERS = ("exit 1", "exit 2", "whole network")
ACCURACIES = (*(e.accuracy for e in MANIFEST.exits), MANIFEST.whole_accuracy or 0.0)


def readme_rows() -> dict[str, tuple[float, float, float]]:
    """Per answer: accuracy on the shipped frames and on all test frames (%), and MACs up to there (millions)."""
    row = re.compile(
        r"^\| ([a-z0-9 ]+)(?:, after block \d)? \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) M \|$", re.MULTILINE
    )
    return {name: (float(a), float(b), float(c)) for name, a, b, c in row.findall(README.read_text(encoding="utf-8"))}


def least_bytes(cut: Cut) -> float:
    return min(each.mean_bytes for each in cut.representations if each.is_offered)


def test_every_file_is_the_one_that_was_measured() -> None:
    check_files(SHIPPED_MODEL, MANIFEST.files())
    beside = {path.name for path in SHIPPED_MODEL.iterdir()} - set(MANIFEST.files())
    assert beside == {"manifest.json", "frames"}


def test_it_has_a_thousand_labelled_frames_as_many_of_each_class_and_is_small() -> None:
    frames = read_frames(FRAMES, classes=MANIFEST.classes)
    assert frames.labels is not None
    assert np.bincount(frames.labels).tolist() == [100] * 10
    assert {path.name for path in FRAMES.iterdir()} == {*(frames.names or ()), "labels.csv"}
    assert sum(path.stat().st_size for path in SHIPPED_MODEL.rglob("*") if path.is_file()) <= 25e6


def test_exits_and_whole_network_are_several_points_apart() -> None:
    assert MANIFEST.accuracy_basis == "labels"
    assert len(ACCURACIES) == 3
    assert min(np.diff(ACCURACIES)) >= 0.03


def test_an_inner_tensor_costs_no_more_bytes_than_the_encoded_frame() -> None:
    frame, *inner = (cut for cut in MANIFEST.cuts if cut.representations)
    assert min(least_bytes(cut) for cut in inner) <= least_bytes(frame)
    assert {each.kind for each in frame.representations} >= {"png", "jpeg"}


def test_readme_has_the_manifests_figures() -> None:
    rows = readme_rows()
    for name, accuracy in zip(ANSWERS, ACCURACIES, strict=True):
        assert rows[name][1] == pytest.approx(100 * accuracy, abs=0.0501), name
    up_to = np.cumsum([s.macs for s in MANIFEST.segments])
    exits = [up_to[e.after_segment - 1] + e.macs for e in MANIFEST.exits]
    assert [rows[name][2] for name in ANSWERS] == pytest.approx(np.array([*exits, up_to[-1]]) / 1e6, abs=0.0501)


@pytest.mark.slow
def test_readme_has_the_accuracy_on_the_shipped_frames() -> None:
    runtime = SegmentRuntime.load(SHIPPED_MODEL)
    exit_at = {e.after_segment: e.index for e in MANIFEST.exits}
    hits = np.zeros(len(ANSWERS), int)
    for _, frame, label in read_frames(FRAMES):
        tensor = prepare(frame, MANIFEST).tensor
        for cut in range(1, MANIFEST.segment_count + 1):
            tensor = runtime.run_segment(cut - 1, tensor)
            if cut in exit_at:
                hits[exit_at[cut]] += runtime.run_exit(exit_at[cut], tensor).label_index == label
        hits[-1] += runtime.answer(tensor).label_index == label
    rows = readme_rows()
    # One frame in a thousand may fall to the other side on another processor.
    assert [rows[name][0] for name in ANSWERS] == pytest.approx(hits / 10, abs=0.1501)
