"""``twinsplit sim``: rules in the simulator, on scenario files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.results import ResultFile

if TYPE_CHECKING:
    from rich.console import Console


_WIDTH = 160
_LINES = 20
"""Lines of progress where there is no terminal."""


@click.group()
def sim() -> None:
    """Simulate devices, edges and links around the services' own pipeline, queue and rules."""


@sim.command()
@click.argument("scenario_path", metavar="SCENARIO.yaml", type=click.Path(path_type=Path))
@click.option(
    "--rules",
    default="all",
    show_default=True,
    help="Rules, separated by commas, also NAME-best; one's own as FILE.py:CLASS. one-time always runs, too.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="So many, from the scenario's own on."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value of the scenario.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; results do not depend on it.  [one a core]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures there.")
@click.option(
    "--tasks", "tasks_path", type=click.Path(path_type=Path), metavar="FILE.csv", help="Write every task there."
)
def run(
    scenario_path: Path,
    rules: str,
    seeds: int,
    settings: tuple[str, ...],
    workers: int | None,
    json_path: Path | None,
    tasks_path: Path | None,
) -> None:
    """Rules side by side on SCENARIO.yaml with exact state: every device sees the edge's true backlog."""
    from benchmarks.provenance import provenance
    from benchmarks.scenario import read_scenario, with_settings
    from benchmarks.simulator.documents import check_known, comparison_document, rules_named, table_of, tasks_text
    from benchmarks.simulator.running import compare
    from benchmarks.simulator.world import model_of
    from twinsplit.errors import SettingsError

    scenario = with_settings(read_scenario(scenario_path), settings)
    names = rules_named(rules)
    check_known(names, scenario)
    if json_path is not None and json_path == tasks_path:
        raise SettingsError(f"{json_path}: --json and --tasks would write over one another; name two files")
    chosen = range(scenario.seed, scenario.seed + seeds)
    console = _console()
    with _reserved(json_path) as result_file, _reserved(tasks_path) as tasks_file:
        _, digest = model_of(scenario.model)
        about = provenance(seeds=list(chosen), digests={"model": digest})
        with _progress(console) as progress:
            found = compare(
                [scenario], names, chosen, workers=workers, keeps_entries=tasks_file is not None, progress=progress
            )[0]
        console.print(table_of(found))
        console.print(f"{found.tasks_per_second:,.0f} tasks a second on one core")
        if tasks_file is not None:
            tasks_file.write_text(tasks_text(found))
        _write(result_file, about, comparison_document(found))


@sim.command()
@click.argument("scenario_path", metavar="SCENARIO.yaml", type=click.Path(path_type=Path))
@click.option("--deadlines", required=True, metavar="S,S,...", help="Ages until which an answer counts, seconds.")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="So many, from the scenario's own on."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value of the scenario.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; results do not depend on it.  [one a core]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures there.")
def deadlines(
    scenario_path: Path,
    deadlines: str,
    seeds: int,
    settings: tuple[str, ...],
    workers: int | None,
    json_path: Path | None,
) -> None:
    """Share and accuracy in time by deadline, of open-loop and of the best rule that decides once."""
    from benchmarks.provenance import provenance
    from benchmarks.scenario import read_scenario, with_settings
    from benchmarks.simulator.deadlines import deadlines_named, sweep, sweep_document, sweep_table
    from benchmarks.simulator.world import model_of

    scenario = with_settings(read_scenario(scenario_path), settings)
    chosen = range(scenario.seed, scenario.seed + seeds)
    deadlines_s = deadlines_named(deadlines)
    console = _console()
    with _reserved(json_path) as result_file:
        _, digest = model_of(scenario.model)
        about = provenance(seeds=list(chosen), digests={"model": digest})
        with _progress(console) as progress:
            cells = sweep(scenario, deadlines_s, chosen, workers=workers, progress=progress)
        console.print(sweep_table(cells))
        _write(result_file, about, sweep_document(cells))


@sim.command()
@click.option("--quick", is_flag=True, help="A few cells and fewer tasks: under 5 minutes on two cores.")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="So many in every cell, from 1."
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes; results do not depend on it.  [one a core]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures there.")
def grid(quick: bool, seeds: int, workers: int | None, json_path: Path | None) -> None:
    """Every rule on a grid of scenarios, and what is claimed of them; the full one takes an hour on two cores."""
    from benchmarks.provenance import provenance
    from benchmarks.simulator.grid import claims, grid_cells, run_grid
    from benchmarks.simulator.world import model_of

    cells = grid_cells(is_quick=quick)
    chosen = list(range(1, seeds + 1))
    console = _console()
    with _reserved(json_path) as result_file:
        _, digest = model_of(cells[0][1].model)
        about = provenance(seeds=chosen, digests={"model": digest})
        documents = []
        with _progress(console, "cells") as progress:
            for document in run_grid(cells, chosen, workers=workers, progress=progress):
                documents.append(document)
                learned = document["rules"]["learned"]
                ratio, closed = learned["cost_ratio_to_one_time"], learned["gap_closed"]
                gap = "" if closed is None else f", {closed:.3f} of the gap closed"
                console.print(f"{document['name']}: learned costs {ratio:.3f} of one-time{gap}")
        documents.sort(key=lambda document: document.pop("index"))
        found = claims(documents)
        for name, claim in found.items():
            goal = f">= {claim['at_least']}" if "at_least" in claim else f"<= {claim['at_most']}"
            console.print(f"{name}: {claim['found']:.4g} (goal {goal}): {'met' if claim['is_met'] else 'MISSED'}")
        _write(result_file, about, {"claims": found, "cells": documents})


@sim.command()
@click.option("--quick", is_flag=True, help="One cell and fewer tasks: half a minute.")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="So many in every cell, from 1."
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes; results do not depend on it.  [one a core]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures there.")
def foresight(quick: bool, seeds: int, workers: int | None, json_path: Path | None) -> None:
    """What knowing the future is worth: the clairvoyant, blind to one part of it and to all, on cells of the grid."""
    from benchmarks.provenance import provenance
    from benchmarks.simulator.grid import FORESIGHT_RULES, foresight_cells, run_grid
    from benchmarks.simulator.world import model_of

    cells = foresight_cells(is_quick=quick)
    chosen = list(range(1, seeds + 1))
    console = _console()
    with _reserved(json_path) as result_file:
        _, digest = model_of(cells[0][1].model)
        about = provenance(seeds=chosen, digests={"model": digest})
        with _progress(console, "cells") as progress:
            documents = list(run_grid(cells, chosen, names=FORESIGHT_RULES, workers=workers, progress=progress))
        documents.sort(key=lambda document: document.pop("index"))
        for document in documents:
            closed = {rule: figures["gap_closed"] for rule, figures in document["rules"].items()}
            shown = ", ".join(f"{rule} {share:.3f}" for rule, share in closed.items() if share is not None)
            console.print(f"{document['name']}: of the gap closed: {shown}")
        _write(result_file, about, {"cells": documents})


@sim.command()
@click.argument("scenario_path", metavar="SCENARIO.yaml", type=click.Path(path_type=Path))
@click.option("--rule", default="open-loop", show_default=True, help="Rule of the twin.")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="So many, from the scenario's own on."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value of the scenario.")
@click.option("--quick", is_flag=True, help="Only the product's own settings, polling and three periods.")
@click.option("--only", metavar="NAME,...", help="Only these, such as plans,polled; exact state always runs.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; results do not depend on it.  [one a core]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures there.")
def signalling(
    scenario_path: Path,
    rule: str,
    seeds: int,
    settings: tuple[str, ...],
    quick: bool,
    only: str | None,
    workers: int | None,
    json_path: Path | None,
) -> None:
    """Messages and cost of plans, polling and periodic status beside exact state, and what delay and loss do."""
    from benchmarks.provenance import provenance
    from benchmarks.scenario import read_scenario, with_settings
    from benchmarks.simulator.frontier import frontier, frontier_table, variants_named, variants_of
    from benchmarks.simulator.world import model_of
    from twin_service.decision.rules import rule_named

    rule_named(rule)
    variants = variants_of(is_quick=quick)
    if only is not None:
        variants = variants_named(variants, only)
    scenario = with_settings(read_scenario(scenario_path), settings)
    chosen = range(scenario.seed, scenario.seed + seeds)
    console = _console()
    with _reserved(json_path) as result_file:
        _, digest = model_of(scenario.model)
        about = provenance(seeds=list(chosen), digests={"model": digest})
        with _progress(console) as progress:
            found = frontier(scenario, rule, variants, chosen, workers=workers, progress=progress)
        console.print(frontier_table(found))
        _write(result_file, about, {"scenario": scenario.described(), "rule": rule, "variants": found})


@sim.command()
@click.argument("scenario_path", metavar="[SCENARIO.yaml]", required=False, type=click.Path(path_type=Path))
@click.option("--rule", default="open-loop", show_default=True, help="Rule of the twin.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value of the scenario.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures there.")
def capacity(scenario_path: Path | None, rule: str, settings: tuple[str, ...], json_path: Path | None) -> None:
    """What a fleet costs its one twin: planner, choice of edges, store; by default 10,000 devices and 50 edges.

    One process, tens of minutes; --set devices=1000 --set edges=5 --set tasks=6000 takes two.
    """
    from benchmarks.provenance import provenance
    from benchmarks.scenario import read_scenario, with_settings
    from benchmarks.simulator.fleet_run import fleet_lines, fleet_run
    from benchmarks.simulator.grid import SCENARIOS
    from benchmarks.simulator.world import model_of

    scenario = with_settings(read_scenario(scenario_path or SCENARIOS / "company.yaml"), settings)
    with _reserved(json_path) as result_file:
        about = provenance(seeds=[scenario.seed], digests={"model": model_of(scenario.model)[1]})
        found = fleet_run(scenario, rule, lambda text: click.echo(text, err=True))
        for line in fleet_lines(found):
            click.echo(line)
        _write(result_file, about, {"results": found})


@sim.command()
@click.argument("scenario_paths", metavar="[SCENARIO.yaml ...]", nargs=-1, type=click.Path(path_type=Path))
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Learning runs, from 1.")
@click.option("--quick", is_flag=True, help="Fewer tasks and, unless named, one scenario: under a minute.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; results do not depend on it.  [one a core]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures there.")
def learning(
    scenario_paths: tuple[Path, ...], seeds: int, quick: bool, workers: int | None, json_path: Path | None
) -> None:
    """Learning curves with counterfactual labels, without them and with one head; by default on three scenarios."""
    from benchmarks.provenance import provenance
    from benchmarks.scenario import read_scenario
    from benchmarks.simulator.grid import SCENARIOS
    from benchmarks.simulator.learning_curve import CurveSizes, curves_table, learning_curves, needed_lines
    from benchmarks.simulator.world import model_of

    usual = [SCENARIOS / f"{name}.yaml" for name in ("heavy-tailed", "slow-device", "demo")[: 1 if quick else None]]
    paths = scenario_paths or usual
    scenarios = [read_scenario(path) for path in paths]
    chosen = list(range(1, seeds + 1))
    sizes = CurveSizes.quick() if quick else CurveSizes()
    console = _console()
    with _reserved(json_path) as result_file:
        about = provenance(
            seeds=chosen,
            digests={f"model of {p.stem}": model_of(s.model)[1] for p, s in zip(paths, scenarios, strict=True)},
        )
        documents = []
        for path, scenario in zip(paths, scenarios, strict=True):
            with _progress(console, path.stem) as progress:
                found = learning_curves(scenario, chosen, sizes, workers=workers, progress=progress)
            documents.append({"name": path.stem} | found)
            console.print(path.stem)
            console.print(curves_table(found))
            for line in needed_lines(found):
                console.print(line)
        _write(result_file, about, {"scenarios": documents})


@sim.command()
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="So many, from 1.")
@click.option("--quick", is_flag=True, help="One scenario, fewer situations and tasks: under a minute.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; results do not depend on it.  [one a core]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures there.")
def pruning(seeds: int, quick: bool, workers: int | None, json_path: Path | None) -> None:
    """With and without the conditions R1-R3, and with and without the factor on caused waiting."""
    from benchmarks.provenance import provenance
    from benchmarks.scenario import read_scenario
    from benchmarks.simulator.grid import SCENARIOS
    from benchmarks.simulator.pruning import PruningSizes, pruned_and_not, pruning_lines
    from benchmarks.simulator.waiting_price import LOADED, prices_table, waiting_priced
    from benchmarks.simulator.world import model_of

    names = ("heavy-tailed", "slow-device", "tensors-only", "fleet")[: 1 if quick else None]
    scenarios = {name: read_scenario(SCENARIOS / f"{name}.yaml") for name in names}
    sizes = PruningSizes.quick() if quick else PruningSizes()
    chosen = list(range(1, seeds + 1))
    console = _console()
    with _reserved(json_path) as result_file:
        about = provenance(seeds=chosen, digests={"model": model_of(scenarios[names[0]].model)[1]})
        documents, prices = [], []
        for name, scenario in scenarios.items():
            with _progress(console, name) as progress:
                found = pruned_and_not(scenario, chosen, sizes, workers=workers, progress=progress)
            documents.append({"name": name} | found)
            for line in pruning_lines(name, found):
                console.print(line)
        for name, rates in list(LOADED.items())[: 1 if quick else None]:
            scenario = read_scenario(SCENARIOS / f"{name}.yaml")
            with _progress(console, f"{name}, price of waiting") as progress:
                rows = waiting_priced(
                    scenario, rates, chosen, tasks=400 if quick else 3000, workers=workers, progress=progress
                )
            console.print(f"{name}: with the factor on caused waiting and without")
            console.print(prices_table(rows))
            prices.append({"name": name, "scenario": scenario.described(), "rows": rows})
        _write(result_file, about, {"reduction": documents, "price_of_waiting": prices})


@sim.command()
@click.argument("scenario_path", metavar="[SCENARIO.yaml]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="So many, from the scenario's own on."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a value of the scenario.")
@click.option("--quick", is_flag=True, help="A shorter run: with two seeds under a minute.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; results do not depend on it.  [one a core]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the figures there.")
def regime(
    scenario_path: Path | None,
    seeds: int,
    settings: tuple[str, ...],
    quick: bool,
    workers: int | None,
    json_path: Path | None,
) -> None:
    """A twin that learns while it serves, before and after a step; by default on regime-change.yaml."""
    from benchmarks.provenance import provenance
    from benchmarks.scenario import read_scenario, with_settings
    from benchmarks.simulator.grid import SCENARIOS
    from benchmarks.simulator.regime import regime_change, regime_lines, regime_table, sized
    from benchmarks.simulator.world import model_of

    scenario = with_settings(read_scenario(scenario_path or SCENARIOS / "regime-change.yaml"), settings)
    scenario = sized(scenario, is_quick=quick)
    chosen = range(scenario.seed, scenario.seed + seeds)
    console = _console()
    with _reserved(json_path) as result_file:
        about = provenance(seeds=list(chosen), digests={"model": model_of(scenario.model)[1]})
        with _progress(console) as progress:
            found = regime_change(
                scenario, chosen, window_s=50.0 if quick else 100.0, workers=workers, progress=progress
            )
        console.print(regime_table(found))
        for line in regime_lines(found):
            console.print(line)
        _write(result_file, about, found)


def _console() -> Console:
    """Where there is no terminal, tables are as wide as they like."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH, soft_wrap=True)


@contextmanager
def _reserved(path: Path | None) -> Iterator[ResultFile | None]:
    """A place for a result, seen to be writable before a long run; ``None``: none is wanted."""
    if path is None:
        yield None
        return
    with ResultFile(path) as result_file:
        yield result_file


def _write(result_file: ResultFile | None, about: dict[str, Any], document: dict[str, Any]) -> None:
    """Say how long the run took and put ``document`` in place, if a place is wanted."""
    from benchmarks.provenance import ended

    click.echo(ended(about))
    if result_file is not None:
        result_file.write({"provenance": about} | document)


@contextmanager
def _progress(console: Console, unit: str = "runs") -> Iterator[Callable[[int, int], None]]:
    """A bar that is gone at the end; without a terminal lines on standard error, with the time that is left."""
    if not console.is_terminal:
        yield _told_in_lines(unit)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(unit, total=None)
        yield lambda done, known: bar.update(task, completed=done, total=known)


def _told_in_lines(unit: str) -> Callable[[int, int], None]:
    """A line where another twentieth is done; runs differ in length, so what is left is a rough estimate."""
    began_s, told = time.monotonic(), 0

    def tell(done: int, known: int) -> None:
        nonlocal told
        twentieths = _LINES * done // max(known, 1)
        if twentieths > told:
            told = twentieths
            spent_s = time.monotonic() - began_s
            left_s = spent_s * (known - done) / done
            click.echo(f"{done} of {known} {unit} after {spent_s:.0f} s, about {left_s:.0f} s to go", err=True)

    return tell
