"""``docs/capacity.md`` and its figure, drawn from the result of ``twinsplit bench capacity``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.capacity.inputs import Inputs
from benchmarks.capacity.needs import Assumptions, devices_per_edge, needs, twin_share
from benchmarks.provenance import shown_commit
from benchmarks.report.looks import BLUE, GREEN, GREY, VERMILLION, canvas, png, quiet
from benchmarks.report.text import table

FIGURE = "figures/capacity.png"
_ADDED = {
    ("twin", "core"): "a replica of the twin (its devices are shared out)",
    ("twin", "memory"): "a replica, or a larger limit of its pod",
    ("twin", "setting max_devices"): "a larger `max_devices`, if memory and core allow it; else a replica",
    (
        "twin",
        "pace of saving",
    ): "nothing: documents are then older than `save_s`, and a crash loses more counts",
    ("twin", "network"): "a replica on another machine, or a faster network",
    ("edge", "core"): "another edge, on another core or machine",
    ("edge", "network"): "another edge on another machine, or a faster network",
    ("cell", "shared PostgreSQL"): "another cell, with a server of its own; or none: SQLite at each replica",
    ("cell", "replicas in a list"): "another cell: edges and twins that know nothing of the others",
    ("cell", "edges that a twin keeps"): "the same",
    ("cell", "what edges say"): "the same; or a larger `report_threshold_s` of the edges",
}
_TOO_MUCH = "More than one core has: the twin would have fallen behind, and plans would have come later than simulated."
_INPUTS = (
    # (Title, key, factor, unit, where from)
    ("one task at the twin, over real streams, one edge", "twin_task_s", 1e3, "ms of a core", "load-twin.json"),
    ("the twin's core alone, one edge", "one_edge_task_s", 1e3, "ms of a core", "capacity-one-edge.json"),
    ("the twin's core alone, many edges", "many_edges_task_s", 1e3, "ms of a core", "capacity-settled.json"),
    ("attaching a device and planning it, many edges", "attach_s", 1e3, "ms of a core", "capacity-simulation.json"),
    ("planning one of many devices", "plan_s", 1e3, "ms of a core", "planning.json"),
    ("one report of an edge at the twin", "edge_report_s", 1e3, "ms of a core", "capacity-settled.json"),
    ("memory of an attached device, plan included", "twin_device_bytes", 1e-3, "kB", "load-twin.json"),
    ("memory of a twin without devices", "twin_base_bytes", 1e-6, "MB", "load-twin.json"),
    ("one tail, the whole shipped network, over real streams", "tail_s", 1e3, "ms of a core", "load-edge.json"),
    ("tasks that end at an edge", "offloaded", 1.0, "of all", "capacity-settled.json"),
    ("payload of such a task", "payload_bytes", 1e-3, "kB", "capacity-settled.json"),
    ("messages of a task between device and twin", "messages_per_task", 1.0, "", "capacity-settled.json"),
    ("bytes of these", "message_bytes_per_task", 1.0, "bytes", "capacity-settled.json"),
    ("the same in another fleet, signs of life included", "fleet_messages_per_task", 1.0, "", "signalling-fleet.json"),
    ("signs of life and renewals of a device", "messages_per_s", 1.0, "per second", "capacity-settled.json"),
    ("messages between an edge and a twin", "edge_messages_per_s", 1.0, "per second", "capacity-settled.json"),
    ("a device's document", "document_bytes", 1.0, "bytes", "capacity-simulation.json"),
    ("saving it in SQLite, replayed tasks in between", "document_s", 1e3, "ms of a core", "capacity-simulation.json"),
    ("written to disk for it, likewise", "written_bytes_per_document", 1e-3, "kB", "capacity-simulation.json"),
)  # fmt: skip


def page(document: Mapping[str, Any]) -> str:
    """The page as Markdown."""
    found = document["results"]
    return "\n".join(
        [
            "# Capacity: what a fleet needs",
            "",
            "<!-- Made by `twinsplit bench capacity` (benchmarks/capacity/page.py); do not edit. -->",
            "",
            "How many twins, edges, cores, bytes and documents 1,000, 100,000 and 10 million devices take, "
            "calculated from what was measured on one machine with two cores. **Nothing here was run at these "
            "sizes**; what was run is named: real streams up to the devices in [load](load.md), and a simulated "
            f"fleet of {found['simulation']['devices']:,} devices and {found['simulation']['edges']} edges around the "
            "real twin core, planner and database. `twinsplit bench capacity --task-rate 0.2` calculates it for "
            "other devices; better, measure your own network first (`make load`, `twinsplit sim capacity` with your "
            "scenario).",
            "",
            *_assumptions(found),
            "",
            "## What first",
            "",
            *_limits(found),
            "",
            f"![Cores by size of the fleet; how full one twin is]({FIGURE})",
            "",
            "## The three fleets",
            "",
            *_fleets(found),
            "",
            "## Two replicas",
            "",
            *_held(found),
            "",
            "## What it is calculated from",
            "",
            *_inputs(found),
            "",
            "## How",
            "",
            *_formulas(),
            "",
            "## The simulated fleet",
            "",
            *_simulation(found),
            "",
        ]
    )


def figures(document: Mapping[str, Any]) -> dict[str, bytes]:
    """PNGs by their place beside the page."""
    return {FIGURE: _figure(document["results"])}


def _assumptions(found: Mapping[str, Any]) -> list[str]:
    assumed = found["assumed"]
    lines = [
        f"Assumed: {assumed['task_rate_per_s']:g} task a second and device; a twin and a tail's core at most "
        f"{assumed['most_share']:.0%} busy, the rest being for bursts, replays and learning; "
        f"{_size(assumed['memory_bytes'])} for a twin and {8e-9 * assumed['link_bytes_per_s']:g} Gbit/s for a "
        f"machine; documents saved in rounds of {assumed['save_s']:g} s, at most {assumed['saved_per_s']:,.0f} "
        f"a second; at most {assumed['most_devices']:,} devices (setting `max_devices`) and {assumed['most_edges']} "
        f"edges in one twin; at most {assumed['most_replicas']} twins in a [list of replicas](how-to/replicas.md).",
    ]
    if quick := [name for name in ("twin", "edge") if found["inputs"][f"{name}_is_quick"]]:
        lines += [
            "",
            f"**The load on the {' and the '.join(quick)} was measured by a short run on a busy machine**: a quiet "
            "one holds more.",
        ]
    lines += [
        "",
        "**Twins are counted high**: the twin's time over streams holds its replays, for which a share is kept free "
        f"anyway; and what choosing among edges adds was measured with {found['inputs']['many_edges']} of them and is "
        "added in every fleet. From seven edges on a device looks at few "
        "([several edges](how-to/several-edges.md#which-edge-is-used)); with fewer it adds less.",
    ]
    return lines


def _limits(found: Mapping[str, Any]) -> list[str]:
    rows = [
        [limit["unit"], limit["resource"], f"{limit['devices']:,.0f}", _ADDED[limit["unit"], limit["resource"]]]
        for limit in found["limits"]
    ]
    first = {unit: next(row for row in rows if row[0] == unit) for unit in ("twin", "edge", "cell")}
    return [
        f"Of one twin (a process that uses one core) the {first['twin'][1]} is used up first, at {first['twin'][2]} "
        f"devices; of one edge with one core for tails the {first['edge'][1]}, at {first['edge'][2]}; of one cell the "
        f"{first['cell'][1]}, at {first['cell'][2]}. Networks come last: signalling is small, and tensors are sent "
        "where that pays.",
        "",
        table(["of one", "resource", "devices until it is used up", "then add"], rows, left=2),
    ]


def _fleets(found: Mapping[str, Any]) -> list[str]:
    fleets: Sequence[Mapping[str, Any]] = found["fleets"]
    assumed = found["assumed"]
    rows: list[tuple[str, str, Any]] = [
        ("tasks per second", "tasks_per_s", _count),
        ("cells", "cells", _count),
        ("twins", "twins", _count),
        ("twin cores", "twin_cores", _count),
        ("memory of all twins", "twin_memory_bytes", _size),
        ("messages to and from all twins, per second", "twin_messages_per_s", _count),
        ("bytes of these, per second", "twin_bytes_per_s", _size),
        ("tails per second", "tails_per_s", _count),
        ("cores for tails", "edge_cores", _count),
        ("edges, of one core for tails", "edges", _count),
        ("mean wait there", "tail_wait_s", lambda value: f"{1e3 * value:.1f} ms"),
        ("payload bytes, per second", "payload_bytes_per_s", _size),
        ("documents saved, per second", "documents_per_s", _count),
        ("cells, where the twins of each share a PostgreSQL", "sharing_cells", _count),
        ("written to disks for that, per second", "written_bytes_per_s", _size),
        ("documents kept", "documents_bytes", _size),
        ("a twin's devices attach anew, all at once", "attach_all_s", lambda value: f"{value:.1f} s"),
    ]
    heads = ["", *(f"{fleet['devices']:,} devices" for fleet in fleets)]
    return [
        table(heads, [[title, *(show(fleet[key]) for fleet in fleets)] for title, key, show in rows]),
        "",
        "A *cell* is a set of edges and the twins that plan for them: every twin keeps every edge of its cell, "
        f"{assumed['most_edges']} at most, each edge reports to every twin of it, and a list of replicas names "
        f"{assumed['most_replicas']} at most. What edges say grows with edges times twins, so make cells no larger "
        "than they need be: a plant, a city; what is near belongs together anyway. Cells share nothing. An edge with "
        "more cores runs one process per core, each an edge of its own.",
        "",
        "With [shared PostgreSQL](how-to/postgresql.md) the documents of all twins of a cell go to one server. That it "
        f"takes {assumed['shared_per_s']:,.0f} a second is **a reading by hand**, on a busy machine of two cores "
        "([how much it takes](how-to/postgresql.md#how-much-it-takes)); a server of its own was not measured. Each "
        "replica has one session: `max_connections`, 100 by default, is enough for one cell, not for two on one "
        "server.",
    ]


def _held(found: Mapping[str, Any]) -> list[str]:
    held, share = found["held"], found["assumed"]["most_share"]
    return [
        "**Calculated, not measured**: two twins and their devices need four cores, and no machine with four was at "
        f"hand. With {held['edges']} edges and cores at most {share:.0%} busy:",
        "",
        table(
            ["", "devices", "tasks per second"],
            [
                [title, f"{held[f'devices_of_{key}']:,.0f}", f"{held[f'tasks_per_s_of_{key}']:,.0f}"]
                for title, key in (("one twin", "one"), ("two replicas", "two"))
            ],
        ),
        "",
        "Two hold a little less than twice as much, since devices are shared out at random: the busier one is reckoned "
        "with two standard deviations more than half of them. What edges say both hear, "
        f"{held['edges_share']:.3f} of a core each. That messages halve was measured: "
        "[replicas](how-to/replicas.md#what-was-tried).",
    ]


def _inputs(found: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            title,
            f"{_plain(factor * found['inputs'][key])} {unit}".strip(),
            f"[{origin}](../benchmarks/results/{origin})",
        ]
        for title, key, factor, unit, origin in _INPUTS
    ]
    inputs = found["inputs"]
    origins = [
        f"{name} {about['written_at'][:10]}, commit {shown_commit(about['commit'])}, load {about['load_average']:g}"
        for name, about in found["origins"].items()
    ]
    return [
        table(["measured", "", "in"], rows, left=3),
        "",
        f"When, of which commit, and the load average of the machine before it: {'; '.join(origins)}. Where that load "
        "is far above 0, processor times are longer than on a quiet machine.",
        "",
        "Times are of one core of the machine named in each file. The twin was seen to hold "
        f"{inputs['twin_devices_held']:,} devices at {inputs['twin_held_rate_per_s']:g} task a second each over real "
        f"streams; message rates were counted at {inputs['settled_rate_per_s']:.2f} tasks a second and device, with "
        f"{inputs['many_edges']} edges, after {_count(found['settled']['tasks_before'])} tasks of each device.",
    ]


def _formulas() -> list[str]:
    return [
        "Every one is in `benchmarks/capacity/laws.py` and `needs.py`, with its source, and tested against numbers "
        "worked out apart (`tests/unit/benchmarks/test_capacity.py`).",
        "",
        "- Busy share, *U = X S*: rate times service time (utilisation law; Denning and Buzen 1978). Twins and edges "
        "are as many as keep U below what is allowed.",
        "- A task costs a twin what was measured over streams with one edge and the most devices that were held, and "
        "what choosing among many edges adds to its core: the difference of two simulated fleets that have run for a "
        "while, so that a plan is weighed again where something has changed, not because what is tracked of a device "
        "has yet to settle.",
        "- Mean wait at an edge, *W = U S / (2 (1 - U))*: one queue, Poisson arrivals, equal service times "
        "(Pollaczek and Khinchine; Kleinrock 1975). Other users' work at the edge comes on top.",
        "- Documents: those that have changed are written in rounds, one every `save_s`, each at most once in a round: "
        "*N P / round*, at the pace of saving at most. *P = 1 - exp(-rate round)*; it is 1 here, since devices say "
        "something within a round.",
        "- Devices per replica: binomial with *1/k* (rendezvous hashing; Thaler and Ravishankar 1998).",
        "- Messages: those that tasks bring about times the task rate, those that go by time times devices, those of "
        "edges times edges *times twins*.",
    ]


def _simulation(found: Mapping[str, Any]) -> list[str]:
    run, settled = found["simulation"], found["settled"]
    attach_s = sum(kind["seconds"] for name, kind in run["attached"].items() if name != "rule")
    rows = [
        [kind, f"{took['calls']:,}", f"{1e3 * took['seconds'] / took['calls']:.3f}", f"{1e3 * took['longest_s']:.0f}"]
        for kind, took in run["served"].items()
    ]
    spread, store = run["by_edge"], run["store"]
    moves = run["plans_by_cause"].get("edge-better", 0)
    save = run["served"]["save"]
    return [
        f"`twinsplit sim capacity`: {run['devices']:,} devices of three speeds, {run['edges']} edges with bursts of "
        f"other users' work, {run['tasks']:,} tasks in {run['simulated_s']:.1f} simulated seconds. Devices, queues, "
        "links and messages are simulated; the twin is the product's own core, with its planner choosing among the "
        "edges for every device, its replays and its SQLite file. Its time was measured while it ran, on one core "
        "that other work may have shared.",
        "",
        f"- Attaching and planning all: {attach_s:.1f} s of a core, {1e3 * attach_s / run['devices']:.2f} ms a device.",
        f"- Serving: {run['twin_core_share']:.2f} of a core for {run['tasks'] / run['simulated_s']:,.0f} tasks a "
        f"second, {1e3 * run['twin_core_share'] * run['simulated_s'] / run['tasks']:.2f} ms a task, replays and "
        f"savings included. {_TOO_MUCH if run['twin_core_share'] > 1.0 else 'One core is enough.'}",
        f"- Devices planned for an edge: {spread['devices_last']['least']:.0f} to "
        f"{spread['devices_last']['most']:.0f} (mean {spread['devices_last']['mean']:.0f}); tasks that an edge "
        f"answered: {spread['tasks_answered']['least']:.0f} to {spread['tasks_answered']['most']:.0f}; {moves:,} "
        "plans named a better edge than the one before.",
        f"- Store: {store['documents_written']:,} documents of {store['document_mean_bytes']:.0f} bytes and "
        f"{store['replay_written']:,} replayed tasks in {save['seconds']:.2f} s, {_size(store['written_bytes'])} "
        f"handed to the file system. The law of saving above allows {found['foretold_documents']:,.0f} documents.",
        f"- {run['share_answered']:.2%} answered, {run['outcomes']['edge'] / sum(run['outcomes'].values()):.0%} at an "
        f"edge; cost {run['cost_s']:.3f} s a task. The simulation took {run['core_s'] / 60.0:.0f} minutes of one core.",
        "",
        table(["the twin was asked for", "times", "ms each", "longest, ms"], rows),
        "",
        "`rule` is part of the ticks that plan: what is left of those is choosing edges, making tables and lists. "
        "The longest times are collections of garbage, the simulator's own with it. Devices have had few tasks each "
        "by then, so that what is tracked of them still moves with every one, and is weighed again. A fleet of "
        f"{settled['devices']:,} devices and {settled['edges']} edges took the twin's core "
        f"{1e3 * found['inputs']['many_edges_task_s']:.2f} ms a task after {_count(settled['tasks_before'])} tasks of "
        "each device.",
    ]


def _figure(found: Mapping[str, Any]) -> bytes:
    inputs, assumed = Inputs(**found["inputs"]), Assumptions(**found["assumed"])
    figure = canvas(9.0, 3.2)
    left, right = figure.subplots(1, 2)
    sizes = [round(10.0 ** (3.0 + step / 5.0)) for step in range(21)]
    fleets = [needs(inputs, assumed, size) for size in sizes]
    left.plot(sizes, [fleet.twin_cores for fleet in fleets], color=BLUE, label="twins, cores")
    left.plot(sizes, [fleet.edge_cores for fleet in fleets], color=VERMILLION, label="tails, cores")
    left.plot(sizes, [fleet.cells for fleet in fleets], color=GREY, linestyle=":", label="cells")
    left.set_xscale("log")
    left.set_yscale("log")
    quiet(left, "a fleet", "devices", "")
    core = next(
        limit["devices"] for limit in found["limits"] if limit["unit"] == "twin" and limit["resource"] == "core"
    )
    ramp = [1.5 * core * step / 40.0 for step in range(1, 41)]
    memory = [inputs.twin_base_bytes + devices * inputs.twin_device_bytes for devices in ramp]
    edges = [devices / devices_per_edge(inputs, assumed) for devices in ramp]
    right.plot(
        ramp,
        [twin_share(inputs, assumed, d, e) for d, e in zip(ramp, edges, strict=True)],
        color=BLUE,
        label="core",
    )
    right.plot(ramp, [size / assumed.memory_bytes for size in memory], color=GREEN, label="memory")
    right.plot(ramp, [devices / assumed.most_devices for devices in ramp], color=VERMILLION, label="max_devices")
    right.axhline(assumed.most_share, color=GREY, linestyle="--", label="core, allowed")
    right.set_ylim(0.0, 1.1)
    quiet(right, "one twin", "devices", "share used")
    for axes in (left, right):
        axes.legend(fontsize=8, frameon=False)
    return png(figure)


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10.0 or value == int(value) else _plain(value)


def _plain(value: float) -> str:
    """Three digits that count."""
    if value == 0.0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def _size(value: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{_plain(value / size)} {unit}"
    return f"{value:.0f} B"
