"""One cell: the moment, the fault, its end, the recovery, and the books."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.faults.catalogue import Cell, Fault, Service
from tests.faults.injection import ends_a_life, inject, resumed_at_the_end
from tests.faults.moments import await_moment
from tests.faults.program import Submission
from tests.faults.stage import ANSWER_TIMEOUT_S, SEGMENT_S, Device, Stage

FAULT_S = 3.0
"""How long a fault lasts, enough for the breaker to open; a restart takes as long as it takes."""
RECOVERY_S = 3.0
"""Within so long after the end of a fault everything works again."""
TOLERANCE_S = 0.25
"""For the emulated slowness and a machine that runs all services at once."""
WAITING_BOUND_S = ANSWER_TIMEOUT_S + SEGMENT_S + TOLERANCE_S
"""A fault adds no more waiting to a task: the time that an answer is waited for, and one segment."""
PATIENCE_S = 20.0
PAUSE_S = 0.05
STEADY_TASKS = 2


@dataclass(frozen=True, slots=True)
class CellResult:
    """What a cell has shown."""

    service: str
    fault: str
    moment: str
    fired: int
    """Signals that took effect, or bytes and connections that suffered."""
    entered: int
    outcomes: dict[str, int]
    broken: int
    """Tasks whose outcome was the kill of the device's process, as the program that submitted them saw."""
    waiting_s: float
    """Largest waiting that the fault added to a task (without the time for which the device itself was stopped)."""
    recovery_s: float
    """From the end of the fault until everything worked again."""
    problems: tuple[str, ...]
    """What was not as promised; empty: passed."""

    def document(self) -> dict[str, Any]:
        return asdict(self)


class _Loop:
    """One task after the other, the next when the last has its outcome, so that no task waits for another."""

    def __init__(self, device: Device, frame: bytes) -> None:
        self.open: Submission | None = None
        self._device, self._frame = device, frame

    def step(self, patience_s: float) -> Submission | None:
        """Submit unless one is open; the one that has got its outcome within ``patience_s``."""
        submission = self.open or self._device.program.submit(self._frame)
        self.open = None if submission.over.wait(max(0.0, patience_s)) else submission
        return submission if self.open is None else None

    def finish(self) -> None:
        """Wait for the outcome of the task that is open."""
        if self.open is not None and self.open.over.wait(PATIENCE_S):
            self.open = None

    def run_for(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0.0:
            self.step(left_s)
            time.sleep(min(PAUSE_S, max(0.0, end_s - time.monotonic())))


def run_cell(cell: Cell, stage: Stage) -> CellResult:
    """Run ``cell`` on a stage that is whole, and leave it whole unless there are problems."""
    device = stage.devices[0]
    device.settled()
    recorded = stage.recorded()
    first_submission, first_line = len(device.program.submissions), len(device.lines)
    loop = _Loop(device, stage.frame)
    for _ in range(STEADY_TASKS):
        loop.step(PATIENCE_S)

    loop.open, halted = await_moment(cell.moment, stage)
    began_at_s = time.monotonic()
    with resumed_at_the_end(stage):
        injection = inject(cell, stage)
        if halted is not None and (cell.fault is not Fault.BLACK_HOLED or halted not in stage.links_of(cell.service)):
            halted.release()
        if ends_a_life(cell):
            time.sleep(0.0 if cell.fault is Fault.RESTARTED else FAULT_S)
        else:
            loop.run_for(FAULT_S)
        injection.end()
    ended_at_s = time.monotonic()
    fired = injection.fired
    if ends_a_life(cell):
        device.new_life()
    recovered_at_s = _recover(loop, stage, ended_at_s)
    problems = [] if fired else ["the fault has not fired"]
    if recovered_at_s is None:
        problems.append(f"not whole {PATIENCE_S:g} s after the fault: {stage.lack()}")
        recovered_at_s = time.monotonic()
    recovery_s = recovered_at_s - ended_at_s
    if recovery_s > RECOVERY_S:
        problems.append(f"whole again only after {recovery_s:.3f} s")
    loop.finish()

    problems += device.settled()
    if lost := recorded - stage.recorded():
        problems.append(f"the twin had recorded {len(lost)} tasks that it has no more")
    submissions, lines = device.program.submissions[first_submission:], device.lines[first_line:]
    problems += books_problems(submissions, lines, cell)
    waiting_s = max(map(added_waiting_s, lines), default=0.0)
    if cell.service is Service.DEVICE and cell.fault is Fault.STOPPED:
        waiting_s = max(0.0, waiting_s - (ended_at_s - began_at_s))
    if waiting_s > WAITING_BOUND_S:
        problems.append(f"a task waited {waiting_s:.3f} s, more than {WAITING_BOUND_S:.3f} s")
    return CellResult(
        service=cell.service.value,
        fault=cell.fault.value,
        moment=cell.moment.value,
        fired=fired,
        entered=len(submissions),
        outcomes=dict(Counter(submission.answers[0]["outcome"] for submission in submissions if submission.answers)),
        broken=sum(submission.has_broken for submission in submissions),
        waiting_s=waiting_s,
        recovery_s=recovery_s,
        problems=tuple(problems),
    )


def _recover(loop: _Loop, stage: Stage, ended_at_s: float) -> float | None:
    """Instant at which everything works: a task submitted after the fault has ended at an edge, and no service lacks
    anything; ``None``: never."""
    first = len(stage.devices[0].program.submissions)
    while time.monotonic() < ended_at_s + PATIENCE_S:
        submission = loop.step(PATIENCE_S)
        is_new = submission is not None and submission.request_id > first
        if is_new and submission is not None and submission.ended_at == "edge" and stage.lack() is None:
            return time.monotonic()
        time.sleep(0.01)
    return None


def added_waiting_s(line: Mapping[str, Any]) -> float:
    """What a task, which nothing was in front of, waited: its latency less the work that was done for it."""
    stages = line["stages_s"]
    work_s = sum(stages[name] or 0.0 for name in ("compute", "encode", "edge_compute"))
    return float(line["latency_s"]) - work_s


def books_problems(submissions: Sequence[Submission], lines: Sequence[Mapping[str, Any]], cell: Cell) -> list[str]:
    """Where the program's books and the sink's do not show exactly one outcome for every task."""
    broken = [submission for submission in submissions if submission.has_broken]
    problems = [
        f"task {submission.request_id} has {len(submission.answers)} answers"
        + (" and broke off" if submission.has_broken else "")
        for submission in submissions
        if len(submission.answers) + submission.has_broken != 1
    ]
    is_killed = cell.service is Service.DEVICE and cell.fault is Fault.KILLED
    if broken and not is_killed:
        problems.append(f"{len(broken)} tasks broke off though the device was not killed")
    answered = len(submissions) - len(broken)
    # A device that is killed may take the line of one task with it that it has just answered, or has just not.
    if abs(answered - len(lines)) > int(is_killed):
        problems.append(f"{answered} tasks were answered, {len(lines)} have a line")
    return problems
