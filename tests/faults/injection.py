"""Faults by real means, each with a count that shows that it has hit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from benchmarks.testbed.process import ServiceProcess
from tests.faults.catalogue import Cell, Fault, Service
from tests.faults.link import Link
from tests.faults.stage import Stage

SLOW_BYTES_PER_S = 300.0
"""A payload of 944 bytes takes 3 s, far longer than its answer is waited for."""
STOP_PATIENCE_S = 5.0


class Injection(Protocol):
    """A fault in force."""

    def end(self) -> None:
        """Undo it, and return when the service can work again."""

    @property
    def fired(self) -> int:
        """How often it has hit: signals that took effect, bytes and connections that suffered."""


class Killed:
    """SIGKILL; started again at the end."""

    def __init__(self, process: ServiceProcess) -> None:
        self._process = process
        process.kill()
        self.fired = int(process.stop() == -signal.SIGKILL)

    def end(self) -> None:
        self._process.start()
        self._process.wait_until_ready()


class Restarted:
    """SIGTERM and a new start, both at once."""

    def __init__(self, process: ServiceProcess) -> None:
        self._process = process
        self.fired = int(process.stop() == 0)
        process.start()

    def end(self) -> None:
        self._process.wait_until_ready()


class Stopped:
    """SIGSTOP until the end."""

    def __init__(self, process: ServiceProcess) -> None:
        pid = process.pid
        assert pid is not None, f"{process.name} does not run"
        self._pid = pid
        os.kill(pid, signal.SIGSTOP)
        deadline_s = time.monotonic() + STOP_PATIENCE_S
        while not (is_stopped := _state(pid) == "T") and time.monotonic() < deadline_s:
            time.sleep(0.001)
        self.fired = int(is_stopped)

    def end(self) -> None:
        os.kill(self._pid, signal.SIGCONT)


class LinkFault:
    """Something that happens to links until the end."""

    def __init__(self, fault: Fault, links: list[Link]) -> None:
        self._links = links
        self._before = self._count()
        for link in links:
            if fault is Fault.BLACK_HOLED:
                # What was halted on its way, to be hit there, is never let go.
                self._before -= link.held
                link.hold()
            elif fault is Fault.SLOW:
                link.slow(SLOW_BYTES_PER_S)
            else:
                link.flap()

    @property
    def fired(self) -> int:
        return self._count() - self._before

    def end(self) -> None:
        for link in self._links:
            link.mend()

    def _count(self) -> int:
        return sum(link.fired.total() for link in self._links)


def inject(cell: Cell, stage: Stage) -> Injection:
    """The fault of ``cell``, from now on."""
    process = stage.process(cell.service)
    if cell.fault is Fault.KILLED:
        return Killed(process)
    if cell.fault is Fault.RESTARTED:
        return Restarted(process)
    if cell.fault is Fault.STOPPED:
        return Stopped(process)
    return LinkFault(cell.fault, stage.links_of(cell.service))


def ends_a_life(cell: Cell) -> bool:
    """Whether the device's process ends, and its counters with it."""
    return cell.service is Service.DEVICE and cell.fault in (Fault.KILLED, Fault.RESTARTED)


@contextmanager
def resumed_at_the_end(stage: Stage) -> Iterator[None]:
    """Whatever happens, no process stays stopped."""
    try:
        yield
    finally:
        for process in stage.processes:
            if process.pid is not None and _state(process.pid) == "T":
                os.kill(process.pid, signal.SIGCONT)


def _state(pid: int) -> str:
    """Letter of the process's state, T for stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
