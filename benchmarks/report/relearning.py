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
    pair = document["learning_on"]["later"]
    told = (
        f"{within(online['ratio'], online['ratio_ci'])} with learning on",
        f"{within(frozen['ratio'], frozen['ratio_ci'])} with weights frozen at the step",
        f"the one over the other {within(pair['ratio'], pair['ratio_ci'])}",
    )
    return f"Cost over open-loop's in the later half: {', '.join(told)}; {_verdict(pair['ratio_ci'])}"


def _verdict(ci: list[float] | None) -> str:
    if ci is None:
        return "one run tells no difference"
    if ci[1] < 1.0:
        return "learning on gained"
    if ci[0] > 1.0:
        return "learning on lost"
    return "no gain of learning on is shown"
