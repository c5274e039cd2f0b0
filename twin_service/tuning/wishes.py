"""What is wished for, and what "best" means among the weights that bring it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from twin_service.tuning.groups import Weighting
from twin_service.tuning.rerun import Outcomes
from twinsplit.errors import SettingsError
from twinsplit.types import Decision

_PARTS = 10
_ENDS = {
    Decision.CONTINUE: "whole network",
    Decision.EXIT: "exit",
    Decision.OFFLOAD_TENSOR: "tensor",
    Decision.OFFLOAD_INPUT: "input",
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What a weighting brings, per recorded task."""

    accuracy: float
    """Calibrated expectation."""
    latency_mean_s: float
    latency_p95_s: float
    energy_joules: float
    ends: dict[str, float]
    """Share of tasks by where they ended."""
    errors: dict[str, float] = field(default_factory=dict)
    """Standard errors by name, from the spread between tenths of the record."""


def figures_of(outcomes: Outcomes) -> Figures:
    """Means of ``outcomes``."""
    columns = {"accuracy": outcomes.accuracy, "latency_mean_s": outcomes.latency_s, "energy_joules": outcomes.joules}
    errors = {name: _error([part.mean() for part in _tenths(column)]) for name, column in columns.items()}
    errors["latency_p95_s"] = _error([np.percentile(part, 95) for part in _tenths(outcomes.latency_s)])
    counts = np.bincount(outcomes.decision, minlength=len(Decision)) / len(outcomes.decision)
    return Figures(
        float(outcomes.accuracy.mean()),
        float(outcomes.latency_s.mean()),
        float(np.percentile(outcomes.latency_s, 95)),
        float(outcomes.joules.mean()),
        {name: float(counts[decision]) for decision, name in _ENDS.items()},
        errors,
    )


def _tenths(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return np.array_split(values, min(_PARTS, len(values)))


def _error(parts: Sequence[float]) -> float:
    return float(np.std(parts, ddof=1) / math.sqrt(len(parts))) if len(parts) > 1 else math.inf


class Wished(str, Enum):
    """What can be wished for; the value is the field of :class:`Figures`."""

    LATENCY_P95 = "latency_p95_s"
    ENERGY = "energy_joules"
    ACCURACY = "accuracy"

    @property
    def option(self) -> str:
        """As the command has it."""
        return {"latency_p95_s": "--latency-p95", "energy_joules": "--energy-joules", "accuracy": "--accuracy"}[self]


@dataclass(frozen=True, slots=True)
class Wish:
    """At most ``limit`` seconds or joules, or at least so much accuracy; the others are to lose as little as can be."""

    wished: Wished
    limit: float

    def __post_init__(self) -> None:
        highest = 1.0 if self.wished is Wished.ACCURACY else float("inf")
        if not 0.0 < self.limit <= highest or self.limit == float("inf"):
            allowed = "above 0, at most 1, such as 0.9" if self.wished is Wished.ACCURACY else "above 0"
            raise SettingsError(f"{self.wished.option} {self.limit:g}: give a finite number {allowed}")

    def value(self, figures: Figures) -> float:
        """What is wished for, as it is."""
        return float(getattr(figures, self.wished.value))

    def gap(self, figures: Figures) -> float:
        """What is missing; 0: the wish is met."""
        value = self.value(figures)
        return max(self.limit - value if self.wished is Wished.ACCURACY else value - self.limit, 0.0)

    def loss_s(self, figures: Figures, present: Weighting) -> float:
        """What is lost of the others, by what they are worth at present, seconds: of accuracy, mean latency and energy
        those two that are not wished for."""
        accuracy, latency, energy = (
            present.alpha_s * (1.0 - figures.accuracy),
            figures.latency_mean_s,
            present.beta_s_per_joule * figures.energy_joules,
        )
        if self.wished is Wished.ACCURACY:
            return latency + energy
        return accuracy + (energy if self.wished is Wished.LATENCY_P95 else latency)

    def criterion(self, present: Weighting) -> str:
        """The same in words."""
        worth = f"a point of accuracy {10.0 * present.alpha_s:g} ms"
        joule = f"a joule {1000.0 * present.beta_s_per_joule:g} ms"
        others = {
            Wished.LATENCY_P95: f"accuracy and energy together ({worth}, {joule}: what they are worth at present)",
            Wished.ENERGY: f"accuracy and mean latency together ({worth}: what it is worth at present)",
            Wished.ACCURACY: f"mean latency and energy together ({joule}: what it is worth at present)",
        }
        return f"of all weights that bring it, those that lose least of {others[self.wished]}"

    def in_words(self) -> str:
        """Such as ``95 % of answers within 100 ms``."""
        return {
            Wished.LATENCY_P95: f"95 % of answers within {1000.0 * self.limit:.4g} ms",
            Wished.ENERGY: f"at most {self.limit:.4g} J a task",
            Wished.ACCURACY: f"accuracy of at least {100.0 * self.limit:.4g} %",
        }[self.wished]
