"""Tables of stored results for the pages of docs; ``docs/tables.py`` writes them into their places.

Each begins with where its figures come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.provenance import shown_commit
from benchmarks.report.text import percent, table
from benchmarks.results import RESULTS_FOLDER

_MS = 1e3
_BATCHING_NAMES = {"alexnet-fashion": "shipped, axis opened", "alexnet-224": "AlexNet 224"}
_WAYS = {"thread": "thread (default)", "process": "process", "one core": "one core (`--core`)"}
_ENGINES = {
    "local": "the edge itself",
    "edge": "another edge of ours",
    "triton": "Triton, Python backend",
    "mlserver": "MLServer",
    "slow edge": "an edge slowed 30 times",
    "two slow": "two such edges",
}


def batching() -> str:
    """Throughput in batches over that of tails one by one."""
    head = ("network", "tail after cut", "payload", "one by one, tails/s", "in batches", "ratio", "of rounds")
    document, found = _results("batching")
    rows = [
        (
            _BATCHING_NAMES[row["network"]],
            str(row["cut"]),
            _size(row["bytes"]),
            f"{row['alone_per_s']:,.0f}",
            f"{row['batched_per_s']:,.0f}",
            f"{row['ratio']:.2f}{'' if row['is_batched'] else ', not batched: nothing but noise'}",
            f"{min(row['ratios']):.2f} to {max(row['ratios']):.2f}",
        )
        for row in found["rows"]
    ]
    runs = f"Medians of {found['rounds']} rounds of {found['seconds']:g} s a way, in random order."
    return _shown(document, head, rows, runs)


def edge_ways() -> str:
    """An edge offered more than it holds, in three ways."""
    document, found = _results("edge-ways")
    offered = list(next(iter(found["points"].values())))
    latency = f"one device, {found['quiet_per_s']:g} tasks/s: p50, p95"
    rows = [
        (
            _WAYS[way],
            f"{found['capacity_per_s'][way]:,.0f}",
            *(_median_and_range([point["in_time_per_s"] for point in points]) for points in by_offered.values()),
            ", ".join(_median_ms([run[q] for run in found["quiet_latency_s"][way]]) for q in ("p50", "p95")),
        )
        for way, by_offered in found["points"].items()
    ]
    more = (
        f"{found['devices']} devices. Answers in time a second: median and range of three points of "
        f"{found['seconds']:g} s; offered in parts of what a thread answers with all streams busy."
    )
    return _shown(document, ("", "all streams busy", *offered, latency), rows, more)


def engine_hop() -> str:
    """What a hop to an engine costs at each cut."""
    ways = ("local", "edge", "triton", "mlserver")
    document, found = _results("engine-hop")
    rows = [
        (
            f"{row['cut']}, {_size(row['bytes'])}",
            *(_hop(way, row["ways"][way]) for way in ways),
        )
        for row in found["rows"]
    ]
    return _shown(document, ("cut, payload", *(_ENGINES[way] for way in ways)), rows)


def engine_waits() -> str:
    """Waits behind engines under load, and how far off the foretold ones were."""
    document, found = _results("engine-hop")
    rows = [
        (
            name,
            f"{engine['answered']:,}",
            f"{_MS * engine['mean_wait_s']:.1f} ms",
            f"{_MS * engine['error_s']:.1f} ms",
        )
        for way, name in _ENGINES.items()
        if (engine := found["backlog"][way])["error_s"] is not None
    ]
    return _shown(document, ("engine", "tails", "mean wait", "mean error"), rows)


def open_inference() -> str:
    """ModelInfer beside the stream, a bare server and other servers of the protocol."""
    head = (
        *("payload", "stream", "ModelInfer", "bare `grpc.aio`", "Triton, Python backend", "MLServer"),
        "ModelInfer over the faster other: median, p95",
    )
    document, found = _results("oip")
    rows = []
    for row in found["rows"]:
        fastest = row["oip_over_fastest"]
        ratios = (fastest["median"]["ratio"], fastest["p95_ratio"])
        ways = [_median_and_p95(row[way]) for way in ("stream", "oip", "bare", "triton", "mlserver")]
        rows.append((_size(row["bytes"]), *ways, ", ".join(_judged(ratio, 1.0) for ratio in ratios)))
    return _shown(document, head, rows, f"{found['rounds']} calls of each way; in bold what misses the goal of 1.")


def replicas() -> str:
    """What is left of a twin's load with several replicas."""
    head = (
        *("replicas", "devices of each", "messages of each, one alone = 1", "processor time of each, one alone = 1"),
        "of all together: messages, processor time",
    )
    document, found = _results("replicas")
    rows = [
        (
            str(len(row["replicas"])),
            ", ".join(str(each["devices"]) for each in row["replicas"]),
            ", ".join(f"{each['messages_per_task_share']:.2f}" for each in row["replicas"]),
            ", ".join(f"{each['cpu_s_per_task_share']:.2f}" for each in row["replicas"]),
            f"{row['messages_per_task_total']:.2f}, {row['cpu_s_per_task_total']:.2f}",
        )
        for row in found["rows"]
        if len(row["replicas"]) > 1
    ]
    return _shown(document, head, rows)


def exits() -> str:
    """Exits trained afterwards beside those trained with the network."""
    document, found = _results("exits")
    first, second = (each["cut"] for each in found["joint"])
    head = (
        *("exits", f"MACs after cut {first}, {second}", f"right after cut {first}", f"after cut {second}"),
        *(f"agree with the network after cut {first}", f"after cut {second}"),
    )
    joint = ("the shipped ones: joint, 55,000 frames, labels", *_exit_cells(found["joint"]), "", "")
    rows = [
        (row["recipe"], *_exit_cells(row["exits"]), *(percent(each["agreement"]) for each in row["exits"]))
        for row in found["rows"]
    ]
    return _shown(document, head, [joint, *rows])


def soak() -> str:
    """What became of tasks and memory under random faults."""
    document = _document("soak")
    faults, ends = document["faults"], document["outcomes"]
    rows = [
        (name, f"{grown['mean_mb']:.0f}", f"{grown['slope_mb_per_min']:+.3f}", f"{grown['slope_low_mb_per_min']:+.3f}")
        for name, grown in document["growth"].items()
    ]
    more = (
        f"{document['seconds'] / 60.0:.0f} minutes, {sum(faults.values())} faults of {len(faults)} kinds; "
        f"{document['submitted']:,} tasks: {', '.join(f'{count:,} {end}' for end, count in ends.items())}, "
        f"{document['broken']} broken off by a kill, {document['untaken']} not taken by a device that was down. "
        + ("; ".join(document["problems"]) or "None was lost or doubled.")
    )
    return _shown(document, ("process", "resident, MB", "MB a minute", "at least"), rows, more)


def _results(name: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The whole document, and its results."""
    document = _document(name)
    return document, document["results"]


def _document(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((RESULTS_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _shown(document: Mapping[str, Any], head: Sequence[str], rows: Iterable[Sequence[str]], more: str = "") -> str:
    about = document["provenance"]
    machine = about["machine"]
    origin = (
        f"{about['written_at'][:10]}, {machine['processor']}, {machine['cores']} cores, load average "
        f"{machine['load_average']} before the run, commit {shown_commit(about['commit'])}, `{about['command']}`."
    )
    return f"\n{origin} {more}".rstrip() + f"\n\n{table(head, rows)}\n\n"


def _exit_cells(exits: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return ", ".join(f"{each['macs'] / 1e6:.2f} M" for each in exits), *(percent(each["accuracy"]) for each in exits)


def _hop(way: str, times: Mapping[str, Any]) -> str:
    shown = f"{_MS * times['median_s']:.2f} ms"
    return shown if way == "local" else f"{shown}, {times['ratio']:.1f} times"


def _median_and_p95(times: Mapping[str, Any]) -> str:
    """Milliseconds."""
    return f"{_MS * times['median_s']:.2f} ({_MS * times['p95_s']:.2f})"


def _median_ms(values: Sequence[float]) -> str:
    return f"{_MS * median(values):.2f} ms"


def _median_and_range(values: Sequence[float]) -> str:
    return f"{median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"


def _judged(ratio: float, goal: float) -> str:
    return f"**{ratio:.2f}**" if ratio > goal else f"{ratio:.2f}"


def _size(count: int) -> str:
    if count >= 1_000_000:
        return f"{count / 1e6:.1f} MB"
    return f"{count / 1e3:.0f} kB"


TABLES = {
    "batching": batching,
    "edge-ways": edge_ways,
    "engine-hop": engine_hop,
    "engine-waits": engine_waits,
    "exits": exits,
    "open-inference": open_inference,
    "replicas": replicas,
    "soak": soak,
}
