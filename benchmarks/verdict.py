"""What a comparison showed, in words that follow from its figures, also when the product's rule did not win."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.testbed.result import RunResult
from twinsplit.types import Outcome

PRODUCT = "multi-step"
_CERTAIN_ERRORS = 2.0
"""A difference of so many standard errors is more than chance."""


def sentence(results: Sequence[RunResult]) -> str:
    """The last line of the demo: who cost least, where the product's tasks ended, how many messages that took."""
    rules = [result for result in results if not result.is_polled]
    product = next((result for result in rules if result.rule == PRODUCT), None)
    if product is None or len(rules) < 2:
        return _alone(product or rules[0]) + _signalling(results, product or rules[0])
    others = sorted((r for r in rules if r is not product), key=lambda r: r.summary.cost_s)
    return f"{_ranking(product, others)} {_ends(product)}{_signalling(results, product)}"


def failures(results: Sequence[RunResult]) -> list[str]:
    """A line for every run in which a rule of one's own failed."""
    return [
        f"{result.title}: the rule failed {result.rule_failures} times, and the plans that stood were kept; the last "
        f"time: {result.last_rule_failure or 'see the log of the twin'}"
        for result in results
        if result.rule_failures
    ]


def difference(first: RunResult, second: RunResult) -> tuple[float, float]:
    """Mean cost of ``first`` less that of ``second`` and its standard error, seconds, task by task where both met the
    same tasks."""
    if len(first.costs_s) == len(second.costs_s):
        return _mean_and_error(first.costs_s - second.costs_s)
    mean = first.summary.cost_s - second.summary.cost_s
    return mean, math.hypot(first.summary.cost_error_s, second.summary.cost_error_s)


def _ranking(product: RunResult, others: Sequence[RunResult]) -> str:
    cost = product.summary.cost_s
    best = others[0]
    gap_s, error_s = difference(best, product)
    if gap_s > 0.0:
        less = "; ".join(f"{_percent_less(cost, o.summary.cost_s)} {o.rule} ({o.summary.cost_s:.3f} s)" for o in others)
        text = f"{PRODUCT} cost least, {cost:.3f} s per task: {less}."
    else:
        text = (
            f"{PRODUCT} did NOT cost least here: {cost:.3f} s per task, where {best.rule} cost "
            f"{best.summary.cost_s:.3f} s."
        )
    if abs(gap_s) < _CERTAIN_ERRORS * error_s:
        text += (
            f" The distance to {best.rule} ({abs(gap_s):.3f} s, standard error {error_s:.3f}) is within chance for "
            f"{product.summary.tasks} tasks."
        )
    return text


def _percent_less(cost: float, other: float) -> str:
    if cost <= 0.0 or other <= 0.0:
        return f"{other - cost:.3f} s less than"
    return f"{100.0 * (1.0 - cost / other):.0f} % less than"


def _ends(result: RunResult) -> str:
    outcomes, payloads, tasks = result.summary.outcomes, result.summary.payloads, result.summary.tasks
    parts = [
        (outcomes[Outcome.EXIT.value], "at an exit"),
        (outcomes[Outcome.DEVICE.value], "on the device"),
        (payloads["tensor"], "at the edge from a tensor"),
        (payloads["input"], "at the edge from the input"),
        (outcomes[Outcome.DROPPED.value] + outcomes[Outcome.FAILED.value], "without an answer"),
    ]
    words = ", ".join(f"{100.0 * count / tasks:.0f} % {where}" for count, where in parts if count)
    return f"Its tasks ended {words}"


def _signalling(results: Sequence[RunResult], product: RunResult) -> str:
    polled = next((r for r in results if r.is_polled and r.rule == product.rule), None)
    text = f"; it took {product.messages_per_task:.2f} messages per task"
    if polled is not None:
        text += f", asking the twin at every epoch {polled.messages_per_task:.2f}"
    return text + "."


def _alone(result: RunResult) -> str:
    return f"{result.rule} cost {result.summary.cost_s:.3f} s per task. {_ends(result)}"


def _mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return float(values.mean()), error
