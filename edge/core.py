"""A core of its own for an edge, on which whatever reads, refuses and answers gives way to the thread that computes.

Python's threads take turns at one lock. Where they sit on two cores each turn is a wake-up across them, a dozen for
every tail, and an edge that is offered twice what it holds spends half of the computing thread's time on them. On one
core a turn costs next to nothing; and as a batch thread (``SCHED_BATCH``) what wakes for a message waits until the
computing thread sleeps or its slice is over, so that messages are dealt with several at a time (docs/load.md).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from twinsplit.errors import SettingsError


def keep_to(core: int, threads: int) -> None:
    """Keep this process to ``core``, its threads as batch threads; those that start later inherit it.

    Args:
        core: as Linux numbers them, from 0.
        threads: of one inference.

    Raises:
        SettingsError: there is no such core here, several threads would share it, the system forbids it or is no Linux.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise SettingsError("--core is for Linux; leave it out")
    if threads > 1:
        raise SettingsError(f"--core is one core, but --threads asks for {threads}; leave one of them out")
    usable = os.sched_getaffinity(0)
    if core not in usable:
        raise SettingsError(f"--core {core}: this process may use {', '.join(map(str, sorted(usable)))}")
    try:
        # Libraries have threads from their import on; one may end meanwhile.
        for thread in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), {core})
                os.sched_setscheduler(int(thread.name), os.SCHED_BATCH, os.sched_param(0))
    except PermissionError:
        raise SettingsError("--core: this system does not let a process choose; leave it out") from None


def go_first() -> None:
    """Let the calling thread go before the batch threads of this process; where there are none it changes nothing."""
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) == os.SCHED_BATCH:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
