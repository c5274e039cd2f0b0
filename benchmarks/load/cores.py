"""Which core whom: the loaded service has one, the generators the others, so that neither takes the other's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def service_core() -> int | None:
    """The loaded service's core; ``None``: there is only one, or the system does not let processes be told."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    usable = os.sched_getaffinity(0)
    return min(usable) if len(usable) > 1 else None


@contextmanager
def on_cores(*, is_service: bool) -> Iterator[None]:
    """Processes started meanwhile run on the service's core, or on the others; where there is one for it."""
    core = service_core()
    if core is None:
        yield
        return
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core} if is_service else every - {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)
