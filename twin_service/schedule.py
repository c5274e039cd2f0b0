"""One heap for everything that is due at some instant, whatever the number of devices."""

from __future__ import annotations

import heapq
import math
from enum import Enum
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


class Appointment(str, Enum):
    """What is due."""

    LEASE = "lease"
    """The lease may have to be renewed."""
    LOOK = "look"
    """The device's own reckoning crosses a break point."""
    WEIGH = "weigh"
    """Its plan was weighed just before it said something; what has moved since counts from then on."""


class Schedule:
    """At most one instant per device and kind of appointment."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str, Appointment]] = []
        self._due_s: dict[tuple[str, Appointment], float] = {}

    def put(self, device_id: str, appointment: Appointment, due_s: float) -> None:
        """Set or move an appointment; ``inf`` removes it."""
        if due_s == math.inf:
            self._due_s.pop((device_id, appointment), None)
            return
        if self._due_s.get((device_id, appointment)) != due_s:
            self._due_s[device_id, appointment] = due_s
            heapq.heappush(self._heap, (due_s, device_id, appointment))

    def discard(self, device_id: str) -> None:
        """Remove all appointments of a device."""
        for appointment in Appointment:
            self._due_s.pop((device_id, appointment), None)

    def take_due(self, now_s: float) -> list[tuple[str, Appointment]]:
        """Appointments due at ``now_s``; they are removed."""
        due = []
        while self._heap and self._heap[0][0] <= now_s:
            due_s, device_id, appointment = heapq.heappop(self._heap)
            if self._due_s.get((device_id, appointment)) == due_s:  # else it was moved or removed
                del self._due_s[device_id, appointment]
                due.append((device_id, appointment))
        return due

    def next_s(self) -> float:
        """Instant of the next appointment; ``inf``: there is none."""
        while self._heap and self._due_s.get(self._heap[0][1:]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf


def taken(pending: dict[str, T], limit: int) -> list[tuple[str, T]]:
    """The first ``limit`` entries of ``pending``, removed from it."""
    chosen = list(islice(pending.items(), limit))
    for key, _ in chosen:
        del pending[key]
    return chosen
