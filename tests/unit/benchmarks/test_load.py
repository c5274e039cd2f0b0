"""The load test: what is judged of its points, who was the limit, and that its page is what its results give."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.load import page, twin_points
from benchmarks.load.command import load
from benchmarks.load.edge_points import median_run, verdict
from benchmarks.load.reports import longest_service_s, made_record
from benchmarks.load.window import Counted, ServiceUse, limits, shares, summary
from benchmarks.report.runs import ROOT
from benchmarks.results import RESULTS_FOLDER
from benchmarks.testbed.scenarios import SHIPPED_MODEL
from device.twin_wire import ended_to_wire
from twinsplit.errors import StorageError
from twinsplit.model.manifest import read_manifest
from twinsplit.types import Outcome

USE = ServiceUse(1.0, 100.0, 0.5, {}, {})


def run(in_time: float, p99: float = 0.1, limit: str = "edge", **ended: int) -> dict[str, Any]:
    return {
        "in_time_per_s": in_time,
        "ended": ended,
        "adds_up": True,
        "latency_s": {"p99": p99},
        "limits": [limit],
    }


def point(factor: float, *runs: dict[str, Any]) -> dict[str, Any]:
    return {"factor": factor} | median_run(runs) | {"runs": runs}


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        ([run(95.0, DEADLINE=4, EDGE_FULL=3)], (True, True, True)),
        ([run(80.0)], (False, True, True)),
        ([run(80.0), run(95.0), run(99.0)], (True, True, True)),
        ([run(80.0), run(89.0), run(99.0)], (False, True, True)),
        ([run(95.0, INTERNAL=1)], (True, False, True)),
        ([run(95.0, lost=1)], (True, False, True)),
        ([run(95.0), run(96.0, lost=1), run(94.0)], (True, False, True)),
        ([run(95.0) | {"adds_up": False}], (True, False, True)),
        ([run(95.0, p99=0.3)], (True, True, False)),
        ([run(95.0), run(96.0), run(97.0, p99=0.3)], (True, True, False)),
        ([run(10.0, p99=9.0, limit="generator")], (None, True, None)),
    ],
)
def test_collapse_unclean_refusals_and_late_answers_are_seen(
    past: list[dict[str, Any]], expected: tuple[bool | None, ...]
) -> None:
    found = verdict([point(0.5, run(50.0)), point(0.9, run(100.0)), point(2.0, *past)], deadline_s=0.25)
    assert (found["is_flat"], found["is_clean"], found["is_bounded"]) == expected


def test_a_point_adds_up_over_its_generators() -> None:
    first = Counted(3, Counter(answered=2, EDGE_FULL=1), 2, [0.1, 0.2], [0.0, 0.0, 0.0], 0.2)
    second = Counted(2, Counter(answered=1, lost=1), 1, [0.3], [0.0, 0.0], 0.9)
    whole = summary([first, second], USE, seconds=2.0)
    assert whole["ended"] == {"EDGE_FULL": 1, "answered": 3, "lost": 1}
    assert (whole["offered"], whole["adds_up"], whole["answers_per_s"]) == (5, True, 1.5)
    assert whole["latency_s"]["p50"] == pytest.approx(0.2)
    assert limits(whole, "edge", 0.95, 0.02) == ["generator", "edge"]
    assert not summary([Counted(1)], USE, seconds=2.0)["adds_up"]


def test_devices_are_spread_over_few_generators() -> None:
    assert [shares(1, 4), shares(8, 3), shares(256, 4)] == [[1], [3, 3, 2], [64] * 4]


def test_made_reports_are_what_a_device_could_send() -> None:
    manifest, _ = read_manifest(SHIPPED_MODEL)
    draw = random.Random(3)
    outcomes: Counter[Outcome] = Counter()
    for task_id in range(1, 60):
        record = made_record(manifest, task_id, 99.0, draw, plan_id=7)
        outcomes[record.outcome] += 1
        assert record.stop_epoch is not None
        assert record.started_at_s is not None
        assert len(record.epoch_times_s) == record.stop_epoch + 1
        assert record.arrived_at_s < record.started_at_s < record.epoch_times_s[-1] < record.ended_at_s
        ran = [exit for exit, c in zip(manifest.exits, record.exit_confidences, strict=True) if c is not None]
        assert ran == [exit for exit in manifest.exits if exit.after_segment <= record.stop_epoch]
        assert (record.evidence > 0) == bool(ran)
        assert ended_to_wire(record, 100.0).plan_id == 7
    assert set(outcomes) == {Outcome.DEVICE, Outcome.EXIT, Outcome.EDGE}


def test_the_page_is_what_the_results_give() -> None:
    edge, twin = (json.loads((RESULTS_FOLDER / f"load-{name}.json").read_text()) for name in ("edge", "twin"))
    assert (ROOT / "docs" / "load.md").read_text() == page.page(edge, twin)


@pytest.mark.slow
def test_figures_are_drawn_from_the_results() -> None:
    edge, twin = (json.loads((RESULTS_FOLDER / f"load-{name}.json").read_text()) for name in ("edge", "twin"))
    drawn = page.figures(edge, twin)
    assert set(drawn) == {name for name in (page.EDGE_FIGURE, page.TWIN_FIGURE) if name in page.page(edge, twin)}
    assert len(drawn) == 2
    assert all(data.startswith(b"\x89PNG") for data in drawn.values())


def test_one_part_measured_alone_leaves_the_figures_of_the_other_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = (RESULTS_FOLDER / "load-edge.json").read_text()
    measured = json.loads((RESULTS_FOLDER / "load-twin.json").read_text())["results"]
    del measured["is_quick"]
    monkeypatch.setattr(twin_points, "measure", lambda _load, _say: measured)
    monkeypatch.setattr(page, "figures", lambda _edge, _twin: {})
    arguments = ["--part", "twin", "--results", str(tmp_path), "--page", str(tmp_path)]
    missing = CliRunner().invoke(load, arguments)
    assert isinstance(missing.exception, StorageError)
    (tmp_path / "load-edge.json").write_text(kept)
    done = CliRunner().invoke(load, arguments)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "load-edge.json").read_text() == kept
    twin = json.loads((tmp_path / "load-twin.json").read_text())
    assert twin["results"] == {"is_quick": False} | measured
    assert (tmp_path / "load.md").read_text() == page.page(json.loads(kept), twin)


def test_a_faster_device_has_the_same_tasks_in_less_time() -> None:
    manifest, _ = read_manifest(SHIPPED_MODEL)
    record = made_record(manifest, 1, 50.0, random.Random(2), plan_id=7, pace=0.1)
    at_full = made_record(manifest, 1, 50.0, random.Random(2), plan_id=7)
    assert record.started_at_s == at_full.started_at_s
    assert record.ended_at_s - 50.0 == pytest.approx(0.1 * (at_full.ended_at_s - 50.0))
    assert 0.0 < record.ended_at_s - 50.0 <= 0.1 * 1.2 * longest_service_s(manifest)
