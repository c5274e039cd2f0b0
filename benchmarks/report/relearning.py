"""What became of tracking and of weights after a change of regime, and whether learning on gained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.report.figures.regime import TRACKED
from benchmarks.report.text import within

Document = Mapping[str, Any]


def relearnt(document: Document) -> str:
    """How soon the twin tracks the new regime, promotions, and the cost beside weights that stay as they were."""
    tracked = "; ".join(
        f"{TRACKED[name][0]} within 10 % {_when(track['near_since_step_s'])}"
        for name, track in document["tracked"].items()
    )
    weights, runs = document["weights"], len(document["provenance"]["seeds"])
    served = sum(version > 0 for version in weights["serving_at_step"])
    return (
        f"{tracked}; weights served at the step in {served} of {runs} runs, promotions after it: "
        f"{weights['counts']['after'].get('promoted', 0)}. {_learning_on(document)}"
    )


def _when(near_s: float | None) -> str:
    return "never" if near_s is None else f"{near_s:.0f} s after the step"


def _learning_on(document: Document) -> str:
    online, frozen = (document["rules"][f"learned-{how}"]["spans"]["later"] for how in ("online", "frozen"))
    costs = ", ".join(
        f"{within(span['ratio'], span['ratio_ci'])} with {words}"
        for span, words in ((online, "learning on"), (frozen, "weights frozen at the step"))
    )
    return f"Cost over open-loop's in the later half: {costs}; {_verdict(online['ratio_ci'], frozen['ratio_ci'])}"


def _verdict(online: list[float] | None, frozen: list[float] | None) -> str:
    if online is None or frozen is None:
        return "one run tells no difference"
    if online[1] < frozen[0]:
        return "learning on gained"
    if online[0] > frozen[1]:
        return "learning on lost"
    return "the intervals overlap, so that no gain of learning on is shown"
