"""What an exit and the whole network say about one sample; no ONNX Runtime is needed to hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ExitAnswer:
    """What an exit said about one sample."""

    label_index: int
    raw_confidence: float
    """Largest softmax output, 0..1, not calibrated."""
    evidence: int
    """Evidence state (see :func:`twinsplit.types.evidence_state`)."""
    p_right: float
    """Calibrated P(exit right | bin)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the whole network said about one sample; for ``task="raw"`` only ``output`` is there."""

    label_index: int | None
    label: str | None
    raw_confidence: float | None
    """Largest softmax output, 0..1, not calibrated."""
    output: NDArray[Any]
