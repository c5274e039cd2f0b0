"""Figures as words and tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Interval = Sequence[float] | None


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; the first ``left`` columns stand at the left, the others are numbers."""
    lines = [_line(head), _line(["---"] * left + ["---:"] * (len(head) - left))]
    return "\n".join([*lines, *map(_line, rows)])


def folded(summary: str, content: str) -> str:
    """Content that is seen when it is asked for."""
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"


def within(value: float | None, interval: Interval = None, digits: int = 3, factor: float = 1.0) -> str:
    """A figure with its interval of 95 %; nothing where it is not known."""
    if value is None:
        return ""
    text = f"{factor * value:.{digits}f}"
    if interval is None:
        return text
    return f"{text} ({factor * interval[0]:.{digits}f} to {factor * interval[1]:.{digits}f})"


def percent(share: float, digits: int = 1) -> str:
    """A share as people say it."""
    return f"{100.0 * share:.{digits}f} %"


def listed(words: Sequence[str], most: int = 6) -> str:
    """Some of many, and how many more there are."""
    if len(words) <= most:
        return "; ".join(words)
    return "; ".join(words[:most]) + f"; and {len(words) - most} more"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
