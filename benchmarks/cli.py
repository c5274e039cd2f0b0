"""``twinsplit demo`` and ``twinsplit bench``; what a benchmark needs is imported by its own command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.capacity.command import capacity
from benchmarks.load.command import load
from benchmarks.report.command import report
from benchmarks.results import RESULTS_FOLDER, ResultFile
from benchmarks.testbed_cli import fidelity, testbed
from twinsplit.numbers import FiniteRange

_RULES = "device-only,edge-only,one-time,multi-step"
_rules_option = click.option("--rules", default=_RULES, show_default=True, help="Rules, separated by commas.")
_seed_option = click.option("--seed", type=int, default=1, show_default=True, help="Of everything that is drawn.")
_json_option = click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the figures there.  [bench: benchmarks/results/NAME.json]",
)
_threads_option = click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of one inference."
)


@click.command()
@click.option(
    "--seconds",
    type=FiniteRange(min=0, min_open=True),
    default=15.0,
    show_default=True,
    help="Length of the arrivals per rule.",
)
@_rules_option
@_seed_option
@_json_option
def demo(seconds: float, rules: str, seed: int, json_path: Path | None) -> None:
    """Twin, edge and device on this machine under a bursty load: rules side by side on the same arrivals."""
    from rich.console import Console

    from benchmarks.demo import run_demo
    from benchmarks.scenario import changed_scenario
    from benchmarks.testbed.scenarios import DEMO
    from twin_service.decision.rules import rule_names

    scenario = changed_scenario(DEMO, seconds=seconds, seed=seed)
    run_demo(scenario, rule_names(rules), json_path, Console(highlight=False))


@click.group(invoke_without_command=True)
@click.pass_context
def bench(context: click.Context) -> None:
    """Benchmarks, into benchmarks/results/. Without a name: all that have a goal, one after the other."""
    if context.invoked_subcommand is None:
        for command in (segments, transport, overhead, planning):
            context.invoke(command)


@bench.command()
@click.option("--rounds", type=click.IntRange(min=1), default=200, show_default=True, help="Runs of each way.")
@_threads_option
@_seed_option
@_json_option
def segments(rounds: int, threads: int, seed: int, json_path: Path | None) -> None:
    """Segments over the whole network: the shipped one, AlexNet, ResNet-50."""
    from benchmarks.segments import lines, measure
    from benchmarks.testbed.scenarios import SHIPPED_MODEL

    _measured(
        "segments",
        json_path,
        [seed],
        lambda: measure(SHIPPED_MODEL, rounds=rounds, threads=threads, seed=seed, progress=_say),
        lines,
    )


@bench.command()
@click.option("--rounds", type=click.IntRange(min=1), default=300, show_default=True, help="Echoes of each way.")
@_seed_option
@_json_option
def transport(rounds: int, seed: int, json_path: Path | None) -> None:
    """Device to edge and back beside raw TCP, a bare stream and a bytes field."""
    from benchmarks.transport import METHODS, measure

    def lines(found: dict[str, Any]) -> list[str]:
        out = [f"{'bytes':>9}  " + "  ".join(f"{method + ' ms (p95)':>18}" for method in METHODS) + "  ours/bare (p95)"]
        for row in found["rows"]:
            cells = "  ".join(f"{row[m]['median_s'] * 1e3:8.3f} ({row[m]['p95_s'] * 1e3:7.3f})" for m in METHODS)
            verdict = "met" if row["median_s_is_met"] and row["p95_s_is_met"] else "MISSED"
            ratios = f"{row['median_s_ratio']:.2f} ({row['p95_s_ratio']:.2f})"
            out.append(f"{row['bytes']:>9}  {cells}  {ratios} {verdict}")
        return out

    _measured("transport", json_path, [seed], lambda: measure(rounds, seed=seed), lines)


@bench.command()
@click.option("--tasks", type=click.IntRange(min=20), default=300, show_default=True, help="Tasks that are counted.")
@_threads_option
@_seed_option
@_json_option
def overhead(tasks: int, threads: int, seed: int, json_path: Path | None) -> None:
    """Whole task, AlexNet cut in the middle: what is not computing."""
    from benchmarks.overhead import lines, measure

    _measured(
        "overhead",
        json_path,
        [seed],
        lambda: measure(tasks=tasks, threads=threads, seed=seed, progress=_say),
        lines,
    )


@bench.command()
@click.option("--rounds", type=click.IntRange(min=1), default=300, show_default=True, help="Calls of each way.")
@click.option("--engines", is_flag=True, help="Start Triton and MLServer (make engines) and measure them, too.")
@click.option(
    "--against",
    multiple=True,
    metavar="NAME=HOST:PORT",
    help="Measure a server that runs already, too; it holds what --export writes. May be repeated.",
)
@click.option(
    "--export",
    "export_folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Only write the tails that are asked for, as DIR/NAME/1/model.onnx, and measure nothing.",
)
@_seed_option
@_json_option
def oip(
    rounds: int,
    engines: bool,
    against: tuple[str, ...],
    export_folder: Path | None,
    seed: int,
    json_path: Path | None,
) -> None:
    """ModelInfer of an edge beside its own stream, and beside other servers of the Open Inference Protocol."""
    from benchmarks.oip import export, lines, measure, named_addresses

    others = named_addresses(against)
    if export_folder is not None:
        export(export_folder)
        return
    _measured(
        "oip",
        json_path,
        [seed],
        lambda: measure(rounds, seed=seed, against=others, with_engines=engines, progress=_say),
        lines,
    )


@bench.command()
@_threads_option
@_seed_option
@_json_option
def exits(threads: int, seed: int, json_path: Path | None) -> None:
    """Exits trained afterwards (model add-exits) beside those trained with the shipped network."""
    from benchmarks.exits import lines, measure
    from benchmarks.testbed.scenarios import SHIPPED_MODEL

    _measured(
        "exits", json_path, [seed], lambda: measure(SHIPPED_MODEL, threads=threads, seed=seed, progress=_say), lines
    )


@bench.command()
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each way.")
@click.option("--seconds", type=FiniteRange(min=0.1), default=5.0, show_default=True, help="Time of each run.")
@_seed_option
@_json_option
def batching(rounds: int, seconds: float, seed: int, json_path: Path | None) -> None:
    """An edge with 64 busy streams: tails in batches against tails one by one."""
    from benchmarks.batching import lines, measure
    from benchmarks.testbed.scenarios import SHIPPED_MODEL

    _measured(
        "batching",
        json_path,
        [seed],
        lambda: measure(SHIPPED_MODEL, rounds=rounds, seconds=seconds, seed=seed, progress=_say),
        lines,
    )


@bench.command()
@click.option("--repeats", type=click.IntRange(min=1), default=1000, show_default=True, help="Plans per process size.")
@click.option("--rule", default="multi-step", show_default=True, help="Rule that plans.")
@_seed_option
@_json_option
def planning(repeats: int, rule: str, seed: int, json_path: Path | None) -> None:
    """Planning one device, with 1 to 10,000 devices in one process."""
    from benchmarks.planning import lines, measure
    from benchmarks.testbed.scenarios import SHIPPED_MODEL

    _measured(
        "planning",
        json_path,
        [seed],
        lambda: measure(SHIPPED_MODEL, rule=rule, repeats=repeats, seed=seed, progress=_say),
        lines,
    )


@bench.command()
@click.option("--devices", type=click.IntRange(min=3), default=120, show_default=True, help="Devices of the fleet.")
@click.option("--seconds", type=FiniteRange(min=1), default=10.0, show_default=True, help="Time of each number.")
@_json_option
def replicas(devices: int, seconds: float, json_path: Path | None) -> None:
    """What is left of a twin's load with two and three replicas."""
    from benchmarks.replicas import lines, measure
    from benchmarks.testbed.scenarios import SHIPPED_MODEL

    _measured(
        "replicas",
        json_path,
        [],
        lambda: measure(SHIPPED_MODEL, devices=devices, seconds=seconds, progress=_say),
        lines,
    )


@bench.command("edge-ways")
@click.option(
    "--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Points of each way and load."
)
@click.option("--seconds", type=FiniteRange(min=1), default=6.0, show_default=True, help="Time of each point.")
@_seed_option
@_json_option
def edge_ways(repeats: int, seconds: float, seed: int, json_path: Path | None) -> None:
    """An edge past what it holds: tails in a thread, in a process of their own, or all of it on one core."""
    from benchmarks.load.edge_ways import lines, measure
    from benchmarks.testbed.scenarios import SHIPPED_MODEL

    _measured(
        "edge-ways",
        json_path,
        [seed],
        lambda: measure(SHIPPED_MODEL, repeats=repeats, seconds=seconds, seed=seed, say=_say),
        lines,
    )


@bench.command("engine-hop")
@click.option("--rounds", type=click.IntRange(min=10), default=200, show_default=True, help="Calls of each way, cut.")
@click.option("--load-s", type=FiniteRange(min=1), default=15.0, show_default=True, help="Time under load of each way.")
@_seed_option
@_json_option
def engine_hop(rounds: int, load_s: float, seed: int, json_path: Path | None) -> None:
    """Tails by the edge itself beside engines behind it: another edge, Triton, MLServer (make engines)."""
    from benchmarks.engine_hop import lines, measure
    from benchmarks.testbed.scenarios import SHIPPED_MODEL

    _measured(
        "engine-hop",
        json_path,
        [seed],
        lambda: measure(SHIPPED_MODEL, rounds=rounds, load_s=load_s, seed=seed, progress=_say),
        lines,
    )


bench.add_command(testbed)
bench.add_command(fidelity)
bench.add_command(report)
bench.add_command(load)
bench.add_command(capacity)


def _measured(
    name: str,
    json_path: Path | None,
    seeds: Sequence[int],
    measure: Callable[[], dict[str, Any]],
    lines: Callable[[dict[str, Any]], list[str]],
) -> None:
    """Reserve the place of the result, measure, print, write."""
    from benchmarks.provenance import provenance

    with ResultFile(json_path or RESULTS_FOLDER / f"{name}.json") as result_file:
        about = provenance(seeds=seeds)
        _say(f"{name}:")
        found = measure()
        for line in lines(found):
            click.echo(line)
        result_file.write({"provenance": about, "results": found})
        _say(f"written to {result_file.path.name}")


def _say(text: str) -> None:
    click.echo(text, err=True)
