"""The shell around the pipeline: carries out uploads, outcomes and reports, and turns what arrives into events.

Everything here runs in the event loop, but for :meth:`Shell.take_frame`, which runs in the source's thread, and
:meth:`Shell.deliver`, which only hands over.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from device.compute import Cargo, Deliver, Engine, cargo_of
from device.metrics import DeviceMetrics
from device.pipeline import Pipeline
from device.sinks import JsonLinesSink
from device.sources import SourceFrame
from device.status import status_document
from device.task import CancelUpload, Finish, Instruction, Upload
from device.task_records import task_line
from device.thumbnails import Thumbnails
from device.twin_link import TwinLink
from device.twin_wire import Attachment, LiveState
from device.uplink import Uplink, UploadTrace
from twinsplit.clock import Clock
from twinsplit.edge_list import ListedEdge
from twinsplit.errors import ComputeError, FrameError, RefusedError, TensorError
from twinsplit.model.preprocessing import PreparedInput, prepare, prepare_tensor
from twinsplit.model.runtime import Answer, SegmentRuntime
from twinsplit.plan import Plan
from twinsplit.reckoning import BacklogState
from twinsplit.telemetry.exposition import Sample
from twinsplit.telemetry.logs import EventLog
from twinsplit.tensor import decode
from twinsplit.transport.tail_stream import InferResponse
from twinsplit.types import Reason

if TYPE_CHECKING:
    from device.task_trace import TaskTrace
    from device.task_tracing import TaskTracing

_log = EventLog("device")

REPEATED_LINE_S = 10.0


class Shell:
    """Joins engine, uplink, link, sink and submitters; ``engine``, ``uplink``, ``metrics`` and ``link`` are set once by
    the service before anything runs."""

    engine: Engine
    uplink: Uplink
    metrics: DeviceMetrics

    def __init__(self, runtime: SegmentRuntime, clock: Clock, sink: JsonLinesSink | None) -> None:
        self.link: TwinLink | None = None
        self.thumbnails: Thumbnails | None = None
        """``None``: no picture of a frame is sent to the twin. Set once, like ``link``."""
        self.tracing: TaskTracing | None = None
        """``None``: nothing is traced. Set once, like ``link``."""
        self._runtime = runtime
        self._manifest = runtime.manifest
        self._now_s = clock.monotonic_s
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._output_shape = runtime.manifest.cuts[-1].tensor.shape
        self._preparer = ThreadPoolExecutor(1, thread_name_prefix="device-prepare")
        self._was_degraded = False
        self._all_ended = asyncio.Event()

    # Instructions.

    def deliver(self, instructions: list[Instruction]) -> None:
        """Hand instructions to the event loop; from any thread."""
        self._loop.call_soon_threadsafe(self._carry_out, instructions)

    def _carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Upload):
                self._upload(instruction)
            elif isinstance(instruction, CancelUpload):
                self.uplink.cancel(instruction.task.task_id, instruction.offload)
            elif isinstance(instruction, Finish):
                self._finish(instruction)
            elif self.link is not None:
                self.link.report(instruction)  # type: ignore[arg-type] # steps never get here

    def _upload(self, upload: Upload) -> None:
        cargo = cargo_of(upload.task)
        encoded = cargo.encoded
        if encoded is None:
            # The edge was lost and the task went on here, before it was told so.
            return
        trace = None
        if cargo.trace is not None:
            trace = UploadTrace(cargo.trace.sent(upload.offload), cargo.trace.origin_unix_ns)
        self.uplink.send(upload.task.task_id, upload.offload, encoded, trace)
        self.metrics.note_upload(upload.offload.payload.value, encoded.wire_bytes, encoded.header.raw_bytes)

    def _finish(self, finish: Finish) -> None:
        record, cargo = finish.record, cargo_of(finish.task)
        self.metrics.note_task(record)
        if self._sink is not None:
            self._sink.put(task_line(record, cargo.answer))
        if cargo.deliver is not None:
            cargo.deliver(record, cargo.answer, cargo.problem)
        if self.tracing is not None:
            # After the answers that others wait for.
            self._loop.call_soon(self._trace, finish, cargo.trace or self.tracing.begin())
        if self.engine.look(lambda pipeline, now_s: pipeline.is_empty):
            self._all_ended.set()
        _log.debug("task-ended", task=record.task_id, outcome=record.outcome.value, reason=record.reason.value)

    def _trace(self, finish: Finish, trace: TaskTrace) -> None:
        if self.tracing is not None:
            round_trip_s = self.engine.look(lambda pipeline, now_s: pipeline.tracker.round_trip_s)
            self.tracing.ended(trace, finish.task, finish.record, round_trip_s)

    # Frames.

    def take_frame(self, frame: SourceFrame) -> None:
        """A frame of the source, in the source's thread."""
        try:
            prepared = prepare(frame.data, self._manifest)
        except FrameError as error:
            self._refuse_frame(frame.name, Cargo(None, problem=error), frame.arrived_at_s)
        else:
            self._enter_frame(frame.name, prepared, None, frame.arrived_at_s)

    async def submit(self, name: str, data: bytes | NDArray[Any], deliver: Deliver) -> None:
        """A frame of a local program, or the model's input as it is."""
        arrived_at_s = self._now_s()
        try:
            if isinstance(data, bytes):
                prepared = await self._loop.run_in_executor(self._preparer, prepare, data, self._manifest)
            else:
                prepared = await self._loop.run_in_executor(self._preparer, prepare_tensor, data, self._manifest)
        except FrameError as error:
            self._refuse_frame(name, Cargo(None, problem=error, deliver=deliver), arrived_at_s)
        else:
            self._enter_frame(name, prepared, deliver, arrived_at_s)

    def _enter_frame(self, name: str, prepared: PreparedInput, deliver: Deliver | None, arrived_at_s: float) -> None:
        trace = None if self.tracing is None else self.tracing.begin()
        cargo = Cargo(prepared, prepared.tensor, deliver=deliver, trace=trace)
        thumbnail = None if self.thumbnails is None else self.thumbnails.of(prepared.picture, self._now_s())
        self.engine.event(
            lambda pipeline, now_s: pipeline.frame_arrived(
                now_s, name, cargo, arrived_at_s=arrived_at_s, thumbnail_jpeg=thumbnail
            )
        )

    def _refuse_frame(self, name: str, cargo: Cargo, arrived_at_s: float) -> None:
        _log.warning("bad-frame", limit_s=REPEATED_LINE_S, frame=name, error=str(cargo.problem))
        self.engine.event(lambda pipeline, now_s: pipeline.frame_refused(now_s, name, cargo, arrived_at_s=arrived_at_s))

    # From the uplink.

    def responded(self, address: str, response: InferResponse) -> None:
        """The edge has finished a tail, or refused it; its backlog may come with either."""
        task_id, answer, backlog = response.request_id, None, response.backlog
        error = response.problem or response.error
        if error is None:
            try:
                answer = self._answer_of(response)
            except RefusedError as problem:
                error, backlog = problem, None

        def event(pipeline: Pipeline, now_s: float) -> list[Instruction]:
            if backlog is not None:
                pipeline.backlog_seen(now_s, backlog, address)
            task = pipeline.offloads.task(task_id, address)
            if error is not None or task is None:
                return pipeline.upload_failed(now_s, task_id, Reason.EDGE_REFUSED, address)
            cargo = cargo_of(task)
            cargo.answer = answer
            if cargo.trace is not None:
                cargo.trace.arrival_s = response.traced_arrival_s or None
            return pipeline.answer_received(
                now_s,
                task_id,
                answer,
                edge_queue_s=response.queue_wait_s,
                edge_compute_s=response.service_s,
                edge_address=address,
            )

        self.engine.event(event)
        if error is not None:
            kind = type(error).__name__
            _log.warning("edge-refused", limit_s=REPEATED_LINE_S, limit_key=kind, edge=address, error=str(error))

    def _answer_of(self, response: InferResponse) -> Answer:
        if response.tensor is None or response.tensor.header.shape != self._output_shape:
            raise TensorError(f"the edge's answer is no output of shape {self._output_shape}; give it the same model")
        header, data = response.tensor
        output = decode(header, data, math.prod(self._output_shape))
        try:
            return self._runtime.answer(output)
        except ComputeError as error:
            raise TensorError(f"the edge's answer is none: {error}") from None

    def connected(self, address: str, round_trip_s: float) -> None:
        """The edge answers."""

        def event(pipeline: Pipeline, now_s: float) -> list[Instruction]:
            pipeline.tracker.round_trip_measured(round_trip_s, address)
            return pipeline.edge_connected(now_s, address)

        self.engine.event(event)

    def disconnected(self, address: str) -> None:
        """The connection to the edge is gone."""
        self.engine.event(lambda pipeline, now_s: pipeline.edge_disconnected(now_s, address))

    # From the twin.

    def attachment(self) -> Attachment:
        """What the twin is told at attachment."""

        def read(pipeline: Pipeline, now_s: float) -> Attachment:
            tracker = pipeline.tracker
            segment_s, exit_s = pipeline.reporter.profile_reported()
            return Attachment(
                segment_s,
                exit_s,
                dict(tracker.encode_s),
                tracker.goodput_bytes_per_s,
                tracker.round_trip_s,
                pipeline.plans.last_plan_id,
                tracker.speed_share,
            )

        return self.engine.look(read)

    def live_state(self) -> LiveState:
        """State now."""

        def read(pipeline: Pipeline, now_s: float) -> LiveState:
            task = pipeline.in_service
            times_s = task.epoch_times_s if task is not None else []
            return LiveState(
                queue_length=pipeline.queue_length,
                started=pipeline.reporter.serving,
                epoch=max(len(times_s) - 1, 0),
                reached_at_s=times_s[-1] if times_s else now_s,
                state=pipeline.reporter.asked(now_s, pipeline.condition(now_s)),
            )

        return self.engine.look(read)

    def attached(self, heartbeat_s: float) -> None:
        """The twin has welcomed this device."""
        self.engine.event(lambda pipeline, now_s: pipeline.twin_attached(now_s, heartbeat_s))

    def plan_received(self, plan: Plan, backlog: BacklogState | None) -> None:
        """A plan has arrived."""
        self.engine.event(lambda pipeline, now_s: pipeline.plan_received(now_s, plan, backlog))
        _log.info("plan-received", limit_s=1.0, plan=plan.plan_id, rule=plan.rule, edge=plan.edge_id)
        if plan.edge_address is not None:
            address = self.engine.look(lambda pipeline, now_s: pipeline.plans.edge_address)
            if address is not None:
                self.uplink.prepare(address)

    def edges_listed(self, edges: tuple[ListedEdge, ...]) -> None:
        """The twin lists the edges that there are."""
        if not edges and not self.engine.look(lambda pipeline, now_s: len(pipeline.offloads.edges)):
            return
        self.engine.event(lambda pipeline, now_s: pipeline.edges_listed(now_s, edges))
        _log.info("edges-listed", edges=[edge.edge_id for edge in edges])
        self._keep_streams()

    def backlog_updated(self, backlog: BacklogState) -> None:
        """A newer backlog of the plan's edge has arrived."""
        self.engine.event(lambda pipeline, now_s: pipeline.backlog_seen(now_s, backlog))

    def lease_renewed(self, lease_s: float) -> None:
        """A message of the twin has arrived."""
        self.engine.event(lambda pipeline, now_s: pipeline.lease_renewed(now_s, lease_s))

    # Time, and how things stand.

    def tick(self) -> None:
        """Time has passed."""
        self.engine.event(lambda pipeline, now_s: pipeline.tick(now_s))
        self._keep_streams()
        absence = self.engine.look(lambda pipeline, now_s: pipeline.plans.absence(now_s))
        is_degraded = absence is not None and self.link is not None
        if is_degraded != self._was_degraded:
            self._was_degraded = is_degraded
            if is_degraded:
                _log.warning("degraded", reason=absence.value if absence is not None else "")
            else:
                _log.info("plan-in-force")

    def _keep_streams(self) -> None:
        """Stay connected to the edges that may be used, and to no others."""
        addresses = self.engine.look(lambda pipeline, now_s: pipeline.offloads.addresses())
        if addresses != self.uplink.addresses:
            self.uplink.keep(addresses)

    def samples(self) -> list[Sample]:
        """The metrics now."""
        return self.engine.look(lambda pipeline, now_s: list(self.metrics.samples(pipeline, now_s)))

    def status_of(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """How the device stands now."""
        return self.engine.look(lambda pipeline, now_s: status_document(pipeline, now_s, identity))

    async def drained(self) -> None:
        """Return when every task that entered has its outcome."""
        self._all_ended.clear()
        if not self.engine.look(lambda pipeline, now_s: pipeline.is_empty):
            await self._all_ended.wait()

    def close(self) -> None:
        """Prepare no more frames."""
        self._preparer.shutdown(wait=False, cancel_futures=True)
