"""A snapshot as a terminal shows it. Pure: snapshot, history and size in, something that rich can print out."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from twin_service.top.strip import strip

_BACKLOGS_KEPT = 24
_LEAST_TASKS = 4
_DEVICE_LINES = 2
_BARS = "▁▂▃▄▅▆▇█"
_WORDS = {"continue": "go on", "exit": "exit", "tensor": "tensor", "input": "input"}
_OUTCOME_STYLES = {"exit": "green", "device": "cyan", "edge": "blue", "dropped": "yellow", "failed": "red"}
_UNKNOWN = "-"


class BacklogHistory:
    """Backlogs of edges over the last snapshots, for small curves."""

    def __init__(self) -> None:
        self._seen: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_BACKLOGS_KEPT))

    def add(self, snapshot: dict[str, Any]) -> None:
        """One more snapshot."""
        for edge in snapshot["edges"]:
            if edge["predicted_backlog_s"] is not None:
                self._seen[edge["id"]].append(edge["predicted_backlog_s"])

    def curve(self, edge_id: str) -> str:
        """One sign per snapshot, scaled to the largest."""
        seen = self._seen.get(edge_id, ())
        largest = max(seen, default=0.0)
        return "".join(_BARS[round((len(_BARS) - 1) * (b / largest if largest > 0.0 else 0.0))] for b in seen)


def screen(
    snapshot: dict[str, Any], history: BacklogHistory, *, url: str, height: int | None = None, trouble: str = ""
) -> RenderableType:
    """All of it, in at most ``height`` lines (``None``: as many as it takes); ``trouble``: why nothing newer comes."""
    devices, edges, tasks = snapshot["devices"], snapshot["edges"], snapshot["tasks"]
    shown_edges = edges if height is None else edges[: max(1, height // 5)]
    left = None
    if height is not None:
        # Head, totals and trouble; a heading and an empty line for each of the three lists; what is not shown.
        left = height - 3 - bool(trouble) - 3 * 2 - len(shown_edges) - (len(shown_edges) < len(edges))
        most = max(1, (left - _LEAST_TASKS - 1) // _DEVICE_LINES)
        devices = devices[:most]
        left -= _DEVICE_LINES * len(devices) + (len(devices) < snapshot["devices_total"])
    parts: list[RenderableType] = [_head(snapshot, url), *_totals(snapshot["totals"])]
    if trouble:
        parts.append(Text(trouble, style="bold red", no_wrap=True, overflow="ellipsis"))
    parts += [Text(), *_device_lines(devices)]
    parts += _more(snapshot["devices_total"] - len(devices), "devices", "see one with --device NAME")
    parts += [Text(), _edge_table(shown_edges, history)]
    parts += _more(len(edges) - len(shown_edges), "edges", "")
    parts += [Text(), _task_table(tasks if left is None else tasks[: max(0, left)])]
    return Group(*parts)


def _head(snapshot: dict[str, Any], url: str) -> Text:
    shown, total = sum(device["is_attached"] for device in snapshot["devices"]), snapshot["devices_total"]
    clock = time.strftime("%H:%M:%S", time.localtime(snapshot["time_unix_s"]))
    return _line(
        ("twinsplit top", "bold"),
        url,
        _clean(snapshot["rule"]),
        f"{shown}/{total} devices",
        clock,
    )


def _totals(totals: dict[str, Any]) -> list[Text]:
    ended = totals["tasks"]
    energy = f"{_joules(totals['energy_joules'])} per task ({_clean(totals['energy_source'] or 'source unknown')})"
    outcomes = Text("  ", no_wrap=True, overflow="ellipsis").join(
        Text(f"{name} {count / ended:.0%}", style=_OUTCOME_STYLES.get(name, ""))
        for name, count in sorted(totals["outcomes"].items(), key=lambda item: -item[1])
    )
    counts = _line(
        f"{ended} tasks",
        f"{_percent(totals['accuracy'])} right",
        f"{_ms(totals['latency_mean_s'])}, p95 {_ms(totals['latency_p95_s'])}",
        energy if totals["energy_joules"] is not None else "energy unknown",
    )
    messages = _number(totals["messages_per_task"])
    return [counts, _line(outcomes, f"{messages} messages per task") if ended else _line("no task has ended yet")]


def _device_lines(devices: Sequence[dict[str, Any]]) -> list[RenderableType]:
    """Two lines each: how it stands, and what its plan says now. Widths are fixed, so that they align."""
    columns = (("device", 12), ("position", 26), ("queue", -5), ("uplink", -9), ("mirror", -6), ("report", -7))
    lines: list[RenderableType] = [_table(*columns, is_fixed=True)]
    for device in devices:
        is_attached, uplink, mirror = device["is_attached"], device["uplink"], device["mirror"]
        queue = device["queue_length"]
        row = _table(*columns, is_fixed=True, has_head=False)
        _add(
            row,
            Text(_clean(device["id"]), style="bold" if is_attached else "dim"),
            strip(device["model"], device["task"]) if is_attached else Text("detached", style="dim"),
            _UNKNOWN if queue is None else f"{queue:.1f}",
            _UNKNOWN if uplink is None else _rate(uplink["goodput_bytes_per_s"]),
            _percent(mirror["accuracy"]),
            _age(mirror["report_age_s"]),
        )
        lines += [row, _plan_line(device)]
    return lines


def _plan_line(device: dict[str, Any]) -> Text:
    """What the standing plan says at the present backlog, epoch by epoch."""
    plan = device["plan"]
    if plan is None:
        return Text("  no plan stands" if device["is_attached"] else "", style="dim")
    by_epoch: dict[int, list[str]] = {}
    for row in plan["rows"]:
        word = _WORDS.get(row["cells"][plan["band"]], _UNKNOWN)
        words = by_epoch.setdefault(row["epoch"], [])
        if word not in words:
            words.append(word)
    parts = [f"{epoch} {'/'.join(words)}" for epoch, words in sorted(by_epoch.items()) if words != ["go on"]]
    said = f"after {', '.join(parts)}" if parts else "go on to the end"
    backlog = "no edge" if plan["edge_id"] is None else f"backlog {_ms(plan['backlog_s'])}"
    sign = "degraded: " if device["is_degraded"] else ""
    text = f"  {sign}plan {plan['plan_id']}, {backlog}: {said}"
    return Text(text, style="yellow" if sign else "dim", no_wrap=True, overflow="ellipsis")


def _edge_table(edges: Sequence[dict[str, Any]], history: BacklogHistory) -> Table:
    table = _table(("edge", 12), ("backlog", -8), ("", 24), ("busy", -5), ("queue", -5), ("speed", -6), ("error", -8))
    for edge in edges:
        is_attached = edge["is_attached"]
        speed = edge["speed_factor"]
        _add(
            table,
            Text(_clean(edge["id"]), style="bold" if is_attached else "dim"),
            _ms(edge["predicted_backlog_s"]) if is_attached else "detached",
            Text(history.curve(edge["id"]) if is_attached else "", style="blue"),
            _percent(edge["busy_share"], 0),
            _UNKNOWN if edge["queue_length"] is None else f"{edge['queue_length']:.0f}",
            _UNKNOWN if speed is None else f"x{speed:.2f}",
            _ms(edge["backlog_error_s"]),
        )
    return table


def _task_table(tasks: Sequence[dict[str, Any]]) -> Table:
    table = _table(
        ("ended", 8),
        ("device", 10),
        ("answer", 10),
        ("sure", -4),
        ("where", 13),
        ("took", -7),
        ("go on/exit/edge, s", 19),
    )
    for task in tasks:
        _add(
            table,
            time.strftime("%H:%M:%S", time.localtime(task["time_unix_s"])),
            _clean(task["device"]),
            _clean(task["label"] or _UNKNOWN),
            _percent(task["confidence"], 0),
            Text(_where(task), style=_OUTCOME_STYLES.get(task["outcome"], "")),
            _ms(task["latency_s"]),
            _payoffs(task),
        )
    return table


def _where(task: dict[str, Any]) -> str:
    outcome = task["outcome"]
    if outcome == "exit":
        return f"exit after {task['exit']}" if task["exit"] is not None else "exit"
    if outcome == "edge":
        cut = "input" if task["payload"] == "input" else f"cut {task['stop_epoch']}"
        return f"edge, {cut}"
    return str(outcome) if outcome == "device" else f"{outcome}: {task['reason']}"


def _payoffs(task: dict[str, Any]) -> Text:
    """Worth of going on, the exit and the edge at the stop; the best is bold."""
    payoffs = task["payoffs"]
    if payoffs is None:
        return Text(_clean(task["reason"]), style="dim")
    values = [payoffs["continue_s"], payoffs["exit_s"], payoffs["offload_s"]]
    best = max((value for value in values if value is not None), default=None)
    shown = [
        Text(_UNKNOWN if value is None else f"{value:.2f}", style="bold" if value is not None and value == best else "")
        for value in values
    ]
    return Text(" / ").join(shown)


def _more(count: int, what: str, cure: str) -> list[Text]:
    text = f"and {count} more {what}" + (f" ({cure})" if cure else "")
    return [Text(text, style="dim")] if count > 0 else []


def _table(*columns: tuple[str, int], is_fixed: bool = False, has_head: bool = True) -> Table:
    """Columns of at most, or exactly, the given widths; negative: numbers."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", show_header=has_head)
    for name, signed_width in columns:
        width, side = abs(signed_width), "right" if signed_width < 0 else "left"
        table.add_column(
            name,
            justify=side,  # type: ignore[arg-type] # a literal either way
            width=width if is_fixed else None,
            max_width=width,
            no_wrap=True,
            overflow="ellipsis",
        )
    return table


def _add(table: Table, *cells: str | Text) -> None:
    # Of a plain string rich would take what is in brackets for a style.
    table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))


def _line(*parts: str | Text | tuple[str, str]) -> Text:
    texts: Iterable[Text] = (
        part if isinstance(part, Text) else Text(*part) if isinstance(part, tuple) else Text(part) for part in parts
    )
    line = Text("  ", no_wrap=True, overflow="ellipsis").join(texts)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _clean(text: str) -> str:
    """Text of others without what a terminal might obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return _UNKNOWN
    return f"{seconds * 1000:.0f} ms" if seconds < 10.0 else f"{seconds:.0f} s"


def _age(seconds: float | None) -> str:
    return _UNKNOWN if seconds is None else f"{seconds:.1f} s" if seconds < 1000.0 else "long"


def _percent(share: float | None, digits: int = 1) -> str:
    return _UNKNOWN if share is None else f"{100 * share:.{digits}f}%"


def _number(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}"


def _joules(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.3g} J"


def _rate(bytes_per_s: float | None) -> str:
    if bytes_per_s is None:
        return _UNKNOWN
    for unit, size in (("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3)):
        if bytes_per_s >= size:
            return f"{bytes_per_s / size:.3g} {unit}"
    return f"{bytes_per_s:.0f} B/s"
