"""What of a scenario is emulated around real processes, and what of it only the simulator can do."""

from __future__ import annotations

from itertools import takewhile

from benchmarks.scenario import Scenario
from benchmarks.simulator.link import rate_changes
from twinsplit.errors import SettingsError

SETTLING_S = 3.0
"""From the start of a device's source to the first instant at which load or tasks may come: for attaching and the
first plan."""
PATIENCE_S = 60.0
"""Time after the last arrival in which the last tasks must get their outcome."""
MAX_DEVICES = 16
"""Processes of devices; a few already keep two cores busy."""


def lead_s(scenario: Scenario) -> float:
    """From the start of a device's source to the scenario's instant 0, seconds."""
    return SETTLING_S + scenario.warm_up_s


def factor_of(scenario: Scenario, index: int) -> float:
    """How many times the stated time the device at position ``index`` takes."""
    return scenario.device_factors[index % len(scenario.device_factors)]


def uplink_rates(scenario: Scenario, index: int) -> tuple[float | None, tuple[str, ...]]:
    """First rate of a device's uplink, bytes per second (``None``: the real one), and later ones as START+RATE with
    seconds from the start of the device."""
    if scenario.uplink == "fixed" and scenario.step_uplink_bytes_per_s is None:
        return scenario.uplink_bytes_per_s, ()
    until_s = scenario.seconds + PATIENCE_S
    (_, first), *later = takewhile(lambda change: change[0] < until_s, rate_changes(scenario, index))
    return first, tuple(f"{lead_s(scenario) + start_s:.6f}+{rate:g}" for start_s, rate in later)


def check_testbed(scenario: Scenario) -> None:
    """See that real processes can run ``scenario``. What only says how the simulator imitates them is passed over:
    ``tasks``, ``warm_up_tasks``, ``segment_shares``, ``exit_shares``, ``encode_factor``, ``encode_shares``,
    ``evidence``.

    Raises:
        SettingsError: names the first key that only the simulator knows.
    """
    cannot = (
        ("devices", scenario.devices > MAX_DEVICES, f"starts at most {MAX_DEVICES} devices"),
        ("edges", scenario.edges > 1, "runs one edge"),
        ("service_jitter", scenario.service_jitter > 0.0, "has the noise of real processes and adds none"),
        ("load_sizes", scenario.load_sizes != "fixed", "loads the edge with inferences of the model, which are alike"),
        ("load_mean_s", scenario.load_mean_s is not None, "loads the edge with inferences of the model; leave it out"),
        ("step_load_share", scenario.step_load_share is not None, "keeps one load for the whole run"),
    )
    for name, is_asked, limit in cannot:
        if is_asked:
            raise SettingsError(f"scenario: {name}: the testbed {limit}; `twinsplit sim run` runs this scenario")
