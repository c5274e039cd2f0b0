"""What of a scenario real processes can do."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scenario import Scenario, changed_scenario, read_scenario, with_settings
from benchmarks.simulator.grid import SCENARIOS
from benchmarks.simulator.link import rate_changes
from benchmarks.simulator.load import LoadJobs, job_sizes_s
from benchmarks.testbed.devices import arrivals_of
from benchmarks.testbed.emulated import (
    PATIENCE_S,
    check_testbed,
    edge_queue_capacity,
    factor_of,
    has_load,
    lead_s,
    load_instants_s,
    uplink_rates,
)
from benchmarks.testbed.scenarios import DEMO
from device.emulation import parse_rate_changes
from edge.load_pattern import arrivals_s
from twinsplit.errors import SettingsError

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "testbed.md"


@pytest.mark.parametrize(
    "changes",
    [
        {"devices": 100},
        {"edges": 2},
        {"service_jitter": 0.1},
        {"step_load_share": 0.9, "step_at_s": 15.0},
    ],
)
def test_what_only_the_simulator_can_do_is_refused_with_what_to_change(changes: dict[str, Any]) -> None:
    name = list(changes)[-1]
    scenario = changed_scenario(DEMO, **changes)
    with pytest.raises(SettingsError, match=rf"scenario: {name}: the testbed .*twinsplit sim run") as refused:
        check_testbed(scenario)
    (cure,) = re.findall(r"--set (\S+),", str(refused.value))
    check_testbed(with_settings(scenario, [cure]))


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("demo", ()),
        ("heavy-tailed", ()),
        ("markov", ()),
        ("slow-device", ()),
        ("tensors-only", ()),
        ("regime-change", ("step_at_s=7",)),
        ("regime-kind", ("step_at_s=7",)),
        ("fleet", ("devices=8", "edges=1", "service_jitter=0")),
        ("fleet-slow-links", ("devices=8", "edges=1", "service_jitter=0")),
        ("company", ("devices=8", "edges=1", "service_jitter=0")),
    ],
)
def test_the_page_says_which_of_the_scenarios_run_on_real_processes(name: str, missing: tuple[str, ...]) -> None:
    scenario = read_scenario(SCENARIOS / f"{name}.yaml")
    check_testbed(with_settings(scenario, missing))
    for number in range(len(missing)):
        with pytest.raises(SettingsError, match=missing[number].partition("=")[0]):
            check_testbed(with_settings(scenario, missing[:number] + missing[number + 1 :]))
    (row,) = [line for line in PAGE.read_text().splitlines() if f"`{name}`" in line]
    assert row.count("--set") == len(missing)
    assert all(f"--set {setting}" in row for setting in missing)


def test_every_shipped_scenario_is_among_them() -> None:
    assert all(f"| `{path.stem}` |" in PAGE.read_text() for path in SCENARIOS.glob("*.yaml"))


def inferences(scenario: Scenario, service_s: float) -> Counter[float]:
    *instants_s, beyond_s = load_instants_s(scenario, service_s)
    assert instants_s == sorted(instants_s)
    assert beyond_s > scenario.warm_up_s + scenario.seconds + PATIENCE_S >= instants_s[-1]
    return Counter(instants_s)


def test_jobs_of_one_inference_come_as_in_the_simulator() -> None:
    found = inferences(DEMO, 0.015)
    shape = DEMO.load_shape
    assert shape is not None
    assert list(found)[:100] == pytest.approx([*islice(arrivals_s(shape, 0.015, DEMO.load_seed), 100)])
    assert set(found.values()) == {1}


@pytest.mark.parametrize("sizes", ["fixed", "exponential", "heavy"])
def test_longer_jobs_are_as_many_inferences_as_they_are_long(sizes: str) -> None:
    scenario = changed_scenario(DEMO, load_sizes=sizes, load_mean_s=0.05, seconds=100.0)
    found = inferences(scenario, 0.02)
    jobs = LoadJobs(scenario, 0, 0.05)
    drawn = [(jobs.at_s(n) + scenario.warm_up_s, jobs.sizes_s[jobs.size(n)]) for n in range(200)]
    for at_s, size_s in drawn:
        assert abs(0.02 * found[at_s] - size_s) <= 0.02
    work_s = sum(size_s for _, size_s in drawn)
    assert 0.02 * sum(found[at_s] for at_s, _ in drawn) == pytest.approx(work_s, abs=0.011)


def test_a_step_of_the_load_comes_at_its_instant() -> None:
    scenario = changed_scenario(DEMO, load_share=0.0, step_at_s=5.0, step_load_share=0.9)
    assert has_load(scenario)
    assert min(inferences(scenario, 0.015)) > scenario.warm_up_s + 5.0
    assert not has_load(changed_scenario(DEMO, load_share=0.0))


def test_a_job_of_many_inferences_finds_room_at_the_edge() -> None:
    sized = changed_scenario(DEMO, load_sizes="heavy", load_mean_s=0.05)
    room = edge_queue_capacity(sized)
    assert room is not None
    assert room > max(job_sizes_s("heavy", 0.05)) / 0.015
    assert edge_queue_capacity(DEMO) is None
    assert edge_queue_capacity(changed_scenario(sized, edge_queue_capacity=7)) == 7
    turning = changed_scenario(DEMO, step_at_s=5.0, step_load_sizes="heavy")
    assert edge_queue_capacity(turning) == room


def test_what_says_how_the_simulator_imitates_is_passed_over() -> None:
    check_testbed(DEMO)
    check_testbed(changed_scenario(DEMO, tasks=4000, warm_up_tasks=100, encode_factor=2.0, devices=3))


def test_an_uplink_of_one_rate_needs_no_changes() -> None:
    assert uplink_rates(DEMO, 0) == (DEMO.uplink_bytes_per_s, ())
    assert uplink_rates(changed_scenario(DEMO, uplink_bytes_per_s=None), 0) == (None, ())


def test_an_uplink_of_two_states_changes_when_the_simulators_does() -> None:
    scenario = changed_scenario(DEMO, uplink="two-state", uplink_bad_bytes_per_s=5000.0, uplink_good_s=3.0)
    first, later = uplink_rates(scenario, 1)
    drawn = rate_changes(scenario, 1)
    assert first == next(drawn)[1]
    for change in parse_rate_changes(later):
        start_s, rate = next(drawn)
        assert change.start_s - lead_s(scenario) == pytest.approx(start_s, abs=1e-5)
        assert change.bytes_per_s == rate
    assert len(later) > 5
    assert uplink_rates(scenario, 0) != uplink_rates(scenario, 1), "each device has its own"


def test_a_step_of_the_link_is_one_change() -> None:
    scenario = changed_scenario(DEMO, step_at_s=4.0, step_uplink_bytes_per_s=9000.0)
    first, later = uplink_rates(scenario, 0)
    assert first == DEMO.uplink_bytes_per_s
    assert later == (f"{lead_s(scenario) + 4.0:.6f}+9000",)


def test_devices_have_their_own_speed_and_arrivals() -> None:
    scenario = changed_scenario(DEMO, devices=3, device_factors=(1.0, 2.0))
    assert [factor_of(scenario, index) for index in range(3)] == [1.0, 2.0, 1.0]
    first, second = arrivals_of(scenario, 0), arrivals_of(scenario, 1)
    assert first == scenario.arrivals_s()
    assert first != second
    assert all(0.0 < instant <= scenario.seconds for instant in second)
