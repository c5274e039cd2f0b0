"""Tails that arrived at the edge, noted for the twin's workload twin until they are told. Sans-IO.

They ride on the reports and heartbeats that are sent anyway, so that they cost bytes but no message.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

MOST_ARRIVALS = 4096
"""Arrivals kept until they are told; then the oldest go: the twin sees their sum in the next backlog."""
OLDEST_S = 60.0
"""What is older is of no use to the twin."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One tail that was taken into the queue."""

    at_s: float
    work_s: float
    """Predicted service time, seconds."""
    device_id: str = ""
    """Whose it is; empty: some other user's."""
    task_id: int = 0


class ArrivalLog:
    """Arrivals that the twin has not been told, oldest first."""

    def __init__(self, most: int = MOST_ARRIVALS) -> None:
        self._arrivals: deque[Arrival] = deque(maxlen=most)

    def __len__(self) -> int:
        return len(self._arrivals)

    def add(self, arrival: Arrival) -> None:
        """A tail has been taken into the queue."""
        self._arrivals.append(arrival)

    def untold(self, now_s: float) -> tuple[Arrival, ...]:
        """What is to be told at ``now_s``."""
        while self._arrivals and self._arrivals[0].at_s < now_s - OLDEST_S:
            self._arrivals.popleft()
        return tuple(self._arrivals)

    def told(self, arrivals: tuple[Arrival, ...]) -> None:
        """``arrivals``, as :meth:`untold` gave them, have been sent."""
        if arrivals:
            last = arrivals[-1]
            count = next((n for n, each in enumerate(self._arrivals, 1) if each is last), 0)
            for _ in range(count):
                self._arrivals.popleft()


class ArrivalLogs:
    """What arrives, noted for every replica of the twin in a log of its own: each is told in its own time."""

    def __init__(self) -> None:
        self._logs: dict[str, ArrivalLog] = {}

    def open(self, replica: str) -> ArrivalLog:
        """A log for a replica, by its address, from now on."""
        log = self._logs[replica] = ArrivalLog()
        return log

    def close(self, replica: str) -> None:
        """Nothing is noted for that replica any more."""
        self._logs.pop(replica, None)

    def add(self, arrival: Arrival) -> None:
        """A tail has been taken into the queue."""
        for log in self._logs.values():
            log.add(arrival)
