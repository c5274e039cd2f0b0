"""``docs/load.md`` and its figures, drawn from the two documents of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.load import edge_points, twin_points
from benchmarks.load.window import BUSY_SERVICE
from benchmarks.provenance import shown_commit
from benchmarks.report.looks import BLUE, GREEN, GREY, VERMILLION, canvas, legend_below, png, quiet
from benchmarks.report.text import table

EDGE_FIGURE, TWIN_FIGURE = "figures/load-edge.png", "figures/load-twin.png"
_MS = 1e3


def page(edge: Mapping[str, Any], twin: Mapping[str, Any]) -> str:
    """The page as Markdown."""
    return "\n".join(
        [
            "# Load: how much one edge and one twin service hold",
            "",
            "<!-- Made by `twinsplit bench load` (benchmarks/load/page.py); do not edit. -->",
            "",
            "`make load` measures it on one machine over loopback (about 20 minutes; `LOAD_ARGS=--quick`: one to two "
            "minutes, into build/load; `LOAD_ARGS='--part twin'`: one of the two alone). Devices are real streams, "
            "each on a connection of its own, spread over generator processes. A generator is one thread: where it "
            "takes more than 85 % of a core, or sends later than it should, its point is marked `generator`, and the "
            "service may hold more than the figure says. `machine` marks points at which all cores were in use, by "
            "generators and service together. `edge` or `twin` marks those at which the service itself was "
            f"{BUSY_SERVICE:.0%} busy, the edge by the time in which it computed tails (`twinsplit_busy_share`): a "
            "core that streams and tails fill together, 1.00 in the column of cores, is at its limit under `none` too.",
            "",
            "## One edge",
            "",
            *_origin(edge),
            "",
            *_edge_capacity(edge["results"]),
            "",
            *_edge_knee(edge["results"]),
            "",
            f"![Edge: capacity, and what becomes of more]({EDGE_FIGURE})",
            "",
            "## One twin service",
            "",
            *_origin(twin),
            "",
            *_twin(twin["results"]),
            "",
            f"![Twin service: plan delay and messages]({TWIN_FIGURE})",
            "",
            "## An edge that no longer reads",
            "",
            "Back-pressure ends at the device: an edge that leaves its connection open but reads nothing costs a "
            "device at most as many payloads as it may keep (`kept_tensors`), one that is being written, and what "
            "gRPC's window holds. What waits unsent is forgotten when its task is given up; the queue of frames is "
            "bounded by `queue_capacity` as always, and every task still has one outcome. "
            "Held by tests/integration/test_stalled_edge.py.",
            "",
        ]
    )


def figures(edge: Mapping[str, Any], twin: Mapping[str, Any]) -> dict[str, bytes]:
    """PNGs by their place beside the page."""
    return {EDGE_FIGURE: _edge_figure(edge["results"]), TWIN_FIGURE: _twin_figure(twin["results"])}


def _origin(document: Mapping[str, Any]) -> list[str]:
    about, found = document["provenance"], document["results"]
    machine = about["machine"]
    out = [
        f"Figures of this part: {about['written_at'][:10]}, {machine['processor']}, {machine['cores']} cores for "
        f"everything, load average {machine['load_average']} before the run, commit {shown_commit(about['commit'])}, "
        f"`{about['command']}`; "
        f"{found['seconds']:g} s per point after {found['warm_up_s']:g} s that are not counted."
    ]
    if found["is_quick"]:
        out += [
            "",
            "**These are figures of a short run, with fewer devices, on a machine that was busy with other work: they "
            "show that it works, not what it holds.** The full ones are still to be taken on a quiet machine, by "
            "`make load`.",
        ]
    return out


def _edge_capacity(found: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            str(point["devices"]),
            f"{point['answers_per_s']:.0f}",
            _ms(point["latency_s"]["p50"]),
            _ms(point["latency_s"]["p99"]),
            f"{point['service_cpu_cores']:.2f}",
            _percents(point["generators"]),
            _limits(point),
        ]
        for point in found["capacity"]
    ]
    return [
        f"Tasks per second with {found['in_flight']} tails of cut {found['cut']} always under way per device (one "
        "thread "
        "per inference; the queue holds all of them, so nothing is refused):",
        "",
        table(["devices", "answers/s", "p50, ms", "p99, ms", "edge, cores", "generators, of a core", "limit"], rows),
    ]


def _edge_knee(found: Mapping[str, Any]) -> list[str]:
    own_core = (
        " The edge has a core of its own (`--core`), the generators the others, so that it has as much of the machine "
        "past the knee as before it."
    )
    lines = [
        f"Independent arrivals that wait for nothing, from {found['knee_devices']} devices, each task with a "
        "deadline of "
        f"{found['deadline_s'] * _MS:g} ms from its arrival; latencies are of what was answered, counted from when a "
        f"task was due. Queue and all else at their defaults. Capacity: {found['capacity_per_s']:.0f} tasks/s. Runs of "
        f"{found['run_seconds']:g} s, {found['repeats']} of each load, in random order: a row is the median one by "
        "answers in time, in brackets the fewest and the most."
        f"{own_core if found.get('has_own_core') else ''}",
        "",
        _knee_table(found["knee"]),
        "",
        *(f"- {line}" for line in edge_points.lines(found)),
    ]
    if found.get("on_any_core"):
        lines += [
            "",
            "The same without `--core`, edge and generators on any core: the edge's threads then take turns across "
            "cores, and the one that computes waits for Python's lock at every segment.",
            "",
            _knee_table(found["on_any_core"]),
        ]
    lines += [
        "",
        "What limits an edge there, and what a process of its own for its tails brings (`--computing process`): "
        "[past saturation](design/2026-11-29-edge-past-saturation.md).",
    ]
    return lines


def _knee_table(points: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"{point['factor']:g}",
            f"{point['offered_per_s']:.0f}",
            _in_time(point),
            str(point["ended"].get("late", 0)),
            _refused(point),
            _ms(point["latency_s"]["p50"]),
            _ms(point["latency_s"]["p99"]),
            _percents(point["generators"]),
            _limits(point),
        ]
        for point in points
    ]
    heads = [
        "offered/capacity",
        "offered/s",
        "in time/s",
        "late",
        "refused",
        "p50, ms",
        "p99, ms",
        "generators",
        "limit",
    ]
    return table(heads, rows)


def _in_time(point: Mapping[str, Any]) -> str:
    """Median, and range of all runs."""
    least, most = _in_time_range(point)
    return f"{point['in_time_per_s']:.0f} ({least:.0f} to {most:.0f})"


def _in_time_range(point: Mapping[str, Any]) -> tuple[float, float]:
    each = [float(run["in_time_per_s"]) for run in point["runs"]]
    return min(each), max(each)


def _twin(found: Mapping[str, Any]) -> list[str]:
    heads = [
        *("devices", "reports/s offered", "dealt with", "messages/s", "plan delay p50, ms", "p95, ms", "p99, ms"),
        *("twin, cores", "MB", "kB per device", "generators, of a core", "held", "limit"),
    ]

    def rows(points: Sequence[Mapping[str, Any]]) -> list[list[str]]:
        return [
            [
                str(point["devices"]),
                f"{point['offered_reports_per_s']:.0f}",
                f"{point['reports_per_s']:.0f}",
                f"{point['messages_per_s']:.0f}",
                _ms(point["plan_delay_s"]["p50"]),
                _ms(point["plan_delay_s"]["p95"]),
                _ms(point["plan_delay_s"]["p99"]),
                f"{point['service_cpu_cores']:.2f}",
                f"{point['service_memory_mb']:.0f}",
                f"{point['memory_kb_per_device']:.0f}",
                _percents(point["generators"]),
                "yes" if point["is_held"] else "no",
                _limits(point),
            ]
            for point in points
        ]

    return [
        "Devices say what devices say: a report when a task has ended, which also tells of the next one where it "
        "starts at once, and before it an announcement of a task that starts on an idle device; messages count in "
        "both directions. There is an edge whose backlog moves, and which tells its arrivals, so that tasks are "
        "replayed for as much of the core as that may take; nothing is learnt from them (`learning_share` 0: it would "
        "take a quarter of the core). "
        f"{'The twin service has one core, the generators the others. ' if found['is_pinned'] else ''}"
        f"Every {found['change_s']:g} s a device tells of an uplink for which its plan cannot stay: from that report's "
        f"due time to the new plan is the plan delay. A point is held when {twin_points.HELD:.0%} of what was offered "
        f"is dealt with and the p95 of plan delays is within {found['plan_goal_s'] * _MS:g} ms: one plan in twenty may "
        "be later, and where the p99 is above that, more than one in a hundred was. Half a second "
        "is there on an idle twin, too: a plan is not weighed sooner after it was weighed before. Memory per device "
        "is what attaching them added, plans included, in a new twin service for every point; what the first device "
        "brings into memory counts with it, so the largest number of devices is the one to read.",
        "",
        f"More and more devices, {found['task_rate_per_s']:g} task a second each:",
        "",
        table(heads, rows(found["by_devices"])),
        "",
        f"More and more reports of {found['message_devices']} devices:",
        "",
        table(heads, rows(found["by_messages"])),
        "",
        *(f"- {line}" for line in twin_points.lines(found)),
    ]


def _edge_figure(found: Mapping[str, Any]) -> bytes:
    figure = canvas(9.0, 3.2)
    left, middle, right = figure.subplots(1, 3)
    capacity, knee = found["capacity"], found["knee"]
    left.plot(*_xy(capacity, "devices", lambda p: p["answers_per_s"]), color=BLUE, marker="o")
    for point in capacity:
        if "generator" in point["limits"]:
            left.plot(point["devices"], point["answers_per_s"], color=VERMILLION, marker="o", linestyle="none")
    left.set_xscale("log", base=2)
    left.set_ylim(bottom=0.0)
    quiet(left, "held (red: generator is the limit)", "devices", "answers/s")
    middle.plot(*_xy(knee, "factor", lambda p: p["offered_per_s"]), color=GREY, linestyle=":", label="offered")
    middle.plot(*_xy(knee, "factor", lambda p: p["in_time_per_s"]), color=BLUE, marker="o", label="answered in time")
    least, most = zip(*(_in_time_range(point) for point in knee), strict=True)
    middle.fill_between([point["factor"] for point in knee], least, most, color=BLUE, alpha=0.2, linewidth=0.0)
    middle.plot(
        *_xy(knee, "factor", lambda p: _refused_count(p) / found["run_seconds"]),
        color=VERMILLION,
        marker="x",
        label="refused",
    )
    quiet(middle, f"{found['knee_devices']} devices", "offered load / capacity", "tasks/s")
    right.plot(
        *_xy(knee, "factor", lambda p: _MS * (p["latency_s"]["p50"] or 0.0)), color=GREEN, marker="s", label="p50"
    )
    right.plot(
        *_xy(knee, "factor", lambda p: _MS * (p["latency_s"]["p99"] or 0.0)), color=BLUE, marker="D", label="p99"
    )
    right.axhline(_MS * found["deadline_s"], color=GREY, linestyle="--", label="deadline")
    right.set_ylim(bottom=0.0)
    right.legend(fontsize=8, frameon=False)
    quiet(right, "latency of what is answered", "offered load / capacity", "ms")
    legend_below(figure, middle, 3)
    return png(figure)


def _plan_delay_ms(share: str, point: Mapping[str, Any]) -> float:
    return _MS * float(point["plan_delay_s"][share] or 0.0)


def _twin_figure(found: Mapping[str, Any]) -> bytes:
    figure = canvas(9.0, 3.2)
    left, middle, right = figure.subplots(1, 3)
    goal_ms = _MS * found["plan_goal_s"]
    for axes, points, name, title in (
        (left, found["by_devices"], "devices", f"{found['task_rate_per_s']:g} task/s each"),
        (middle, found["by_messages"], "offered_reports_per_s", f"{found['message_devices']} devices"),
    ):
        for share, colour, marker in (("p50", GREEN, "s"), ("p95", BLUE, "D")):
            delays = _xy(points, name, partial(_plan_delay_ms, share))
            axes.plot(*delays, color=colour, marker=marker, label=f"plan delay, {share}")
        axes.axhline(goal_ms, color=GREY, linestyle="--", label="held up to")
        axes.set_ylim(bottom=0.0)
        quiet(axes, title, "devices" if name == "devices" else "reports/s offered", "ms")
    messages = found["by_messages"]
    right.plot(*_xy(messages, "offered_reports_per_s", lambda p: p["offered_reports_per_s"]), color=GREY, linestyle=":")
    right.plot(*_xy(messages, "offered_reports_per_s", lambda p: p["reports_per_s"]), color=BLUE, marker="o")
    right.set_ylim(bottom=0.0)
    quiet(right, "dealt with (dotted: offered)", "reports/s offered", "reports/s")
    legend_below(figure, left, 3)
    return png(figure)


def _xy(
    points: Sequence[Mapping[str, Any]], name: str, value: Callable[[Mapping[str, Any]], float]
) -> tuple[list[float], list[float]]:
    return [point[name] for point in points], [value(point) for point in points]


def _refused_count(point: Mapping[str, Any]) -> int:
    return sum(count for end, count in point["ended"].items() if end not in ("answered", "late", "lost"))


def _refused(point: Mapping[str, Any]) -> str:
    found = [f"{count} {end}" for end, count in point["ended"].items() if end not in ("answered", "late")]
    return ", ".join(found) or "none"


def _limits(point: Mapping[str, Any]) -> str:
    return " and ".join(point["limits"]) or "none"


def _percents(shares: Sequence[float]) -> str:
    return ", ".join(f"{share:.0%}" for share in shares)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * _MS:.1f}"
