"""One device: the service's own pipeline, whose instructions take simulated time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.simulator.edge import SimulatedEdge
from benchmarks.simulator.link import Link
from benchmarks.simulator.samples import TaskSamples, evidence_draw
from benchmarks.simulator.situations import SituationGrid
from benchmarks.simulator.speeds import Speeds
from device.energy import ModelBooks
from device.offloads import OffloadSettings, offload_of
from device.pipeline import Pipeline, PipelineSettings
from device.plan_keeping import PlanKeeper
from device.reporting import Reporter
from device.task import CancelUpload, Encode, Finish, Instruction, RunExit, RunSegment, Task, Upload
from device.tracking import Tracker
from twin_service.decision.situation import Situation
from twinsplit.errors import RefusedError
from twinsplit.reckoning import BacklogState, DecayingRate
from twinsplit.types import Reason

if TYPE_CHECKING:
    from benchmarks.simulator.world import World

UNBOUNDED = 10**9


class _Answer(NamedTuple):
    """What an edge answers."""

    task_id: int
    edge: SimulatedEdge
    queue_s: float
    service_s: float
    backlog: BacklogState | None = None


class SimulatedDevice:
    """A pipeline, its uplink and its edge. Sees and changes the world only at ``world.now_s``."""

    def __init__(
        self,
        world: World,
        index: int,
        speeds: Speeds,
        grid: SituationGrid,
        edge: SimulatedEdge,
        link: Link,
        samples: TaskSamples,
    ) -> None:
        scenario = world.scenario
        self.world = world
        self.index = index
        self.speeds = speeds
        self.edge = edge
        """The edge that it is planned for."""
        self.link = link
        self.samples = samples
        self.pipeline: Pipeline
        self.tracker = Tracker(speeds.segment_s, speeds.exit_s, speeds.encode_s)
        self.tracker.round_trip_measured(2.0 * scenario.uplink_delay_s)
        self._grid = grid
        self._draw = evidence_draw(world.manifest)
        self._delay_s = scenario.uplink_delay_s
        self._timeout_s = scenario.answer_timeout_s
        self._rate = DecayingRate(0.0)
        self._busy = DecayingRate(0.0)
        self._tracked = (0.0, 0.0, 0.0, 0.0)
        self._tracked_for: Task | None = None
        self._serving: Task | None = None
        self._serving_since_s = 0.0
        self._delivered_at_s = 0.0
        self._connected: frozenset[str] = frozenset()
        self._next_arrival = 0

    def equip(self, plans: PlanKeeper, reporter: Reporter) -> None:
        """Make the pipeline around what decides and what reports."""
        world, scenario = self.world, self.world.scenario
        weights = scenario.weights
        settings = PipelineSettings(
            queue_capacity=scenario.queue_capacity or UNBOUNDED,
            is_polled=world.deciding.asks_twin,
            offloads=OffloadSettings(
                kept_tensors=scenario.kept_tensors or UNBOUNDED,
                answer_timeout_s=scenario.answer_timeout_s or float("inf"),
            ),
        )
        meter = ModelBooks(weights.compute_watts, weights.transmit_watts)
        self.pipeline = Pipeline(world.manifest, plans, self.tracker, reporter, meter, settings)
        if scenario.edge_choice == "fixed":
            self.pipeline.edge_connected(0.0, self.edge.address)
        self._schedule_arrival()

    # What deciding may look at.

    @property
    def task(self) -> Task | None:
        """The task in service."""
        return self.pipeline.in_service

    def task_rate_per_s(self, now_s: float) -> float:
        """Tasks entering per second, tracked."""
        return self._rate.per_second(now_s)

    def busy_share(self, now_s: float) -> float:
        """Share of time in service, tracked."""
        return self._busy.per_second(now_s)

    def situation(self, now_s: float) -> Situation:
        """How this device stands, on the grid of situations. What is tracked over many tasks is read when a task enters
        service, the uplink whenever it is asked for."""
        task = self.pipeline.in_service
        if task is not self._tracked_for or task is None:
            self._tracked_for = task
            edge = self.edge
            edge.advance(now_s)
            state = edge.queue.backlog_state(now_s)
            self._tracked = self._grid.key(
                task_rate_per_s=self.task_rate_per_s(now_s),
                busy_share=self.busy_share(now_s),
                backlog_mean_s=state.mean_s,
                backlog_time_constant_s=state.time_constant_s,
            )
        link = self.link
        return self._grid.at(
            self._tracked, goodput_bytes_per_s=link.bytes_per_s(now_s), uplink_busy_s=link.busy_s(now_s)
        )

    def idle_situation(self) -> Situation:
        """How it stands before anything has happened."""
        key = self._grid.key(task_rate_per_s=0.0, busy_share=0.0, backlog_mean_s=0.0, backlog_time_constant_s=0.05)
        return self._grid.at(key, goodput_bytes_per_s=self.link.bytes_per_s(0.0), uplink_busy_s=0.0)

    # Events.

    def obey(self, instructions: Sequence[Instruction]) -> None:
        """Do what the pipeline says."""
        world = self.world
        now_s = world.now_s
        serving = self.pipeline.in_service
        if serving is not self._serving:
            if self._serving is not None:
                self._busy.add(now_s - self._serving_since_s, now_s)
            self._serving, self._serving_since_s = serving, now_s
        for instruction in instructions:
            if isinstance(instruction, RunSegment):
                index, task = instruction.index, instruction.task
                jitter = self.samples.segment_jitters[task.task_id - 1][index]
                world.schedule(now_s + self.speeds.segment_s[index] * jitter, self._segment_done, task)
            elif isinstance(instruction, RunExit):
                world.schedule(now_s + self.speeds.exit_s[instruction.index], self._exit_done, instruction.index)
            elif isinstance(instruction, Encode):
                offload = instruction.offload
                encode_s = self.speeds.encode_s[offload.cut, offload.representation_index]
                world.schedule(now_s + encode_s, self._encoded, instruction.task)
            elif isinstance(instruction, Upload):
                self._upload(instruction.task, now_s)
            elif isinstance(instruction, Finish):
                world.ended(self, instruction.record)
            elif not isinstance(instruction, CancelUpload):  # what is admitted at the edge is served
                world.told(self, instruction)

    def follow_plan(self) -> None:
        """Keep to the edge that the newest plan names, and connections to all that the pipeline wants one to."""
        if self.world.scenario.edge_choice == "fixed":
            return
        address = self.pipeline.plans.edge_address
        if address is not None:
            self.edge = self.world.edge_at(address)
        wanted = self.pipeline.offloads.addresses()
        # A connection takes a round trip.
        for new in sorted(wanted - self._connected):
            self.world.schedule(self.world.now_s + 2.0 * self._delay_s, self._connect, new)
        self._connected = wanted

    def _connect(self, address: str) -> None:
        if address in self._connected:
            self.obey(self.pipeline.edge_connected(self.world.now_s, address))

    def _schedule_arrival(self) -> None:
        if self._next_arrival < len(self.samples.arrivals_s):
            self.world.schedule(self.samples.arrivals_s[self._next_arrival], self._arrive, None)

    def _arrive(self, _: object) -> None:
        now_s = self.world.now_s
        self._next_arrival += 1
        self._schedule_arrival()
        self._rate.add(1.0, now_s)
        self.obey(self.pipeline.frame_arrived(now_s, ""))

    def _segment_done(self, _: Task) -> None:
        self.obey(self.pipeline.segment_done(self.world.now_s))

    def _exit_done(self, index: int) -> None:
        task = self.pipeline.in_service
        assert task is not None, "the exit ran on it"
        answer = self._draw.answer(self.samples, task.task_id - 1, task.evidence, index)
        self.obey(self.pipeline.exit_done(self.world.now_s, index, answer))

    def _encoded(self, task: Task) -> None:
        offload = offload_of(task)
        entry = self.world.manifest.cuts[offload.cut].representations[offload.representation_index]
        self.obey(self.pipeline.encoded(self.world.now_s, round(entry.mean_bytes)))

    def _upload(self, task: Task, now_s: float) -> None:
        departed_s = self.link.hand_over(offload_of(task).wire_bytes, now_s)
        arrives_s = departed_s + self._delay_s + self.samples.delays_s[task.task_id - 1]
        self._delivered_at_s = max(arrives_s, self._delivered_at_s)
        self.world.schedule(self._delivered_at_s, self._reach_edge, task)
        if self._timeout_s is not None:
            self.world.schedule(offload_of(task).deadline_s, self._tick, None)

    def _reach_edge(self, task: Task) -> None:
        now_s = self.world.now_s
        offload = offload_of(task)
        jitter = self.samples.edge_jitters[task.task_id - 1]
        deadline_at_s = None if self._timeout_s is None else offload.deadline_s - self._delay_s
        edge = self.world.edge_at(offload.edge_address)
        try:
            end_s, service_s = edge.admit(self.index, task.task_id, offload.cut, jitter, now_s, deadline_at_s)
        except RefusedError:
            self.world.schedule(now_s + self._delay_s, self._refused, (task.task_id, edge.address))
            return
        answer = _Answer(task.task_id, edge, max(end_s - service_s - now_s, 0.0), service_s)
        if self.world.deciding.hears_edges:
            self.world.schedule(end_s, self._leave_edge, answer)
        else:
            self.world.schedule(end_s + self._delay_s, self._answered, answer)

    def _leave_edge(self, answer: _Answer) -> None:
        now_s = self.world.now_s
        answer.edge.advance(now_s)
        told = answer._replace(backlog=answer.edge.queue.backlog_state(now_s))
        self.world.schedule(now_s + self._delay_s, self._answered, told)

    def _answered(self, answer: _Answer) -> None:
        now_s, address = self.world.now_s, answer.edge.address
        if answer.backlog is not None:
            # As on the wire: its age is counted at the edge, and the way back is not known.
            seen = replace(answer.backlog, at_s=now_s)
            self.pipeline.plans.backlog_seen(seen, address)
            self.pipeline.offloads.edges.backlog_seen(seen, address)
        self.obey(
            self.pipeline.answer_received(
                now_s,
                answer.task_id,
                None,
                edge_queue_s=answer.queue_s,
                edge_compute_s=answer.service_s,
                edge_address=address,
            )
        )

    def _refused(self, refused: tuple[int, str]) -> None:
        task_id, address = refused
        self.obey(self.pipeline.upload_failed(self.world.now_s, task_id, Reason.EDGE_REFUSED, address))

    def _tick(self, _: object) -> None:
        self.obey(self.pipeline.tick(self.world.now_s))
