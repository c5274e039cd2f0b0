"""Several rules on the same scenario, one after the other, and the polled run beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.scenario import Scenario, changed_scenario
from benchmarks.simulator.contenders import check_titles
from benchmarks.testbed.live import LiveRun
from benchmarks.testbed.result import RunResult, Snapshot
from benchmarks.testbed.speeds import Speeds, measured_speeds
from twin_service.decision.loading import located
from twin_service.decision.rules import rule_named

AROUND_S = 8.0
"""Starting, attaching and stopping the services around the arrivals of one run, about."""


class View(Protocol):
    """Whoever watches."""

    def begins(self, number: int, count: int, scenario: Scenario) -> None:
        """Run ``number`` of ``count`` begins."""
        ...

    def goes_on(self, snapshot: Snapshot) -> None:
        """The run goes on."""
        ...

    def ends(self, result: RunResult) -> None:
        """The run is over."""
        ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs of one scenario that differ in the rule."""

    scenario: Scenario
    speeds: Speeds
    results: tuple[RunResult, ...]

    def of(self, rule: str, *, is_polled: bool = False) -> RunResult | None:
        """The run of ``rule``; ``None``: there was none."""
        return next((r for r in self.results if (r.rule, r.is_polled) == (rule, is_polled)), None)


def check_rules(rules: Sequence[str]) -> None:
    """See that real processes can run every rule and that results tell them apart.

    Raises:
        SettingsError: a rule that does not exist, none, or two of one name.
    """
    for rule in rules:
        rule_named(rule)
    check_titles(rules)


def planned_runs(scenario: Scenario, rules: Sequence[str], polled_rule: str | None) -> list[Scenario]:
    """One scenario per run.

    Raises:
        SettingsError: a rule that does not exist, none, or two of one name, the polled one included.
    """
    check_rules(rules)
    if polled_rule is not None and polled_rule not in rules:
        check_rules([*rules, polled_rule])
    runs = [changed_scenario(scenario, rule=located(rule), is_polled=False) for rule in rules]
    if polled_rule is not None:
        runs.append(changed_scenario(scenario, rule=located(polled_rule), is_polled=True))
    return runs


def expected_s(runs: Sequence[Scenario]) -> float:
    """How long all runs take, about."""
    return sum(run.seconds + run.warm_up_s + AROUND_S for run in runs)


def compared(runs: Sequence[Scenario], view: View, speeds: Speeds | None = None) -> Comparison:
    """Run one after the other; every run meets the same arrivals, frames, load and emulated speeds.

    ``speeds``: those of comparisons that belong together; ``None``: measured now.

    Raises:
        TwinsplitError: a service cannot start or ends by itself; see :class:`~benchmarks.testbed.live.LiveRun`.
    """
    speeds = measured_speeds(runs[0]) if speeds is None else speeds
    results = []
    for number, scenario in enumerate(runs, start=1):
        view.begins(number, len(runs), scenario)
        with LiveRun(scenario, speeds) as run:
            for snapshot in run.snapshots():
                view.goes_on(snapshot)
            result = run.close()
        view.ends(result)
        results.append(result)
    return Comparison(runs[0], speeds, tuple(results))


def rule_document(comparison: Comparison, result: RunResult) -> dict[str, Any]:
    """The figures of one rule as the demo's JSON has them."""
    summary = result.summary
    polled = comparison.of(result.rule, is_polled=True)
    return {
        "tasks": summary.tasks,
        "outcomes": {key: summary.outcomes[key] for key in ("edge", "exit", "device", "dropped", "failed")},
        "payloads": {key: summary.payloads[key] for key in ("tensor", "input")},
        "accuracy": summary.accuracy,
        "latency_p50_s": summary.latency_p50_s,
        "latency_p95_s": summary.latency_p95_s,
        "energy_joules": summary.energy_joules,
        "energy_source": summary.energy_source,
        "cost_s": summary.cost_s,
        "messages_per_task": result.messages_per_task,
        "polled_messages_per_task": None if polled is None else polled.messages_per_task,
    }


Notice = Callable[[str], None]
"""Takes a line for people."""
