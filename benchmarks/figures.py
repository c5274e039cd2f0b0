"""The closing table: one column per run, one row per figure, the same for people and for lines without a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.books import Summary
from benchmarks.testbed.result import RunResult

Row = tuple[str, Callable[[Summary], str]]


def rows() -> list[Row]:
    """Name of the figure and how it is read from a summary; messages per task come from the run."""
    return [
        ("tasks", lambda s: str(s.tasks)),
        ("answered", lambda s: _percent(s.share_answered)),
        ("accuracy (right of all tasks)", lambda s: _percent(s.accuracy, 1)),
        ("accuracy as calibrated", lambda s: _percent(s.booked_accuracy, 1)),
        ("latency p50 / p95, ms", lambda s: f"{_ms(s.latency_p50_s)} / {_ms(s.latency_p95_s)}"),
        ("energy per task, J", lambda s: f"{s.energy_joules:.3f}"),
        ("energy source", lambda s: s.energy_source),
        ("ended at an exit", lambda s: _share(s, s.outcomes["exit"])),
        ("ended on the device", lambda s: _share(s, s.outcomes["device"])),
        ("ended at the edge: tensor", lambda s: _share(s, s.payloads["tensor"])),
        ("ended at the edge: input", lambda s: _share(s, s.payloads["input"])),
        ("dropped or failed", lambda s: _share(s, s.outcomes["dropped"] + s.outcomes["failed"])),
    ]


COST_ROW = "cost per task, s"
MESSAGES_ROW = "messages per task"


def cells(summary: Summary | None, messages: int) -> list[str]:
    """One column; ``summary`` ``None``: nothing has ended yet."""
    if summary is None:
        return ["-"] * (len(rows()) + 2)
    column = [read(summary) for _, read in rows()]
    return [*column, f"{summary.cost_s:.3f} ± {summary.cost_error_s:.3f}", f"{messages / summary.tasks:.2f}"]


def row_names() -> list[str]:
    """First column."""
    return [*(name for name, _ in rows()), COST_ROW, MESSAGES_ROW]


def plain_table(results: Sequence[RunResult]) -> list[str]:
    """The table as lines of fixed width."""
    columns = [["", *row_names()]]
    columns += [[result.title, *cells(result.summary, result.messages)] for result in results]
    widths = [max(map(len, column)) for column in columns]
    table = []
    for line in zip(*columns, strict=True):
        first, *others = (
            cell.ljust(w) if not i else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        table.append("  ".join([first, *others]).rstrip())
    table.insert(1, "-" * max(map(len, table)))
    return table


def _percent(share: float | None, digits: int = 0) -> str:
    return "?" if share is None else f"{100.0 * share:.{digits}f} %"


def _share(summary: Summary, count: int) -> str:
    return _percent(count / summary.tasks)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.0f}"
