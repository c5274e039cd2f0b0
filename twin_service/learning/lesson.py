"""One lesson: from replayed tasks to weights that may serve, or the reason why not. Synchronous, without clocks.

The learner of the service runs it in a thread of its own; the simulator calls it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from twin_service.decision.value_net import ValueNet
from twin_service.learning.lessons import lessons_of
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
    from twin_service.learning.training import train  # torch is large: only who learns loads it

    options = options or LearningOptions()
    gate, is_counterfactual = options.gate, options.training.is_counterfactual
    lessons = lessons_of(tasks, manifest)
    folds = folds_of(lessons.at_s)
    held_out = lessons.part(folds == 0)
    if min(held_out.size, lessons.size - held_out.size) < gate.least_tasks:
        return None, Report(lessons.size, None, None, "too-few-tasks", None)
    # The candidate, and for comparison the nets that each of the other parts did not train.
    parts = np.array([folds != fold for fold in range(FOLDS if is_counterfactual else 1)])
    trained = train(lessons, parts, seed=seed, options=options.training, between_steps=between_steps)
    candidate = trained[0].net
    scores = scores_of(held_out, candidate, serving, gate, is_counterfactual=is_counterfactual)
    if is_counterfactual:
        followed_s = np.empty(lessons.size)
        for fold, one in enumerate(trained):
            judged = folds == fold
            followed_s[judged] = lessons.part(judged).followed_s(one.net)[:, 0]
        scores = with_utility(scores, lessons, followed_s, serving)
    refused = refused_because(scores, gate)
    report = Report(lessons.size, trained[0].loss, scores, refused, candidate)
    return (candidate if refused is None else None), report
