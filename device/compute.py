"""The compute thread: carries out the pipeline's steps one after the other, and hands everything else to the shell.

The only place that locks: events come from the compute thread, the source and the event loop, and each is taken under
the lock. The thread goes from one step to the next without the event loop, so that an epoch costs a table look-up and
no hop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from numpy.typing import NDArray

from device.emulation import Slowdown
from device.pipeline import Pipeline
from device.task import (
    STEPS,
    AskTwin,
    CancelUpload,
    Encode,
    Finish,
    Instruction,
    RunExit,
    RunSegment,
    Step,
    Task,
    Upload,
)
from twinsplit.clock import Clock
from twinsplit.errors import FrameError, TwinsplitError
from twinsplit.model.payload import encode_payload
from twinsplit.model.preprocessing import PreparedInput
from twinsplit.model.runtime import Answer, SegmentRuntime
from twinsplit.telemetry.logs import EventLog
from twinsplit.tensor import EncodedTensor
from twinsplit.types import Decision, Payload, TaskRecord

if TYPE_CHECKING:
    from device.task_trace import TaskTrace

_log = EventLog("device.compute")

T = TypeVar("T")

AWAITED = (Upload, CancelUpload, Finish)
"""Instructions that an edge or a submitter waits for."""
LAST_STEP_S = 5.0
"""A stopping device waits this long for the step that runs."""

Event = Callable[[Pipeline, float], list[Instruction]]
"""One event of the pipeline, given the instant."""
Deliver = Callable[[TaskRecord, "Answer | None", "FrameError | None"], None]
"""Takes the outcome of a submitted frame: its record, the network's answer, and why the frame was refused."""


@dataclass(slots=True)
class Cargo:
    """What a task carries besides its state."""

    prepared: PreparedInput | None
    """Kept while the input may still be sent."""
    tensor: NDArray[Any] | None = None
    """Of the cut at which the task stands."""
    exit_tensor: NDArray[Any] | None = None
    """Of the cut of the best exit, where that exit may be the last resort."""
    encoded: EncodedTensor | None = None
    """The payload until its answer is in: another edge may need it."""
    answer: Answer | None = None
    """The network's answer, whoever gave it."""
    problem: FrameError | None = None
    """Why the frame was refused."""
    deliver: Deliver | None = None
    """The submitter's; ``None``: nobody waits but the sink."""
    trace: TaskTrace | None = None
    """``None``: the task is not traced."""


class StepWatch(Protocol):
    """Told, from the compute thread, of every step that takes the processor."""

    def step_began(self, at_s: float) -> None:
        """A step is being carried out."""

    def step_ended(self, task_id: int, began_s: float, ended_s: float) -> None:
        """It was carried out, or failed."""


class Engine:
    """A pipeline with its lock, its compute thread and a door for everything that is not compute."""

    def __init__(
        self,
        pipeline: Pipeline,
        runtime: SegmentRuntime,
        clock: Clock,
        deliver: Callable[[list[Instruction]], None],
        *,
        slowdown: Slowdown | None = None,
        ask_twin: Callable[[AskTwin], Decision | None] = lambda question: None,
        watch: StepWatch | None = None,
        broken: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        """
        Args:
            deliver: takes uploads, outcomes and reports in order; called under the lock, must not block.
            slowdown: emulation; ``None``: none.
            ask_twin: polled mode; blocks for a bounded time.
            watch: told of every step that takes the processor; ``None``: nobody is.
            broken: told of a defect of the pipeline, after which the thread has ended.
        """
        self._pipeline = pipeline
        self._runtime = runtime
        self._manifest = runtime.manifest
        self._now_s = clock.monotonic_s
        self._deliver = deliver
        self._slowdown = slowdown
        self._ask_twin = ask_twin
        self._watch = watch
        self._broken = broken
        self._lock = threading.Lock()
        self._steps: SimpleQueue[Step | None] = SimpleQueue()
        """At most one step, or ``None``: the end."""
        self._last_resort_cut = self._cut_of_last_resort()
        self._thread = threading.Thread(target=self._run, name="device-compute", daemon=True)

    def start(self) -> None:
        """Start the compute thread."""
        self._thread.start()

    def event(self, event: Event) -> None:
        """Something happened; from any thread."""
        with self._lock:
            instructions = event(self._pipeline, self._now_s())
            if instructions:
                self._hand_out(instructions)

    def look(self, read: Callable[[Pipeline, float], T]) -> T:
        """Read the pipeline's state under the lock; ``read`` must not change it."""
        with self._lock:
            return read(self._pipeline, self._now_s())

    def close(self) -> None:
        """End the compute thread after the step that runs."""
        self._steps.put(None)
        if self._thread.is_alive():
            self._thread.join(LAST_STEP_S)

    def _hand_out(self, instructions: list[Instruction]) -> None:
        step: Step | None = None
        others: list[Instruction] = []
        for instruction in instructions:
            if isinstance(instruction, STEPS):
                step = instruction
            else:
                others.append(instruction)
        # What is awaited outside must not wait for the thread that computes, and that thread not for reports.
        is_step_first = not any(isinstance(other, AWAITED) for other in others)
        if step is not None and is_step_first:
            self._steps.put(step)
        if others:
            self._deliver(others)
        if step is not None and not is_step_first:
            self._steps.put(step)

    def _run(self) -> None:
        while (step := self._steps.get()) is not None:
            cargo, began_s = cargo_of(step.task), self._now_s()
            watch = None if isinstance(step, AskTwin) else self._watch
            if watch is not None:
                watch.step_began(began_s)
            try:
                event = self._done(step, cargo, began_s)
            except Exception as error:  # noqa: BLE001 - one broken task must not end the thread that serves all others
                self._log_failure(step, error)
                event = _step_failed
            if watch is not None:
                watch.step_ended(step.task.task_id, began_s, self._now_s())
            if cargo.trace is not None:
                cargo.trace.step_done(step, began_s, self._now_s())
            try:
                self.event(event)
            except Exception as error:  # noqa: BLE001 - a device that stands still must not look alive
                _log.exception("pipeline-broken", error)
                self._broken(error)
                return

    def _done(self, step: Step, cargo: Cargo, began_s: float) -> Event:
        """Carry out ``step``: the event that says so."""
        if isinstance(step, RunSegment):
            return self._segment_done(step.index, cargo, began_s)
        if isinstance(step, RunExit):
            index = step.index
            tensor = cargo.exit_tensor if step.task.is_last_resort else cargo.tensor
            answer = self._runtime.run_exit(index, _present(tensor))
            if answer is None:
                _log.warning("exit-not-finite", limit_s=10.0, exit=index, task=step.task.task_id)
            self._stretch(("exit", index), began_s)
            return lambda pipeline, now_s: pipeline.exit_done(now_s, index, answer)
        if isinstance(step, Encode):
            return self._encoded(step, cargo, began_s)
        decision = self._ask_twin(step)
        return lambda pipeline, now_s: pipeline.polled(now_s, decision)

    def _segment_done(self, index: int, cargo: Cargo, began_s: float) -> Event:
        cargo.encoded = None
        cargo.tensor = tensor = self._runtime.run_segment(index, _present(cargo.tensor))
        if index + 1 == self._last_resort_cut:
            cargo.exit_tensor = tensor
        answer = None
        if index + 1 == self._manifest.segment_count:
            cargo.answer = answer = self._runtime.answer(tensor)
        self._stretch(("segment", index), began_s)
        return lambda pipeline, now_s: pipeline.segment_done(now_s, answer)

    def _encoded(self, step: Encode, cargo: Cargo, began_s: float) -> Event:
        offload, prepared = step.offload, cargo.prepared
        is_input = offload.payload is Payload.INPUT
        cargo.encoded = encoded = encode_payload(
            self._manifest,
            offload.cut,
            offload.representation_index,
            _present(prepared.tensor if is_input and prepared is not None else cargo.tensor),
            prepared.picture if prepared is not None else None,
        )
        # No other payload is ever made: from here on only this one and the boundary tensor are kept.
        cargo.prepared = None
        self._stretch(("encode", offload.cut, offload.representation_index), began_s)
        return lambda pipeline, now_s: pipeline.encoded(now_s, encoded.wire_bytes)

    def _stretch(self, step: tuple[str, int] | tuple[str, int, int], began_s: float) -> None:
        if self._slowdown is not None:
            self._slowdown.stretch(step, began_s)

    def _cut_of_last_resort(self) -> int | None:
        exit_ = self._pipeline.best_exit
        is_head_only = self._manifest.held_segments < self._manifest.segment_count
        return exit_.after_segment if is_head_only and exit_ is not None else None

    def _log_failure(self, step: Step, error: Exception) -> None:
        name = type(step).__name__
        if isinstance(error, TwinsplitError):
            _log.error("step-failed", limit_s=10.0, step=name, task=step.task.task_id, error=str(error))
        else:
            _log.exception("step-failed", error, step=name, task=step.task.task_id)


def cargo_of(task: Task) -> Cargo:
    """What ``task`` carries."""
    return cast(Cargo, task.cargo)


def _present(tensor: NDArray[Any] | None) -> NDArray[Any]:
    assert tensor is not None, "a step is only asked for where its tensor is"
    return tensor


def _step_failed(pipeline: Pipeline, now_s: float) -> list[Instruction]:
    return pipeline.step_failed(now_s)
