"""How a comparison is shown: live on a terminal, as plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from benchmarks.figures import cells, plain_table, row_names
from benchmarks.scenario import Scenario
from benchmarks.testbed.result import RunResult, Snapshot

PLAIN_EVERY_S = 5.0


class ComparisonView(Protocol):
    """A view with a beginning and an end."""

    def begins(self, number: int, count: int, scenario: Scenario) -> None: ...

    def goes_on(self, snapshot: Snapshot) -> None: ...

    def ends(self, result: RunResult) -> None: ...

    def says(self, text: str) -> None:
        """A line for people."""
        ...

    def closes(self, results: Sequence[RunResult]) -> None:
        """The closing table."""
        ...

    def __enter__(self) -> ComparisonView: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def view_for(console: Console) -> ComparisonView:
    """Live where there is a terminal."""
    return LiveView(console) if console.is_terminal else PlainView(console)


class PlainView:
    """Lines for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._title = ""
        self._shown_at_s = 0.0

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def says(self, text: str) -> None:
        self._line(text)

    def begins(self, number: int, count: int, scenario: Scenario) -> None:
        self._title = f"run {number} of {count}, {_title(scenario)}"
        self._shown_at_s = 0.0
        self._line(f"{self._title}: starting twin, edge and device")

    def goes_on(self, snapshot: Snapshot) -> None:
        if snapshot.elapsed_s >= self._shown_at_s + PLAIN_EVERY_S:
            self._shown_at_s = snapshot.elapsed_s
            self._line(f"{self._title}: {progress_text(snapshot)}")

    def ends(self, result: RunResult) -> None:
        self._line(f"{self._title}: done, {result.summary.tasks} tasks, {result.summary.cost_s:.3f} s per task")

    def closes(self, results: Sequence[RunResult]) -> None:
        self._line("")
        for line in plain_table(results):
            self._line(line)
        self._line("")

    def _line(self, text: str) -> None:
        # Not the console's own wrapping: a log's reader searches lines.
        self._console.file.write(text + "\n")
        self._console.file.flush()


class LiveView:
    """A table that grows by a column per run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._results: list[RunResult] = []
        self._now: tuple[Scenario, Snapshot | None, str] | None = None

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def says(self, text: str) -> None:
        self._console.print(text, highlight=False)

    def begins(self, number: int, count: int, scenario: Scenario) -> None:
        self._now = (scenario, None, f"run {number} of {count}")
        self._show()

    def goes_on(self, snapshot: Snapshot) -> None:
        if self._now is not None:
            self._now = (self._now[0], snapshot, self._now[2])
            self._show()

    def ends(self, result: RunResult) -> None:
        self._results.append(result)
        self._now = None
        self._show()

    def closes(self, results: Sequence[RunResult]) -> None:
        self._live.stop()
        self._console.print(_table([(r.title, cells(r.summary, r.messages)) for r in results]))

    def _show(self) -> None:
        columns = [(r.title, cells(r.summary, r.messages)) for r in self._results]
        if self._now is None:
            self._live.update(_table(columns))
            return
        scenario, snapshot, place = self._now
        title = _title(scenario)
        if snapshot is None:
            columns.append((title, cells(None, 0)))
            bar, text = ProgressBar(total=scenario.seconds, completed=0.0, width=40), "starting twin, edge and device"
        else:
            columns.append((title, cells(snapshot.summary, snapshot.messages)))
            bar = ProgressBar(total=scenario.seconds, completed=max(0.0, snapshot.elapsed_s), width=40)
            text = progress_text(snapshot)
        self._live.update(Group(_table(columns), bar, Text(f"{place}, {title}: {text}")))


def progress_text(snapshot: Snapshot) -> str:
    """Where a run stands, in a line: frames, accuracy, latency, where tasks ended, messages per task."""
    if snapshot.elapsed_s < 0.0:
        return "other users are loading the edge; frames follow"
    parts = [f"{snapshot.elapsed_s:.0f} s"]
    summary = snapshot.summary
    if summary is None:
        parts.append(f"0 of {snapshot.expected} frames")
    else:
        parts.append(f"{summary.tasks} of {snapshot.expected} frames")
        if summary.accuracy is not None:
            parts.append(f"{100.0 * summary.accuracy:.0f} % right")
        if summary.latency_p50_s is not None:
            parts.append(f"latency {summary.latency_p50_s * 1e3:.0f} ms")
        parts.append(" ".join(f"{name} {count}" for name, count in summary.outcomes.items() if count))
        parts.append(f"{snapshot.messages / summary.tasks:.1f} messages per task")
    if snapshot.backlog_s is not None:
        parts.append(f"edge backlog {snapshot.backlog_s * 1e3:.0f} ms")
    return ", ".join(parts)


def _title(scenario: Scenario) -> str:
    rule = Path(scenario.rule).name  # of a rule of one's own only the file's
    return f"{rule}, polled" if scenario.is_polled else rule


def _table(columns: Sequence[tuple[str, Sequence[str]]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for title, _ in columns:
        table.add_column(title, justify="right", style="bold" if title == "multi-step" else "")
    for index, name in enumerate(row_names()):
        table.add_row(name, *(column[index] for _, column in columns))
    return table
