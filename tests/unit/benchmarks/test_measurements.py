from __future__ import annotations

from typing import Any

import pytest

from benchmarks import overhead, planning
from benchmarks.samples import described, ms
from benchmarks.testbed.live import RunStalledError
from benchmarks.testbed.scenarios import SHIPPED_MODEL
from tests.unit.benchmarks.made_up_runs import line


def at_edge(latency_s: float, compute_s: float, edge_compute_s: float) -> dict[str, Any]:
    stages = {"queue": 0.0, "compute": compute_s, "encode": 0.0, "upload": 0.001, "edge_compute": edge_compute_s}
    return line(
        outcome="edge",
        payload="tensor",
        representation="float32",
        wire_bytes=4000,
        latency_s=latency_s,
        stages_s=stages,
    )


def test_overhead_is_latency_less_head_and_tail() -> None:
    found = overhead.figures([at_edge(0.0206, 0.01, 0.01)] * 3, [0.02] * 3, "d", 1)
    assert found["overhead"]["median_s"] == pytest.approx(0.0006)
    assert found["ratio"] == pytest.approx(1.0)
    assert found["overhead_is_met"]
    assert found["ratio_is_met"]
    assert "0.600 ms median" in overhead.lines(found)[0]


def test_a_goal_that_is_missed_is_said() -> None:
    found = overhead.figures([at_edge(0.03, 0.012, 0.012)] * 3, [0.02] * 3, "d", 1)
    assert not found["overhead_is_met"]
    assert not found["ratio_is_met"]
    assert "MISSED" in overhead.lines(found)[1]


def test_tasks_that_do_not_end_at_the_edge_say_nothing_of_its_overhead() -> None:
    with pytest.raises(RunStalledError, match=r"only 0 of 1 tasks ended at the edge; they ended: device"):
        overhead.figures([line()], [0.02], "d", 1)


@pytest.mark.slow
def test_planning_is_measured_in_processes_of_several_sizes() -> None:
    found = planning.measure(SHIPPED_MODEL, repeats=2, counts=(1, 3))
    assert [row["devices"] for row in found["rows"]] == [1, 3]
    assert all(row["plan_one"]["count"] == 2 for row in found["rows"])
    assert not found["is_met"], "there is no row of 100 devices"
    assert len(planning.lines(found)) == 4


def test_samples_are_described_by_median_p95_and_quartiles() -> None:
    found = described([0.001 * i for i in range(1, 102)])
    assert found["median_s"] == pytest.approx(0.051)
    assert found["p95_s"] == pytest.approx(0.096)
    assert found["quartiles_s"] == pytest.approx([0.026, 0.076])
    assert (ms(0.1234), ms(0.01234), ms(0.0001234)) == ("123.4", "12.34", "0.123")
