"""One lesson: from replayed tasks to weights that may serve, or the reason why not. Synchronous, without clocks.

The learner of the service runs it in a thread of its own; the simulator calls it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from twin_service.decision.value_net import ValueNet
from twin_service.learning.lessons import Lessons, lessons_of
from twin_service.learning.options import LearningOptions
from twin_service.learning.promotion import FOLDS, Scores, folds_of, refused_because, scores_of, with_utility
from twin_service.workload.replayed import Replayed
from twinsplit.model.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Report:
    """How a lesson went."""

    tasks: int
    """Tasks learnt from and judged by."""
    loss: float | None
    """Of training; ``None``: it was not trained."""
    scores: Scores | None
    refused_because: str | None
    """``None``: the candidate may serve."""
    candidate: ValueNet | None
    """What was trained, also if it was refused."""

    def as_document(self) -> dict[str, Any]:
        """Everything but the weights, for JSON."""
        return {
            "tasks": self.tasks,
            "loss": self.loss,
            "refused_because": self.refused_because,
            "held_out_gain": None if self.scores is None else self.scores.held_out_gain,
            "scores": None if self.scores is None else asdict(self.scores),
        }


def learn(
    tasks: Sequence[Replayed],
    manifest: Manifest,
    *,
    seed: int = 0,
    options: LearningOptions | None = None,
    serving: ValueNet | None = None,
    between_steps: Callable[[], None] = lambda: None,
) -> tuple[ValueNet | None, Report]:
    """Weights that may replace ``serving`` (``None``: nothing serves yet), or ``None``, and how it went.

    Every candidate is trained from nothing: what it knows is what these tasks show, not what once was.

    Raises:
        ReplayError: tasks that do not fit the model.
        TrainingError: no torch, nothing to learn from, or training diverged; ``serving`` stays.
    """
    from twin_service.learning.training import Trained, train  # torch is large: only who learns loads it

    options = options or LearningOptions()
    gate, is_counterfactual = options.gate, options.training.is_counterfactual
    lessons = lessons_of(tasks, manifest)
    folds = folds_of(lessons.at_s)

    def trained_without(fold: int) -> Trained:
        start = ValueNet.zero(lessons.features.shape[2], seed=seed + fold)
        kept = lessons.part(folds != fold)
        return train(kept, start, seed=seed + fold, options=options.training, between_steps=between_steps)

    held_out = lessons.part(folds == 0)
    if held_out.size < gate.least_tasks:
        return None, Report(lessons.size, None, None, "too-few-tasks", None)
    trained = trained_without(0)
    candidate = trained.net
    scores = scores_of(held_out, candidate, serving, gate, is_counterfactual=is_counterfactual)
    refused = refused_because(scores, gate)
    if refused is None and is_counterfactual:
        followed_s = _followed_s(lessons, folds, [candidate, *(trained_without(fold).net for fold in range(1, FOLDS))])
        scores = with_utility(scores, lessons, followed_s, serving)
        refused = refused_because(scores, gate)
    report = Report(lessons.size, trained.loss, scores, refused, candidate)
    return (candidate if refused is None else None), report


def _followed_s(lessons: Lessons, folds: np.ndarray[Any, np.dtype[np.int64]], nets: Sequence[ValueNet]) -> Any:
    """What following the rule of the net that was trained without its part brings every task.  # (T,)"""
    found = np.empty(lessons.size)
    for fold, net in enumerate(nets):
        judged = folds == fold
        if judged.any():
            found[judged] = lessons.part(judged).followed_s(net)[:, 0]
    return found
