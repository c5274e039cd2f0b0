"""What the twin believes of this device, reckoned on the device itself. Sans-IO.

Between reports the twin predicts a device with ``twinsplit.reckoning`` from the numbers that it was told. The device
knows these numbers and runs the same predictors, so it can show for each mirrored field what it reported, what the twin
predicts now and what is true now. A dashboard of one device needs nothing but that device's own metrics then, and the
twin's need no label that names a device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from device.reports import DeviceState
from twinsplit.reckoning import DecayingRate, ProgressModel, believed_epoch, expected_queue_length


@dataclass(frozen=True, slots=True)
class Truth:
    """How the device stands; ``None``: unknown, or idle."""

    epoch: int | None
    queue_length: int
    goodput_bytes_per_s: float | None
    round_trip_s: float | None
    network_s: float
    """Sum of all segment times."""


class FieldLayers(NamedTuple):
    """One mirrored field. ``None``: not known, or idle."""

    name: str
    """As in the twin, but for ``network_s``, whose parts the twin holds segment by segment."""
    reported: float | None
    predicted: float | None
    actual: float | None


class SelfMirror:
    """Is told what the twin is told, and answers what the twin makes of it."""

    def __init__(self) -> None:
        self._told_at_s: float | None = None
        self._queue_length = 0
        self._arrivals: DecayingRate | None = None
        self._entered: int | None = None
        self._goodput_bytes_per_s: float | None = None
        self._round_trip_s: float | None = None

    def forgotten(self) -> None:
        """A twin has attached that was told nothing yet."""
        self._told_at_s = self._arrivals = self._entered = None
        self._goodput_bytes_per_s = self._round_trip_s = None

    def told(self, queue_length: int, state: DeviceState | None, now_s: float) -> None:
        """A report goes out; ``state``: ``None`` where it carries none."""
        if self._arrivals is None:
            self._arrivals = DecayingRate(now_s)
        self._told_at_s, self._queue_length = now_s, queue_length
        if state is None:
            return
        if self._entered is not None:
            self._arrivals.add(state.entered - self._entered, now_s)
        self._entered = state.entered
        self._goodput_bytes_per_s = state.goodput_bytes_per_s
        self._round_trip_s = state.round_trip_s

    def report_age_s(self, now_s: float) -> float | None:
        """Age of the newest report, seconds; ``None``: there was none since the twin attached."""
        return None if self._told_at_s is None else max(0.0, now_s - self._told_at_s)

    def layers(
        self, truth: Truth, task: ProgressModel | None, epoch_told: int, network_told_s: float, now_s: float
    ) -> Iterator[FieldLayers]:
        """All fields now; none before the first report.

        Args:
            truth: how the device stands.
            task: the task that the twin believes in service; ``None``: it believes the device idle.
            epoch_told: where that task was at the newest report about it.
            network_told_s: sum of the segment times that the twin was told.
        """
        if self._told_at_s is None or self._arrivals is None:
            return
        queue_length = expected_queue_length(
            self._queue_length, self._arrivals.per_second(now_s), now_s - self._told_at_s, is_serving=task is not None
        )
        if task is None:
            yield FieldLayers("epoch", None, None, truth.epoch)
        else:
            yield FieldLayers("epoch", epoch_told, believed_epoch(task, now_s), truth.epoch)
        yield FieldLayers("queue_length", self._queue_length, queue_length, truth.queue_length)
        for name, told, now in (
            ("goodput_bytes_per_s", self._goodput_bytes_per_s, truth.goodput_bytes_per_s),
            ("round_trip_s", self._round_trip_s, truth.round_trip_s),
            ("network_s", network_told_s, truth.network_s),
        ):
            yield FieldLayers(name, told, told, now)
