"""Waiting for the moment at which a fault is to hit."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.catalogue import Moment
from tests.faults.link import Link, Way
from tests.faults.program import Submission
from tests.faults.stage import Stage

PATIENCE_S = 30.0
HALF_A_PAYLOAD_BYTES = 400
"""A payload is 944 bytes and its envelope; what else goes up meanwhile has a few tens."""
HALF_A_PLAN_BYTES = 200
"""Of this rule a plan has some 400 bytes; what goes down before it at an attachment has 55."""


class MomentMissedError(AssertionError):
    """It did not come."""


def await_moment(moment: Moment, stage: Stage) -> tuple[Submission | None, Link | None]:
    """Return as soon as it is there: the task that is open then, and the link that is halted in the middle of it."""
    device = stage.devices[0]
    if moment is Moment.IDLE:
        _until(lambda: device.status()["open"] == 0, moment)
        return None, None
    if moment is Moment.MID_TASK:
        submission = device.program.submit(stage.frame)

        def is_in_service() -> bool:
            nonlocal submission
            if submission.over.is_set():  # between two looks
                submission = device.program.submit(stage.frame)
            return device.status()["task"] is not None

        _until(is_in_service, moment)
        return submission, None
    if moment is Moment.MID_UPLOAD:
        link = stage.device_edges[0]
        halted = link.halt_after(Way.UP, HALF_A_PAYLOAD_BYTES)
        submission = device.program.submit(stage.frame)
        if not halted.wait(PATIENCE_S):
            raise MomentMissedError("no payload passes")
        return submission, link
    if moment is Moment.MID_PLAN:
        link = stage.device_twin
        halted = link.halt_after(Way.DOWN, HALF_A_PLAN_BYTES)
        # A device that attaches anew is sent a plan.
        link.reset()
        if not halted.wait(PATIENCE_S):
            raise MomentMissedError("no plan passes")
        return None, link
    log = stage.state / "twin.sqlite-wal"
    before = _stamp(log)
    submission = device.program.submit(stage.frame)
    _until(lambda: _stamp(log) != before, moment)
    return submission, None


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _until(is_so: Callable[[], bool], moment: Moment) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline_s:
            raise MomentMissedError(f"{moment.value} does not come")
        time.sleep(0.0005)
