"""Holds an edge within a tail until the test has done what must happen meanwhile, on a machine however slow."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from edge.models import HeldModel, TailRuntime

PATIENCE_S = 30.0


class Gate:
    """Stands before every segment of the models it is put in; open at first."""

    def __init__(self) -> None:
        self.segments: list[int] = []
        """That went through, in their order."""
        self.is_holding = False
        """Whether a segment waits before it."""
        self._may_pass = threading.Event()
        self._may_pass.set()

    def shut(self) -> None:
        self._may_pass.clear()

    def open(self) -> None:
        self._may_pass.set()

    def within(self, models: dict[str, HeldModel]) -> dict[str, HeldModel]:
        """The same models, whose tails come by here."""
        return {digest: replace(m, runtime=_Gated(m.runtime, self)) for digest, m in models.items()}

    def pass_by(self, index: int) -> None:
        """Called by the thread that computes, before the segment ``index``."""
        self.is_holding = not self._may_pass.is_set()
        assert self._may_pass.wait(PATIENCE_S), "nobody opened the gate"
        self.is_holding = False
        self.segments.append(index)


class _Gated:
    def __init__(self, runtime: TailRuntime, gate: Gate) -> None:
        self._runtime = runtime
        self._gate = gate

    def run_segment(self, index: int, tensor: NDArray[Any]) -> NDArray[Any]:
        self._gate.pass_by(index)
        return self._runtime.run_segment(index, tensor)
