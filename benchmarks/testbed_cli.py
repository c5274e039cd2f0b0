"""``twinsplit bench testbed`` and ``fidelity``: a scenario on real processes, alone and beside the simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from twinsplit.numbers import FiniteRange

if TYPE_CHECKING:
    from benchmarks.scenario import Scenario

F = TypeVar("F", bound=Callable[..., Any])

RULES = "device-only,edge-only,one-time,multi-step"


_scenario_argument = click.argument(
    "scenario_path", metavar="[SCENARIO.yaml]", required=False, type=click.Path(path_type=Path)
)
_rules_option = click.option(
    "--rules", default=RULES, show_default=True, help="Rules, separated by commas; one's own as FILE.py:CLASS."
)
_seconds_option = click.option(
    "--seconds", type=FiniteRange(min=0, min_open=True), help="Length of the arrivals per run."
)
_set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value of the scenario."
)


def _seeds_option(default: int) -> Callable[[F], F]:
    return click.option(
        "--seeds",
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        help="So many, from the scenario's own on.",
    )


@click.command()
@_scenario_argument
@_rules_option
@click.option("--polled", "polled_rule", metavar="RULE", help="Run this rule once more, asking at every epoch.")
@_seeds_option(1)
@_seconds_option
@_set_option
@click.option("--list", "is_list", is_flag=True, help="Only print the scenario's keys and values.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write there what sim run writes."
)
def testbed(
    scenario_path: Path | None,
    rules: str,
    polled_rule: str | None,
    seeds: int,
    seconds: float | None,
    settings: Sequence[str],
    is_list: bool,
    json_path: Path | None,
) -> None:
    """Rules on SCENARIO.yaml, the demo's by default, with real processes and in real time.

    Within a seed all rules meet the same, in an order drawn for that seed.
    """
    from rich.console import Console

    from benchmarks.comparative import run_testbed
    from twin_service.decision.rules import rule_names

    scenario = _scenario(scenario_path, settings, seconds)
    if is_list:
        for key, value in scenario.described().items():
            click.echo(f"{key}={value}")
        return
    run_testbed(scenario, rule_names(rules), polled_rule, _seeds(scenario, seeds), json_path, Console(highlight=False))


@click.command()
@_scenario_argument
@_rules_option
@_seeds_option(2)
@_seconds_option
@_set_option
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures there.")
def fidelity(
    scenario_path: Path | None,
    rules: str,
    seeds: int,
    seconds: float | None,
    settings: Sequence[str],
    json_path: Path | None,
) -> None:
    """Simulator against real processes on SCENARIO.yaml: latencies, stops and stages, with bounds."""
    from benchmarks.fidelity import run_fidelity
    from twin_service.decision.rules import rule_names

    scenario = _scenario(scenario_path, settings, seconds)
    run_fidelity(scenario, rule_names(rules), _seeds(scenario, seeds), json_path, click.echo)


def _scenario(path: Path | None, settings: Sequence[str], seconds: float | None) -> Scenario:
    from benchmarks.scenario import changed_scenario, read_scenario, with_settings
    from benchmarks.testbed.scenarios import DEMO

    scenario = with_settings(DEMO if path is None else read_scenario(path), settings)
    return scenario if seconds is None else changed_scenario(scenario, seconds=seconds)


def _seeds(scenario: Scenario, count: int) -> list[int]:
    return list(range(scenario.seed, scenario.seed + count))
