"""The gate before new weights serve, and the watch that takes them back (design section 5, "Learning"; tests are ours).

Both compare rules on the very same tasks, so that a busier edge is not taken for worse weights. Margins are in standard
errors of the mean difference over blocks of consecutive tasks: tasks of one burst fare alike, and counted singly they
would make noise look like proof.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.learned import decide
from twin_service.decision.statistics import statistics_of
from twin_service.decision.utility import NEVER
from twin_service.decision.value_net import ValueNet
from twin_service.decision.values import Payoffs
from twin_service.learning.lessons import Array, Lessons
from twin_service.learning.options import GateOptions
from twin_service.workload.replayed import INPUT, TENSOR, Replayed
from twinsplit.model.manifest import Manifest
from twinsplit.types import Decision

FOLDS = 5
"""The held-out tasks are one part in so many; the others take turns where rules are followed for comparison."""
_FOLD_SPAN_S = 10.0
"""Tasks of one such span of time belong together: what one of a burst taught would judge the others too well."""
_BLOCKS = 30


def folds_of(at_s: Array) -> NDArray[np.int64]:
    """Part 0..FOLDS - 1 of tasks by their service start, the same whenever it is asked; part 0 is held out.

    # (T,)
    """
    spans = np.floor(at_s / _FOLD_SPAN_S).astype(np.int64)
    kinds, places = np.unique(spans, return_inverse=True)
    parts = [zlib.crc32(int(span).to_bytes(8, "little", signed=True)) % FOLDS for span in kinds]
    found: NDArray[np.int64] = np.array(parts, dtype=np.int64)[places]
    return found


@dataclass(frozen=True, slots=True)
class Gain:
    """A mean paired difference per task, seconds, and its standard error."""

    mean: float
    error: float

    def is_above(self, level: float, errors: float) -> bool:
        """Whether the mean lies more than ``errors`` standard errors above ``level``."""
        return self.mean > level + errors * self.error

    def is_below(self, level: float, errors: float) -> bool:
        """Likewise below."""
        return self.mean < level - errors * self.error


def gain_of(differences: Array) -> Gain:
    """Mean of per-task ``differences`` (T,) in the order of time; its error from blocks of consecutive tasks."""
    if len(differences) < 2:
        return Gain(float(differences.sum()), float("inf"))
    blocks = np.array_split(differences, min(_BLOCKS, len(differences)))
    means, sizes = np.array([block.mean() for block in blocks]), np.array([len(block) for block in blocks])
    mean = float(differences.mean())
    spread = float(np.sqrt(((means - mean) ** 2 * sizes).sum() / sizes.sum() / (len(blocks) - 1)))
    return Gain(mean, spread)


@dataclass(frozen=True, slots=True)
class Scores:
    """A candidate on tasks that it was not trained on. Errors are mean Huber losses, s**2."""

    tasks: int
    candidate_error: float
    serving_error: float
    zero_error: float
    error_gain_over_serving: Gain
    error_gain_over_zero: Gain
    utility_gain_over_serving: Gain | None = None
    """Realised utility of following the rule of such a net less that of following the serving one's, per task, seconds:
    over all tasks, each followed by a net that was trained without its part. ``None``: not asked."""
    utility_gain_over_zero: Gain | None = None
    """Likewise against open-loop."""

    @property
    def held_out_gain(self) -> float:
        """Share of the error of no correction that the candidate takes off."""
        return 1.0 - self.candidate_error / self.zero_error if self.zero_error > 0.0 else 0.0


def scores_of(
    held_out: Lessons, candidate: ValueNet, serving: ValueNet | None, options: GateOptions, *, is_counterfactual: bool
) -> Scores:
    """``candidate`` against ``serving`` (``None``: no correction) and no correction, on the held-out tasks alone.

    ``is_counterfactual``: False: errors only where the task really went, no utility of rules that it did not follow.
    """
    brought = brought_s(held_out, candidate, is_counterfactual=is_counterfactual)
    errors = {
        name: errors_of(held_out, net, brought, options.huber_s)
        for name, net in (("candidate", candidate), ("serving", serving), ("zero", None))
    }
    return Scores(
        held_out.size,
        float(errors["candidate"].mean()),
        float(errors["serving"].mean()),
        float(errors["zero"].mean()),
        gain_of(errors["serving"] - errors["candidate"]),
        gain_of(errors["zero"] - errors["candidate"]),
    )


def with_utility(scores: Scores, lessons: Lessons, followed_s: Array, serving: ValueNet | None) -> Scores:
    """``scores`` with what following a candidate's rule brought: ``followed_s`` (T,), per task of ``lessons``."""
    over_zero = gain_of(followed_s - lessons.open_loop_s)
    over_serving = over_zero if serving is None else gain_of(followed_s - lessons.followed_s(serving)[:, 0])
    return replace(scores, utility_gain_over_serving=over_serving, utility_gain_over_zero=over_zero)


def refused_because(scores: Scores, options: GateOptions) -> str | None:
    """Why a candidate may not serve; ``None``: nothing of what was asked speaks against it."""
    if scores.tasks < options.least_tasks:
        return "too-few-tasks"
    if not scores.error_gain_over_zero.is_above(0.0, options.errors):
        return "no-better-than-zero"
    if not scores.error_gain_over_serving.is_above(0.0, options.errors):
        return "no-better-than-serving"
    over_zero, over_serving = scores.utility_gain_over_zero, scores.utility_gain_over_serving
    if over_zero is not None and not over_zero.is_above(0.0, options.utility_errors):
        return "brings-less-than-open-loop"
    if over_serving is not None and over_serving.is_below(0.0, options.utility_errors):
        return "brings-less-than-serving"
    return None


def live_gain_s(task: Replayed, manifest: Manifest) -> float | None:
    """What a task brought as it went, less what it would have brought under open-loop, seconds. What the evidence of
    one more epoch told of the sample is counted for neither.

    ``None``: no number, or it had a deadline: what it did says nothing of rules that know none.
    """
    whole_right = statistics_of(manifest).p_whole_right
    if task.deadline_s is not None or not 0 <= task.evidence.min() <= task.evidence.max() < len(whole_right):
        return None
    whole_s = (task.alpha_s * whole_right[task.evidence]).tolist()
    costs_s = task.step_cost_s.tolist()
    gain_s = _ended_s(task, task.taken_epoch, task.taken) - whole_s[task.taken_epoch] - sum(costs_s[: task.taken_epoch])
    for epoch in range(task.epochs):
        exit_s = float(task.exit_s[epoch])
        going_on_s = float(task.base_going_on[epoch])
        payoffs = Payoffs(
            float(task.base_tensor[epoch]),
            float(task.base_input[epoch]),
            NEVER if math.isnan(exit_s) else exit_s,
            NEVER / 2 if math.isnan(going_on_s) else going_on_s,
        )
        decision = decide(payoffs)
        if decision is not Decision.CONTINUE or epoch == task.epochs - 1:
            gain_s -= _ended_s(task, epoch, decision) - whole_s[epoch]
            break
        gain_s += costs_s[epoch]
    return gain_s if math.isfinite(gain_s) else None


def _ended_s(task: Replayed, epoch: int, decision: Decision) -> float:
    """What ``decision`` really brings at ``epoch``; CONTINUE: at the last one."""
    if decision is Decision.CONTINUE:
        return task.finish_s
    if decision is Decision.EXIT:
        return float(task.exit_s[epoch])
    return float(task.offload_s[epoch, TENSOR if decision is Decision.OFFLOAD_TENSOR else INPUT])


class LiveWatch:
    """What tasks bring since a promotion against what open-loop would have brought them, and the same before it.

    The cost itself would not do: a busier edge would be taken for worse weights.
    """

    def __init__(self, options: GateOptions) -> None:
        self._options = options
        self._before: deque[float] = deque(maxlen=options.watched_tasks)
        self._after: deque[float] | None = None
        self._seen = 0

    @property
    def is_on(self) -> bool:
        """Whether weights are being watched."""
        return self._after is not None

    def promoted(self) -> None:
        """New weights serve from now on."""
        if self._after is not None:
            self._before.extend(self._after)
        self._after = deque(maxlen=self._options.watched_tasks)
        self._seen = 0

    def rolled_back(self) -> None:
        """The weights of before serve again."""
        self._after = None

    def ended(self, gain_s: float) -> bool:
        """A task brought ``gain_s`` more than open-loop would have brought it; whether to roll back now."""
        if self._after is None:
            self._before.append(gain_s)
            return False
        self._after.append(gain_s)
        self._seen += 1
        if self._seen % self._options.least_watched_tasks:
            return False
        after = gain_of(np.array(self._after))
        # Without a task before, open-loop itself is the measure: all gains are 0 there.
        before = gain_of(np.array(self._before)) if len(self._before) > 1 else Gain(0.0, 0.0)
        difference = Gain(after.mean - before.mean, float(np.hypot(after.error, before.error)))
        return difference.is_below(0.0, self._options.roll_back_errors)


def brought_s(lessons: Lessons, net: ValueNet | None, *, is_counterfactual: bool) -> tuple[Array, Array]:
    """What going on and what offloading really brought: the same measure for all nets.  # (T, K) each, nan: unknown

    Going on: the rule with ``net`` (``None``: open-loop) is followed from the next epoch on.
    """
    epochs = np.arange(lessons.epochs)
    going_on = np.full(lessons.offload_s.shape, np.nan)
    if is_counterfactual:
        going_on[:, :-1] = lessons.followed_s(net)[:, 1:] - lessons.step_cost_s
        offload = lessons.offload_s.copy()
    else:
        went_on: NDArray[np.bool_] = epochs < lessons.taken_epoch[:, None]
        costs = np.pad(lessons.step_cost_s, ((0, 0), (0, 1)))
        ahead = np.cumsum(np.where(went_on, costs, 0.0)[:, ::-1], axis=1)[:, ::-1]
        going_on = np.where(went_on, lessons.taken_s[:, None] - ahead, np.nan)
        is_offload = (epochs == lessons.taken_epoch[:, None]) & np.isfinite(lessons.taken_offload_base_s)[:, None]
        moved = lessons.offload_base_s - lessons.taken_offload_base_s[:, None]
        offload = np.where(is_offload, lessons.taken_s[:, None] + moved, np.nan)
    if lessons.is_last_known:
        offload[:, -1] = np.nan
    return going_on, offload


def errors_of(lessons: Lessons, net: ValueNet | None, brought: tuple[Array, Array], huber_s: float) -> Array:
    """Mean Huber loss per task of what ``net`` says of both, s**2.  # (T,)"""
    going_on, offloading = lessons.corrections_s(net)
    sides = (lessons.going_on_base_s + going_on - brought[0], lessons.offload_base_s + offloading - brought[1])
    missed = np.abs(np.concatenate(sides, axis=1))
    loss = np.where(missed <= huber_s, 0.5 * missed**2, huber_s * (missed - 0.5 * huber_s))
    is_known = np.isfinite(loss)
    count = np.maximum(is_known.sum(axis=1), 1)
    found: Array = np.where(is_known, loss, 0.0).sum(axis=1) / count
    return found
