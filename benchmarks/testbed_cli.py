"""``twinsplit bench testbed``: a scenario on real processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

RULES = "device-only,edge-only,one-time,multi-step"


@click.command()
@click.argument("scenario_path", metavar="[SCENARIO.yaml]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--rules",
    default=RULES,
    show_default=True,
    help="Rules, separated by commas; one's own as FILE.py:CLASS. They run in an order drawn for each seed.",
)
@click.option("--polled", "polled_rule", metavar="RULE", help="Run this rule once more, asking at every epoch.")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="So many, from the scenario's own on."
)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Length of the arrivals per rule.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value of the scenario.")
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
    """Rules on SCENARIO.yaml, the demo's by default, with real processes and in real time."""
    from rich.console import Console

    from benchmarks.comparative import run_testbed
    from benchmarks.scenario import changed_scenario, read_scenario, with_settings
    from benchmarks.testbed.scenarios import DEMO
    from twin_service.decision.rules import rule_names

    scenario = DEMO if scenario_path is None else read_scenario(scenario_path)
    scenario = with_settings(scenario, settings)
    if seconds is not None:
        scenario = changed_scenario(scenario, seconds=seconds)
    if is_list:
        for key, value in scenario.described().items():
            click.echo(f"{key}={value}")
        return
    chosen = range(scenario.seed, scenario.seed + seeds)
    run_testbed(scenario, rule_names(rules), polled_rule, list(chosen), json_path, Console(highlight=False))
