"""Running tails: payloads in, outputs of the network out; in the thread that asks, or elsewhere with the same face."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.models import HeldModel
from edge.tail_work import EdgeTail
from twinsplit.clock import Clock
from twinsplit.errors import ComputeError
from twinsplit.model.payload import decode_payload
from twinsplit.model.profile import made_up_input
from twinsplit.telemetry.exposition import Sample
from twinsplit.tensor import EncodedTensor, encode

CHECK_RUNS = 3
"""Of an idle check; the quickest counts: the first one wakes processor and caches."""


@dataclass(frozen=True, slots=True)
class Computed:
    """What became of tails that were run together."""

    outputs: Sequence[EncodedTensor | None]
    """One per tail; ``None``: given up, since nobody waited for it any more."""
    began_s: float
    """Clock reading before the first payload was decoded."""
    ended_s: float


class Computing(Protocol):
    """Whatever runs the tails of an edge: ``run``, ``quickest_s`` and ``restore`` are for the compute thread alone."""

    def run(self, tails: Sequence[EdgeTail], following: EdgeTail | None = None) -> Computed:
        """Outputs of tails of one model and cut, run as a batch where they are several.

        ``following``: will come next unless it is cancelled or expires; may be begun as soon as these have ended.

        Raises:
            RefusedError: a payload cannot be the tensor of that cut; where this is not the process that computes, any
                other failure, too, as InternalError.
            ComputeError: a segment fails, or does not take batches.
        """
        ...

    def quickest_s(self, model: HeldModel, is_idle: Callable[[], bool]) -> float | None:
        """Shortest time of the whole network over a few runs, seconds; ``None``: ``is_idle``, which is asked before
        every segment, said that there is work.

        Raises:
            ComputeError: a segment fails.
            RefusedError: nothing can be run now, see :attr:`lack`.
        """
        ...

    def look_again(self) -> None:
        """A tail may be wanted no longer, or work have arrived."""
        ...

    @property
    def lack(self) -> str | None:
        """Why nothing can be run until :meth:`restore` has been called; ``None``: it can."""
        ...

    def restore(self) -> None:
        """Try to end that lack."""
        ...

    def start(self, wake: Callable[[], None]) -> None:
        """``wake`` is to be called, from any thread, when there is a lack."""
        ...

    def samples(self) -> Iterator[Sample]:
        """Metrics that only this kind has."""
        ...

    def close(self) -> None:
        """End."""
        ...


class LocalComputing:
    """Runs tails in the calling thread.

    Args:
        models: By digest.
        clock: Times and deadlines are read from it.
        sleep: For the emulated slowdown.
    """

    def __init__(
        self, models: Mapping[str, HeldModel], clock: Clock, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._models = models
        self._now_s = clock.monotonic_s
        self._sleep = sleep

    lack: str | None = None

    def run(self, tails: Sequence[EdgeTail], following: EdgeTail | None = None) -> Computed:
        """See :meth:`Computing.run`; nothing follows before it is asked for."""
        began_s = self._now_s()
        model = self._models[tails[0].model]
        tensors = [decode_payload(model.manifest, t.cut, t.work.header, t.work.data) for t in tails]
        output = self._through(tails, model, tensors[0] if len(tensors) == 1 else np.concatenate(tensors))
        ended_s = self._now_s()
        if output is None:
            return Computed([None] * len(tails), began_s, ended_s)
        if len(tails) == 1:
            return Computed([encode(output, "float32", "none")], began_s, ended_s)
        if len(output) != len(tails):
            raise ComputeError(f"a batch of {len(tails)} gave {len(output)} outputs")
        outputs = [
            encode(output[row : row + 1], "float32", "none") if tail.is_wanted_at(ended_s) else None
            for row, tail in enumerate(tails)
        ]
        return Computed(outputs, began_s, ended_s)

    def quickest_s(self, model: HeldModel, is_idle: Callable[[], bool]) -> float | None:
        """See :meth:`Computing.quickest_s`."""
        tensor = made_up_input(model.manifest).tensor
        least_s = float("inf")
        for _ in range(CHECK_RUNS):
            began_s = self._now_s()
            found = tensor
            for index in range(model.manifest.segment_count):
                if not is_idle():
                    return None
                found = model.runtime.run_segment(index, found)
            least_s = min(least_s, self._now_s() - began_s)
        return least_s

    def _through(self, tails: Sequence[EdgeTail], model: HeldModel, tensor: NDArray[Any]) -> NDArray[Any] | None:
        """The network's output from the tensor of the tails' cut; ``None`` once nobody waits for any of them."""
        for index in range(tails[0].cut, model.manifest.segment_count):
            began_s = self._now_s()
            if not any(tail.is_wanted_at(began_s) for tail in tails):
                return None
            tensor = model.runtime.run_segment(index, tensor)
            if model.slowdown > 1.0:
                took_s = model.segment_s[index] if len(tails) == 1 else self._now_s() - began_s
                left_s = began_s + model.slowdown * took_s - self._now_s()
                if left_s > 0.0:
                    self._sleep(left_s)
        return tensor

    def look_again(self) -> None:
        """Nothing to do: tails are asked before every segment."""

    def restore(self) -> None:
        """Nothing to do."""

    def start(self, wake: Callable[[], None]) -> None:
        """Nothing to do."""

    def samples(self) -> Iterator[Sample]:
        """None: what this thread has is in every edge's metrics."""
        return iter(())

    def close(self) -> None:
        """Nothing to do."""
