"""What of a scenario real processes can do."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.scenario import changed_scenario
from benchmarks.simulator.link import rate_changes
from benchmarks.testbed.devices import arrivals_of
from benchmarks.testbed.emulated import check_testbed, factor_of, lead_s, uplink_rates
from benchmarks.testbed.scenarios import DEMO
from device.emulation import parse_rate_changes
from twinsplit.errors import SettingsError


@pytest.mark.parametrize(
    "changes",
    [
        {"devices": 100},
        {"edges": 2},
        {"service_jitter": 0.1},
        {"load_sizes": "heavy"},
        {"load_mean_s": 0.2},
        {"step_at_s": 3.0, "step_load_share": 0.9},
    ],
)
def test_what_only_the_simulator_can_do_is_refused_by_name(changes: dict[str, Any]) -> None:
    name = list(changes)[-1]
    with pytest.raises(SettingsError, match=rf"scenario: {name}: the testbed .*twinsplit sim run"):
        check_testbed(changed_scenario(DEMO, **changes))


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
