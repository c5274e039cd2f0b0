"""A device's segments as a strip of signs with the predicted position filling it."""

from __future__ import annotations

from typing import Any

from rich.text import Text

WIDTH = 26
_PARTS = " ▏▎▍▌▋▊▉█"
_WIDEST_SEGMENT = 6
_EXIT_RUN, _EXIT_LEFT_OUT, _CUT = "◆", "◇", "│"


def strip(model: dict[str, Any] | None, task: dict[str, Any] | None, width: int = WIDTH) -> Text:
    """``model`` and ``task`` of a snapshot's device; an exit that is run is a full diamond behind its segment."""
    if model is None:
        return Text("no manifest yet", style="dim")
    count = len(model["segments"])
    position = None if task is None else float(task["position"])
    each = min((width - count) // count, _WIDEST_SEGMENT) if count else 0
    if each < 1:  # too many to tell apart
        share = 0.0 if position is None else position / max(count, 1)
        return Text(_filled(share, width), style="reverse" if task is None else "cyan on grey23")
    exits = {exit["after_segment"]: exit["is_run"] for exit in model["exits"]}
    line = Text()
    for index in range(count):
        share = 0.0 if position is None else min(max(position - index, 0.0), 1.0)
        line.append(_filled(share, each), style="cyan on grey23")
        after = exits.get(index + 1)
        sign = _CUT if after is None else _EXIT_RUN if after else _EXIT_LEFT_OUT
        line.append(sign, style="green" if after else "dim")
    return line


def _filled(share: float, width: int) -> str:
    """A bar of ``width`` signs, filled by ``share``."""
    eighths = round(8 * width * min(max(share, 0.0), 1.0))
    whole, rest = divmod(eighths, 8)
    return (_PARTS[8] * whole + (_PARTS[rest] if rest else "")).ljust(width)
