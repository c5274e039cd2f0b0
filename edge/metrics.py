"""The edge's metrics, read from its state at scrape (design section 9)."""

from __future__ import annotations

from collections.abc import Iterator

from edge.backlog_statistics import HORIZONS_S
from edge.engine.interface import TailEngine
from edge.gpu_energy import GpuEnergy
from edge.servicer import EdgeIdentity, EdgeServicer
from edge.tail_queue import TailEnd
from edge.tail_work import TailResult
from edge.twin_links import TwinLinks
from twinsplit.telemetry.exposition import Sample
from twinsplit.telemetry.histogram import Histogram
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.transport.calls import CallCount


class EdgeMetrics:
    """Everything that ``/metrics`` shows of an edge apart from its process."""

    def __init__(
        self,
        executor: TailEngine,
        servicer: EdgeServicer,
        identity: EdgeIdentity,
        queue_capacity: int,
        signalling: SignallingCount,
        calls: CallCount,
        link: TwinLinks | None,
        gpu_energy: GpuEnergy | None = None,
    ) -> None:
        self._executor = executor
        self._servicer = servicer
        self._identity = identity
        self._queue_capacity = queue_capacity
        self._signalling = signalling
        self._calls = calls
        self._link = link
        self._gpu_energy = gpu_energy
        self._wait = Histogram.of("twinsplit_tail_wait_seconds")
        self._service = Histogram.of("twinsplit_tail_service_seconds")
        servicer.observe = self.observe

    def observe(self, result: TailResult) -> None:
        """Count one tail that has left the queue."""
        if result.end is TailEnd.FINISHED:
            self._wait.observe(result.queue_wait_s)
            self._service.observe(result.service_s)

    def samples(self) -> Iterator[Sample]:
        """Read now."""
        ends = self._executor.ends()
        for end in TailEnd:
            yield "twinsplit_tails_total", {"outcome": end.value}, ends.get(end, 0)
        yield "twinsplit_tails_total", {"outcome": "refused"}, self._servicer.refused_tails
        for code, count in self._servicer.refusals.items():
            yield "twinsplit_refused_messages_total", {"code": code.value}, count
        yield "twinsplit_tail_wait_seconds", {}, self._wait
        yield "twinsplit_tail_service_seconds", {}, self._service
        yield "twinsplit_tail_wire_bytes_total", {}, self._servicer.wire_bytes
        yield "twinsplit_tail_raw_bytes_total", {}, self._servicer.raw_bytes
        batches, batched_tails = self._executor.batches
        yield "twinsplit_tail_batches_total", {}, batches
        yield "twinsplit_batched_tails_total", {}, batched_tails
        yield from self._queue_samples()
        yield from self._executor.samples()
        yield "twinsplit_device_streams", {}, self._servicer.open_streams
        yield "twinsplit_models_held", {}, len(self._servicer.models)
        yield "twinsplit_provider_info", {"provider": self._identity.provider}, 1.0
        if self._link is not None:
            yield "twinsplit_twin_attached", {}, float(self._link.is_attached)
            yield "twinsplit_twin_replicas", {}, self._link.listed
            yield "twinsplit_twin_replicas_attached", {}, self._link.attached
        if self._gpu_energy is not None:
            yield from self._gpu_energy.samples()
        yield from self._signalling.samples()
        yield from self._calls.samples()

    def _queue_samples(self) -> Iterator[Sample]:
        reading = self._executor.reading()
        yield "twinsplit_tails_waiting", {}, reading.queue_length
        yield "twinsplit_tail_queue_capacity", {}, self._queue_capacity
        yield "twinsplit_backlog_seconds", {}, reading.backlog.backlog_s
        yield "twinsplit_backlog_mean_seconds", {}, reading.backlog.mean_s
        yield "twinsplit_backlog_time_constant_seconds", {}, reading.backlog.time_constant_s
        for horizon_s, work_s in zip(HORIZONS_S, reading.arrived_work_s, strict=True):
            yield "twinsplit_arrived_work_seconds", {"window": f"{horizon_s:g}s"}, work_s
        yield "twinsplit_speed_factor", {}, reading.speed_factor
        yield "twinsplit_busy_share", {}, reading.busy_share
