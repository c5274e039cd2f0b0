"""What of a scenario is emulated around real processes, and what of it only the simulator can do."""

from __future__ import annotations

from itertools import count, takewhile

from benchmarks.scenario import Scenario
from benchmarks.simulator.link import rate_changes
from benchmarks.simulator.load import LoadJobs
from twinsplit.errors import SettingsError

SETTLING_S = 3.0
"""From the start of a device's source to the first instant at which load or tasks may come: for attaching and the
first plan."""
PATIENCE_S = 60.0
"""Time after the last arrival in which the last tasks must get their outcome."""
MAX_DEVICES = 16
"""Processes of devices; a few already keep two cores busy."""
_MOST_TAILS = 10_000
"""May wait where one job of other users is many."""


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


def has_load(scenario: Scenario) -> bool:
    """Whether there ever are other users."""
    return scenario.load_shape is not None or scenario.step_load_shape is not None


def load_instants_s(scenario: Scenario, service_s: float) -> list[float]:
    """When other users ask for an inference that takes ``service_s``, seconds from the start of the load, ascending;
    the last one lies beyond the run.

    Jobs are those of the simulator. Each asks for the whole number of inferences at once that is nearest to its size,
    and what is lacking or too much counts for the next one.
    """
    jobs = LoadJobs(scenario, 0, scenario.load_mean_s or service_s)
    until_s = scenario.seconds + PATIENCE_S
    instants_s: list[float] = []
    work_s = 0.0
    for number in takewhile(lambda number: jobs.at_s(number) <= until_s, count()):
        work_s += jobs.sizes_s[jobs.size(number)]
        instants_s += [scenario.warm_up_s + jobs.at_s(number)] * (round(work_s / service_s) - len(instants_s))
    return [*instants_s, scenario.warm_up_s + until_s + 1.0]


def edge_queue_capacity(scenario: Scenario) -> int | None:
    """Tails that may wait at the edge; ``None``: as many as it lets by itself. Where jobs are of many inferences, no
    bound that was not asked for cuts them."""
    kinds = {scenario.load_sizes, scenario.step_load_sizes or "fixed"}
    has_sizes = scenario.load_mean_s is not None or kinds != {"fixed"}
    return _MOST_TAILS if has_sizes and scenario.edge_queue_capacity is None else scenario.edge_queue_capacity


def check_testbed(scenario: Scenario) -> None:
    """See that real processes can run ``scenario``. What only says how the simulator imitates them is passed over:
    ``tasks``, ``warm_up_tasks``, ``segment_shares``, ``exit_shares``, ``encode_factor``, ``encode_shares``,
    ``evidence``.

    Raises:
        SettingsError: names the first key that only the simulator knows, and what to change.
    """
    step_s, seconds = scenario.step_at_s, scenario.seconds
    cannot = (
        ("devices", scenario.devices > MAX_DEVICES, f"starts at most {MAX_DEVICES} devices", f"devices={MAX_DEVICES}"),
        ("edges", scenario.edges > 1, "runs one edge", "edges=1"),
        ("service_jitter", scenario.service_jitter > 0.0, "has the noise of real processes", "service_jitter=0"),
        ("step_at_s", (step_s or 0.0) >= seconds, f"runs for {seconds:g} s", f"step_at_s={seconds / 2.0:g}"),
    )
    for name, is_asked, limit, cure in cannot:
        if is_asked:
            raise SettingsError(
                f"scenario: {name}: the testbed {limit}; add --set {cure}, or let `twinsplit sim run` run it as it is"
            )
