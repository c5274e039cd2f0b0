"""Exits that are right more or less often than their calibration says, learnt from what the whole network answers.

The whole network's answer shows whether the last exit agreed with it, which is not whether the exit was right. With
``a`` the agreement of one bin, ``p`` and ``w`` the probabilities that exit and network are right there:

- *Bounds.* Where both agree they are right or wrong together, so ``p`` and ``w`` are no further apart than the share of
  disagreement: ``|p - w| <= 1 - a``. Where they disagree one of them is wrong, so ``p + w <= 1 + a``. That holds
  whatever the samples; it takes ``w`` as calibrated, since nothing observed here speaks about it. Where accuracy was
  measured as agreement with the network, ``w = 1`` and so ``p = a``.
- *Shift.* A manifest does not say how often an exit agrees. The agreement ``b`` of the first samples stands for it, and
  a later agreement ``a`` moves ``p`` by ``(a - b) * (c - r)``: ``c`` and ``r`` are the probabilities that the exit is
  right where both agree and where they do not. Of the two one is taken to be right where they disagree, which gives
  ``r = (1 + (p - w) / (1 - b)) / 2`` and ``c`` from ``p = b * c + (1 - b) * r``.

Both move slowly: a bin stays as calibrated until it has :data:`LEAST_SAMPLES`, agreement is a mean over some
:data:`MEMORY_SAMPLES`, and a deviation counts by what it exceeds two standard errors.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Annotated

from pydantic import Field, NonNegativeInt, TypeAdapter

from twin_service.memory import Memory
from twinsplit.model.manifest import Exit, Manifest
from twinsplit.types import NO_EVIDENCE, TaskRecord

LEAST_SAMPLES = 50
"""A bin with fewer keeps its calibration."""
BASELINE_SAMPLES = 200
"""The first so many say how often the exit agreed when it was as calibrated."""
MEMORY_SAMPLES = 500
MAX_MODELS = 256
"""Models whose exits are followed at a time; one that was let go is followed again once a device attaches with it."""
_ERRORS = 2.0
NOTICEABLE = 0.01
"""Plans are made with new probabilities only when one has moved by so much since the last time."""


Share = Annotated[float, Field(ge=0.0, le=1.0)]


@dataclass(slots=True)
class Agreement:
    """How often one exit agrees with the whole network in one bin."""

    samples: NonNegativeInt = 0
    mean: Share = 0.0
    baseline: Share = 0.0
    """Mean of the first :data:`BASELINE_SAMPLES`."""

    def add(self, agrees: bool) -> None:
        """One more sample."""
        self.samples += 1
        self.mean += (float(agrees) - self.mean) / min(self.samples, MEMORY_SAMPLES)
        if self.samples <= BASELINE_SAMPLES:
            self.baseline = self.mean

    @property
    def error(self) -> float:
        """Standard error of the mean, of the smoothed share, so that a run of agreements is not certainty."""
        return _standard_error(self.mean, min(self.samples, MEMORY_SAMPLES))

    @property
    def shift(self) -> float:
        """Agreement above (below: negative) the baseline, as far as it is no chance."""
        if self.samples <= BASELINE_SAMPLES:
            return 0.0
        chance = _ERRORS * math.hypot(self.error, _standard_error(self.baseline, BASELINE_SAMPLES))
        moved = self.mean - self.baseline
        return math.copysign(max(abs(moved) - chance, 0.0), moved)


_READER = TypeAdapter(list[Agreement])


class ExitCalibration:
    """P(exit right | bin) of one model's exits as they do now.

    Args:
        manifest: As the device sent it.
        text: What :meth:`to_json` wrote; ``None``: nothing is known yet.

    Raises:
        ValueError: ``text`` is not of this model.
    """

    def __init__(self, manifest: Manifest, text: str | None = None) -> None:
        self._calibrated = manifest
        self._bins = manifest.bin_count
        self._agreements = [Agreement() for _ in range(manifest.evidence_count)]
        if text is not None:
            self._agreements = _READER.validate_json(text)
            if len(self._agreements) != manifest.evidence_count:
                raise ValueError("calibration of another model")
        self.manifest = self._recalibrated()
        """The model with the probabilities to plan with."""

    def add(self, evidence: int, agrees: bool) -> bool:
        """The whole network answered a task whose last exit had shown ``evidence``.

        Returns:
            Whether there is a new :attr:`manifest` to plan with.
        """
        agreement = self._agreements[evidence]
        agreement.add(agrees)
        now = self.p_right(evidence)
        if abs(now - self.manifest.p_exit_right(evidence)) < NOTICEABLE:
            return False
        self.manifest = self._recalibrated()
        return True

    def p_right(self, evidence: int) -> float:
        """P(exit right | bin) as it is now."""
        calibrated = self._calibrated.p_exit_right(evidence)
        agreement = self._agreements[evidence]
        if agreement.samples < LEAST_SAMPLES:
            return calibrated
        whole = self._calibrated.p_whole_right(evidence)
        found = calibrated + _slope(calibrated, whole, agreement.baseline) * agreement.shift
        margin = _ERRORS * agreement.error
        lowest, highest = agreement.mean + whole - 1.0 - margin, 1.0 - abs(agreement.mean - whole) + margin
        return min(max(min(max(found, lowest), highest), 0.0), 1.0)

    @property
    def drift(self) -> float:
        """Largest deviation of a probability from its calibration."""
        states = range(1, self._calibrated.evidence_count)
        return max((abs(self.p_right(e) - self._calibrated.p_exit_right(e)) for e in states), default=0.0)

    @property
    def samples(self) -> int:
        """Answers of the whole network seen so far."""
        return sum(agreement.samples for agreement in self._agreements)

    def to_json(self) -> str:
        """What is to be kept."""
        return json.dumps([asdict(agreement) for agreement in self._agreements])

    def _recalibrated(self) -> Manifest:
        exits = tuple(self._exit(each) for each in self._calibrated.exits)
        if exits == self._calibrated.exits:
            return self._calibrated
        return self._calibrated.model_copy(update={"exits": exits})

    def _exit(self, calibrated: Exit) -> Exit:
        first = 1 + calibrated.index * self._bins
        return calibrated.model_copy(
            update={"p_right": tuple(self.p_right(first + bin_index) for bin_index in range(self._bins))}
        )


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """A model's exits are right more or less often than its manifest says."""

    model_digest: str
    manifest: Manifest
    drift: float


class Recalibration:
    """Calibrations of all models.

    Args:
        memory: Where they survive a restart.
    """

    def __init__(self, memory: Memory) -> None:
        self.unreadable = 0
        """Kept calibrations that were damaged; those models begin anew."""
        self._memory = memory
        self._calibrations: dict[str, ExitCalibration] = {}
        self._unsaved: set[str] = set()

    def known(self, model_digest: str, manifest: Manifest) -> Manifest:
        """A model is in use: the manifest to plan with."""
        return self._calibration(model_digest, manifest).manifest

    def task_ended(self, model_digest: str, task: TaskRecord) -> Recalibrated | None:
        """A task has ended; ``None``: nothing new to plan with."""
        calibration = self._calibrations.get(model_digest)
        if calibration is None or task.exit_agrees is None or task.evidence == NO_EVIDENCE:
            return None
        self._unsaved.add(model_digest)
        if not calibration.add(task.evidence, task.exit_agrees):
            return None
        return Recalibrated(model_digest, calibration.manifest, calibration.drift)

    @property
    def drift(self) -> float | None:
        """Largest deviation over all models; ``None``: no exit has been compared yet."""
        return max((c.drift for c in self._calibrations.values() if c.samples), default=None)

    def save(self) -> None:
        """Keep what changed.

        Raises:
            StorageError: it cannot be kept; it stays due.
        """
        for model_digest in list(self._unsaved):
            self._memory.keep_calibration(model_digest, self._calibrations[model_digest].to_json())
            self._unsaved.discard(model_digest)

    def _calibration(self, model_digest: str, manifest: Manifest) -> ExitCalibration:
        calibration = self._calibrations.get(model_digest)
        if calibration is None:
            try:
                calibration = ExitCalibration(manifest, self._memory.calibration(model_digest))
            except ValueError:
                self.unreadable += 1
                calibration = ExitCalibration(manifest)
            if len(self._calibrations) >= MAX_MODELS:
                self._let_one_go()
            self._calibrations[model_digest] = calibration
        return calibration

    def _let_one_go(self) -> None:
        """The oldest that is saved as it is, if any is."""
        saved = (digest for digest in self._calibrations if digest not in self._unsaved)
        oldest = next(saved, next(iter(self._calibrations)))
        del self._calibrations[oldest]
        self._unsaved.discard(oldest)


def _standard_error(share: float, samples: int) -> float:
    if samples == 0:
        return 1.0
    smoothed = (share * samples + 1.0) / (samples + 2.0)
    return math.sqrt(smoothed * (1.0 - smoothed) / samples)


def _slope(p_right: float, p_whole_right: float, agreement: float) -> float:
    """By how much P(exit right) rises with the share of samples on which exit and network agree."""
    apart = 1.0 - agreement
    right_apart = 0.0 if apart <= 0.0 else min(max((1.0 + (p_right - p_whole_right) / apart) / 2.0, 0.0), 1.0)
    right_together = 1.0 if agreement <= 0.0 else min(max((p_right - apart * right_apart) / agreement, 0.0), 1.0)
    return right_together - right_apart
