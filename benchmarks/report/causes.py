"""Why goals were missed and what was tried: written by people who read the full report, kept beside its data."""

from __future__ import annotations

CAUSES: dict[str, str] = {
    "gain-busy": (
        "in slow-device there is no such gain: clairvoyant itself takes less off. With 1.2 s for the whole network "
        "one-time sends the input or leaves at exit 1 in nearly all tasks, clairvoyant in four of five, so that little "
        "is left to decide under way. In heavy-tailed (jobs of infinite variance) clairvoyant takes little more off "
        "than was asked for. Tried: two heads instead of one, more tasks, steps and rates, another gate "
        "(docs/design/2026-11-24-learning.md)"
    ),
    "gap-least": (
        "in slow-device and heavy-tailed the edge's jobs vary most; presumably clairvoyant's lead is in knowing single "
        "long jobs ahead, which cannot be learned. Learning closes near half of what open-loop leaves open there. In "
        "the third cell learned decides as open-loop does, while learned-factual closes 0.93: there was something to "
        "learn that this cell's one lesson, or its gate, missed; the interval of the cell holds the goal"
    ),
}
"""By :attr:`Goal.key`. Printed only while the goal is missed."""
