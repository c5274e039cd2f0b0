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
        "the rest is mostly foresight: a clairvoyant that sees nothing ahead closes 0.839 and 0.795 of the gap itself "
        "(What foresight is worth). In slow-device most of it is knowing the device's own next tasks, in heavy-tailed "
        "knowing what comes to the edge. Tried without gain in heavy-tailed: 40,000 tasks and 4,000 steps, counts of "
        "arrivals beside arrived work; in slow-device the uplink's rate as a feature brought 0.03, not enough"
    ),
}
"""By :attr:`Goal.key`. Printed only while the goal is missed."""
