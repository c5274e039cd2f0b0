"""Simulator against testbed: what is compared and how."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.fidelity import (
    Bounds,
    Measured,
    Side,
    compared,
    imitated,
    ks_by_chance,
    ks_distance,
    lines,
    quantiles,
    way_s,
)
from benchmarks.scenario import changed_scenario
from benchmarks.simulator.load import LoadJobs
from benchmarks.simulator.speeds import speeds_of
from benchmarks.testbed.emulated import edge_queue_capacity
from benchmarks.testbed.scenarios import DEMO
from tests.unit.benchmarks.made_up_runs import MANIFEST, entry

PROFILE = SimpleNamespace(
    segment_s=(0.001, 0.002, 0.001, 0.004, 0.002), exit_s=(0.0005, 0.001), encode_s={(0, 0): 0.002, (1, 0): 0.001}
)
SPEEDS: Any = SimpleNamespace(
    profile=PROFILE,
    manifest=MANIFEST,
    measured_whole_s=0.01,
    device_slowdown=17.0,
    device_whole_s=0.17,
    edge_whole_s=0.015,
)


def side(latencies_s: list[float], cost_s: float = 0.3, **stages_s: float) -> Side:
    found = Side()
    found.take([entry(number, latency_s=latency) for number, latency in enumerate(latencies_s, start=1)], cost_s)
    found.take_stages(stages_s)
    return found


def test_distances_of_distributions_are_those_of_kolmogorov_and_smirnov() -> None:
    first, second = np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0, 5.0, 6.0])
    assert ks_distance(first, first) == 0.0
    assert ks_distance(first, second) == ks_distance(second, first) == 0.5
    assert ks_distance(first, first + 10.0) == 1.0
    assert ks_distance(first, np.array([])) is None
    # 1.358 at 5 % of two samples of 100.
    assert ks_by_chance(100, 100) == pytest.approx(1.358 * np.sqrt(0.02))


def test_latencies_that_lie_close_count_as_the_same() -> None:
    sharp = np.full(100, 0.1)
    blurred = sharp + np.linspace(0.001, 0.009, 100)
    assert ks_distance(sharp, blurred) == 1.0
    assert ks_distance(sharp, blurred, apart=0.01) == 0.0
    assert ks_distance(sharp, blurred + 0.1, apart=0.01) == 1.0


def test_sides_that_are_alike_lie_within_all_bounds_and_others_are_named() -> None:
    latencies = list(np.linspace(0.1, 0.4, 50))
    same = compared(side(latencies), side(latencies))
    assert all(same["is_within"].values())
    assert same["stops"] == {"device": {"testbed": 1.0, "simulator": 1.0}}
    slower = compared(side(latencies), side([2.0 * latency for latency in latencies], cost_s=0.5))
    assert slower["is_within"] == {"share": True, "median": False, "p95": False, "cost": False, "ks": False}
    text = "\n".join(lines({"one-time": slower}))
    assert "OUT OF BOUNDS: median, p95, cost, ks" in text


def test_shares_of_stops_are_compared_end_by_end() -> None:
    mixed = Side()
    entries = [entry(1, outcome="exit", exit=0, stop_epoch=1, evidence=1), *(entry(n) for n in range(2, 5))]
    mixed.take(entries, 0.3)
    found = compared(side([0.2] * 4), mixed, Bounds(share=0.2))
    assert found["largest_share_difference"] == 0.25
    assert not found["is_within"]["share"]


def test_what_nobody_answered_is_out_of_bounds_and_no_number() -> None:
    silent = Side()
    silent.take([entry(1, outcome="failed", reason="shutdown")], 3.0)
    found = compared(silent, side([0.1]))
    assert quantiles(np.array([])) == {}
    assert found["ks_distance"] is None
    assert not any(found["is_within"].values())
    assert list(lines({"x": found}))


def test_the_simulator_is_given_the_emulated_speeds_and_the_services_bounds() -> None:
    scenario = imitated(changed_scenario(DEMO, tasks=4000, warm_up_tasks=10, kept_tensors=3), SPEEDS)
    assert (scenario.tasks, scenario.warm_up_tasks) == (None, 0)
    assert (scenario.device_whole_s, scenario.edge_whole_s) == (0.17, 0.015)
    assert scenario.segment_shares == PROFILE.segment_s
    assert scenario.exit_shares == pytest.approx((0.05, 0.1))
    assert (scenario.queue_capacity, scenario.edge_queue_capacity, scenario.kept_tensors) == (64, 64, 3)
    assert scenario.answer_timeout_s == 2.0
    encode_s = speeds_of(scenario, MANIFEST).encode_s
    assert {key: encode_s[key] for key in PROFILE.encode_s} == pytest.approx(
        {key: 17.0 * seconds for key, seconds in PROFILE.encode_s.items()}
    )
    assert scenario.evidence == "frames"


def test_jobs_that_took_longer_make_more_load_and_come_when_they_did() -> None:
    plain = imitated(DEMO, SPEEDS)
    slower = imitated(DEMO, SPEEDS, Measured(job_s=0.018, way_s=0.006))
    assert slower.load_share == pytest.approx(1.2 * DEMO.load_share)
    assert slower.edge_whole_s == pytest.approx(0.018)
    assert slower.uplink_delay_s == pytest.approx(DEMO.uplink_delay_s + 0.003)
    before, after = (list(LoadJobs(s, 0, s.load_mean_s or 0.015).between(0.0, 5.0)) for s in (plain, slower))
    assert [at_s for at_s, _ in after] == pytest.approx([at_s for at_s, _ in before])
    assert after[0][1] == pytest.approx(1.2 * before[0][1])
    sized = changed_scenario(DEMO, load_mean_s=0.05, step_at_s=3.0, step_load_share=0.5)
    slower = imitated(sized, SPEEDS, Measured(job_s=0.018))
    assert (slower.load_mean_s, slower.step_load_share) == pytest.approx((0.06, 0.6))
    assert slower.edge_queue_capacity == edge_queue_capacity(sized)


def test_the_way_beyond_the_emulated_link_is_seen_on_payloads_that_met_no_queue() -> None:
    def line(upload_s: float, outcome: str = "edge") -> dict[str, Any]:
        return {"outcome": outcome, "wire_bytes": 2000, "stages_s": {"upload": upload_s}}

    link_s = 2000 / 20_000.0 + 2 * 0.020 + 0.002
    sent = [line(link_s + 0.005)] * 3 + [line(link_s + 0.4)] * 3 + [line(9.0, "device")]
    assert way_s(DEMO, sent) == pytest.approx(0.005)
    assert way_s(DEMO, []) == 0.0
    assert way_s(changed_scenario(DEMO, uplink_bytes_per_s=None), sent) == 0.0
