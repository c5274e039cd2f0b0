"""Every choice of learning, one per line."""

from __future__ import annotations

from dataclasses import dataclass, field

from twin_service.decision.features import STALE_IN_PLANS


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How a candidate is trained."""

    steps: int = 1000
    batch: int = 256
    learning_rate: float = 5e-4
    weight_decay: float = 0.03
    huber_s: float = 1.0  # beyond this an error counts linearly: rare bursts pull, but do not tear
    slow_copy_steps: int = 100  # the slow copy, and with it the C head's targets, is renewed so often
    averaged_share: float = 0.5  # what serves is the average of the weights over the last part of the steps
    ignored: tuple[str, ...] = STALE_IN_PLANS  # features that nets are blind to: replays know them better than plans
    is_one_head: bool = False  # learn C only (for comparison: P0 stays optimistic, and C does not)
    is_counterfactual: bool = True  # False: learn only from what the task really did (for comparison)


@dataclass(frozen=True, slots=True)
class GateOptions:
    """Margins of the gate and of the watch."""

    least_tasks: int = 60
    """Held-out tasks below which nothing is promoted."""
    errors: float = 2.0
    """Standard errors by which a candidate must predict better."""
    utility_errors: float = 1.0
    """Standard errors by which following it must have brought more than open-loop; by so many it may at most have
    brought less than the weights in force."""
    huber_s: float = 1.0
    """Beyond it an error of prediction counts linearly, as in training."""
    watched_tasks: int = 200
    """Tasks before and after a promotion whose cost is compared."""
    least_watched_tasks: int = 60
    """Tasks after a promotion from which on it may be rolled back; the watch looks again after as many more."""
    roll_back_errors: float = 3.0
    """Standard errors by which a promotion must have made things worse: the watch looks many times."""


@dataclass(frozen=True, slots=True)
class LearningOptions:
    """How is learnt and what may serve."""

    training: TrainingOptions = field(default_factory=TrainingOptions)
    gate: GateOptions = field(default_factory=GateOptions)
