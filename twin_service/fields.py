"""One mirrored number: reported, desired, predicted; its age, its source, the running error of its prediction."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

_ERROR_MEMORY = 0.1
"""Weight of the newest error in the running mean."""


class Source(str, Enum):
    """Where the newest value of a field comes from."""

    LIVE = "live"
    REPORTED = "reported"
    PREDICTED = "predicted"


@dataclass(frozen=True, slots=True)
class FieldView:
    """A field as a reader sees it. ``None``: never reported, no model, nothing desired, error not yet known."""

    name: str
    reported: float | None
    predicted: float | None
    desired: float | None
    age_s: float
    error: float | None
    source: Source


class MirroredField:
    """What we know of one number of a peer."""

    __slots__ = ("error", "is_live", "reported", "reported_at_s")

    def __init__(self) -> None:
        self.reported: float | None = None
        self.reported_at_s = 0.0
        self.error: float | None = None
        """Running mean absolute error of the prediction, in the field's unit."""
        self.is_live = False

    def report(self, value: float, at_s: float, *, expected: float | None = None, is_live: bool = False) -> None:
        """The peer says ``value`` at ``at_s``; the model expected ``expected`` (``None``: nothing is judged)."""
        if expected is not None:
            self.judge(abs(value - expected))
        self.reported = value
        self.reported_at_s = at_s
        self.is_live = is_live

    def judge(self, error: float) -> None:
        """Fold one absolute error into the running mean."""
        self.error = error if self.error is None else self.error + _ERROR_MEMORY * (error - self.error)

    def view(self, name: str, now_s: float, *, predicted: float | None = None) -> FieldView:
        """The field at ``now_s``; ``predicted``: the model's value then (``None``: the last value stands)."""
        source = Source.LIVE if self.is_live else Source.REPORTED
        if predicted is not None and predicted != self.reported:
            source = Source.PREDICTED
        return FieldView(
            name,
            self.reported,
            self.reported if predicted is None else predicted,
            None,
            max(0.0, now_s - self.reported_at_s) if self.reported is not None else 0.0,
            self.error,
            source,
        )
