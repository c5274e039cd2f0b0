"""What a meter measured, told apart into compute, radio and idle, and given to tasks. Sans-IO; safe from threads.

A stretch in which the device neither computes nor sends is idle, and shows what the device draws anyway. What it draws
beyond that while it works belongs to compute and radio; where both go on at once it is split as their powers are. A
task that lasts for several looks of the meter gets what was drawn beyond idle in its own time. A shorter one gets, per
second of its own, what the last seconds of compute and sending have cost, and its source says ``/window``.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping

from device.energy.books import EnergyReading, EnergyState, Part, TaskWork
from device.energy.spans import SpanLog
from twinsplit.energy import EnergyIntegral, Interval, MeterReading

LOOKS_PER_TASK = 5
"""A task at least so many looks of the meter long has its own energy."""
LOOKS_PER_GAP = 5
SHORTEST_GAP_S = 1.0
"""Two looks farther apart than this and ``LOOKS_PER_GAP`` intervals leave what was between them unknown."""
SETTLING_S = 2.0
"""A stretch is told apart when it is so old: when its bytes were sent is known only once the answer is in."""
IDLE_MEMORY_S = 30.0
"""Idle seconds over which the idle power is averaged."""
WORK_MEMORY_S = 10.0
"""Seconds of compute, or of sending, over which their powers are averaged."""
_KEPT_TASKS = 1024
_LEAST_SEEN = 0.5
"""Share of a task's compute time that must have been told as it happened."""


class MeterBooks:
    """The books of one meter."""

    def __init__(
        self,
        source: str,
        interval_s: float,
        *,
        compute_watts: float,
        transmit_watts: float,
        idle_watts: float | None = None,
        is_modelled: bool = False,
    ) -> None:
        """
        Args:
            interval_s: between two looks.
            compute_watts, transmit_watts: added while computing and while sending, as far as is known beforehand: they
                only say how to split what both drew at once.
            idle_watts: as measured before; ``None``: unknown until the device is idle for a moment.
            is_modelled: the meter itself is a model, so that no source need say ``/window``.
        """
        self.source = source
        self._interval_s = interval_s
        self._nominal_compute = max(compute_watts, 1e-9)
        self._nominal_transmit = max(transmit_watts, 1e-9)
        self._idle_watts = idle_watts
        self._window_source = source if is_modelled else f"{source}/window"
        self._integral = EnergyIntegral(max(LOOKS_PER_GAP * interval_s, SHORTEST_GAP_S))
        self._computing = SpanLog()
        self._computing_since_s = math.inf
        self._sending = SpanLog()
        self._own_spans: dict[int, list[tuple[float, float]]] = {}
        self._unsettled: deque[Interval] = deque()
        self._compute = _FadingPower()
        self._transmit = _FadingPower()
        self._totals: dict[tuple[str, Part], float] = {}
        self._lock = threading.Lock()

    # What happens.

    def sampled(self, at_s: float, reading: MeterReading | None) -> None:
        """The meter was looked at."""
        with self._lock:
            interval = self._integral.add(at_s, reading)
            if interval is not None:
                self._unsettled.append(interval)
            self._settle_until(at_s - SETTLING_S)

    def step_began(self, at_s: float) -> None:
        """A step of a task is being carried out from now on."""
        with self._lock:
            if self._computing.is_empty:
                # Before the first step nothing was computed or sent.
                self._settle_until(at_s)
            self._computing_since_s = at_s

    def step_ended(self, task_id: int, began_s: float, ended_s: float) -> None:
        """A step of a task was carried out."""
        with self._lock:
            self._computing_since_s = math.inf
            self._computing.add(began_s, ended_s)
            spans = self._own_spans.setdefault(task_id, [])
            if spans and began_s - spans[-1][1] < 1e-3:
                spans[-1] = (spans[-1][0], ended_s)
            else:
                spans.append((began_s, ended_s))
            if len(self._own_spans) > _KEPT_TASKS:
                del self._own_spans[next(iter(self._own_spans))]

    # What is known.

    def task_energy(self, work: TaskWork) -> EnergyReading | None:
        with self._lock:
            spans = self._own_spans.pop(work.task_id, [])
            sent = None
            if work.sent_at_s is not None and work.transmit_s > 0.0:
                # The uplink is a FIFO: a payload goes when those before it are through.
                began_s = max(work.sent_at_s, min(self._sending.newest_end_s, work.ended_at_s - work.transmit_s))
                sent = (began_s, began_s + work.transmit_s)
                self._sending.add(*sent)
            active_s = work.compute_s + work.transmit_s
            if active_s == 0.0:
                # A task that made the device do nothing added nothing, whatever the meter says.
                return EnergyReading(0.0, self.source)
            if self._idle_watts is None or not self._integral.is_up(work.ended_at_s):
                return None
            if active_s >= LOOKS_PER_TASK * self._interval_s:
                seen_s = sum(ended_s - began_s for began_s, ended_s in spans)
                if seen_s < _LEAST_SEEN * work.compute_s:
                    # Such as a step that was given up before its end: what was not seen is not nothing.
                    return None
                return self._reading(self._own_joules(spans, sent), self.source)
            return self._reading(self._window_joules(work), self._window_source)

    def totals(self) -> Mapping[tuple[str, Part], float]:
        with self._lock:
            return dict(self._totals)

    def state(self, now_s: float) -> EnergyState | None:
        with self._lock:
            return EnergyState(
                source=self.source,
                is_up=self._integral.is_up(now_s),
                losses=self._integral.losses,
                watts=self._integral.watts(now_s),
                idle_watts=self._idle_watts,
                compute_watts=self._compute.watts,
                transmit_watts=self._transmit.watts,
            )

    # How it is done.

    @staticmethod
    def _reading(joules: float | None, source: str) -> EnergyReading | None:
        # Noise around idle may make a small task's excess negative; no task gives energy back.
        return None if joules is None else EnergyReading(max(0.0, joules), source)

    def _settle_until(self, at_s: float) -> None:
        at_s = min(at_s, self._computing_since_s)
        while self._unsettled and self._unsettled[0].end_s <= at_s:
            self._settle(self._unsettled.popleft())

    def _settle(self, interval: Interval) -> None:
        seconds = interval.end_s - interval.start_s
        computing_s = self._computing.seconds_between(interval.start_s, interval.end_s)
        sending_s = self._sending.seconds_between(interval.start_s, interval.end_s)
        if computing_s == sending_s == 0.0:
            self._idle_for(seconds, interval.watts)
            self._count(Part.IDLE, interval.joules)
            return
        if self._idle_watts is None:
            return
        excess = interval.joules - self._idle_watts * seconds
        radio_share = self._radio_share(computing_s, sending_s)
        self._compute.add((1.0 - radio_share) * excess, computing_s)
        self._transmit.add(radio_share * excess, sending_s)
        added = max(0.0, excess)
        self._count(Part.IDLE, interval.joules - added)
        if computing_s > 0.0:
            self._count(Part.COMPUTE, (1.0 - radio_share) * added)
        if sending_s > 0.0:
            self._count(Part.RADIO, radio_share * added)

    def _idle_for(self, seconds: float, watts: float) -> None:
        known = self._idle_watts
        share = 1.0 - math.exp(-seconds / IDLE_MEMORY_S)
        self._idle_watts = watts if known is None else known + share * (watts - known)

    def _count(self, part: Part, joules: float) -> None:
        key = (self.source, part)
        self._totals[key] = self._totals.get(key, 0.0) + joules

    def _radio_share(self, computing_s: float, sending_s: float) -> float:
        compute, radio = computing_s * self._nominal_compute, sending_s * self._nominal_transmit
        return radio / (compute + radio) if compute + radio > 0.0 else 0.0

    def _own_joules(self, spans: list[tuple[float, float]], sent: tuple[float, float] | None) -> float | None:
        """Beyond idle, in the task's own time."""
        joules = 0.0
        for began_s, ended_s in spans:
            part = self._excess(began_s, ended_s, self._compute)
            if part is None:
                return None
            sending_s = self._sending.seconds_between(began_s, ended_s)
            joules += part * (1.0 - self._radio_share(ended_s - began_s, sending_s))
        if sent is not None:
            part = self._excess(*sent, self._transmit)
            if part is None:
                return None
            joules += part * self._radio_share(self._computing.seconds_between(*sent), sent[1] - sent[0])
        return joules

    def _excess(self, began_s: float, ended_s: float, power: _FadingPower) -> float | None:
        """Joules beyond idle from ``began_s`` to ``ended_s``; what the newest look does not cover yet is reckoned at
        the mean of what it covers, else at the mean of the last seconds."""
        newest_s = self._integral.newest_at_s
        if newest_s is None or self._idle_watts is None:
            return None
        seconds, covered_s = ended_s - began_s, min(ended_s, newest_s) - began_s
        if covered_s <= 0.0:
            return None if power.watts is None else power.watts * seconds
        joules = self._integral.joules_between(began_s, began_s + covered_s)
        return None if joules is None else (joules - self._idle_watts * covered_s) * seconds / covered_s

    def _window_joules(self, work: TaskWork) -> float | None:
        joules = 0.0
        for seconds, power in ((work.compute_s, self._compute), (work.transmit_s, self._transmit)):
            if seconds > 0.0:
                if power.watts is None:
                    return None
                joules += seconds * power.watts
        return joules


class _FadingPower:
    """Mean power over the last seconds in which something went on."""

    def __init__(self) -> None:
        self._joules = 0.0
        self._seconds = 0.0

    @property
    def watts(self) -> float | None:
        """``None``: it has not gone on yet."""
        return max(0.0, self._joules / self._seconds) if self._seconds > 0.0 else None

    def add(self, joules: float, seconds: float) -> None:
        """It went on for ``seconds`` and took ``joules``."""
        if seconds > 0.0:
            fading = math.exp(-seconds / WORK_MEMORY_S)
            self._joules = fading * self._joules + joules
            self._seconds = fading * self._seconds + seconds
