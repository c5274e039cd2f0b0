"""Deciding as the product does: by plans of the service's own twin core, over messages that take time and get lost.

Every message passes the services' own converters, so that its bytes are counted and it arrives as it would.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.simulator.deciding import Deciding, Standing
from benchmarks.simulator.mirror_errors import MirrorErrors, WatchedPlans
from benchmarks.simulator.periodic import PeriodicReporter
from benchmarks.simulator.signalling import Courier, Scheme, Signalling
from benchmarks.simulator.world import Listener
from device.plan_keeping import Observed, PlanKeeper
from device.reporting import Reporter
from device.reports import Report
from device.task import AskTwin
from device.twin_wire import Announcement, Attachment, hello_to_wire, manifest_to_wire, poll_to_wire, report_to_wire
from edge.arrival_log import Arrival, ArrivalLog
from edge.backlog_reporting import BacklogReporter, Due, ReportPolicy
from edge.tail_queue import Tail
from edge.twin_link import report_to_wire as edge_report_to_wire
from twin_service.core import TwinCore
from twin_service.core_settings import CoreSettings
from twin_service.decision.evaluation import Rule
from twin_service.memory import VolatileMemory
from twin_service.messages import BacklogInterest, BacklogReport, BacklogUpdate, DeviceEvent, EdgeHello, Send, Welcome
from twin_service.wire import (
    backlog_report_from_wire,
    device_event_from_wire,
    device_hello_from_wire,
    device_response,
    edge_response,
)
from twinsplit.errors import RefusedError
from twinsplit.transport.clock_offset import ClockReadings
from twinsplit.transport.convert import backlog_from_wire, edges_from_wire, plan_from_wire
from twinsplit.types import Decision

if TYPE_CHECKING:
    from benchmarks.simulator.device import SimulatedDevice
    from benchmarks.simulator.edge import SimulatedEdge, Work
    from benchmarks.simulator.world import World

_SHORTEST_LOOK_S = 1e-6
_CLOCK_BYTES = 32
"""Clock readings and the frame around the report in a message to the twin, which the simulator does not stamp."""


class ByPlans(Deciding, Listener):
    """One twin for all devices and edges of a world. For one run."""

    courier: Courier
    core: TwinCore
    errors: MirrorErrors

    def __init__(self, rule: Rule, signalling: Signalling | None = None, name: str | None = None) -> None:
        """``name``: in results; ``None``: the rule's own."""
        self.signalling = signalling or Signalling()
        self._rule = rule
        self._name = rule.name if name is None else name
        self.refused = 0
        """Messages that a receiver refused."""

    @property
    def name(self) -> str:
        return self._name

    @property
    def messages(self) -> int | None:
        return self.courier.messages.total()

    @property
    def hears_edges(self) -> bool:
        return True

    @property
    def asks_twin(self) -> bool:
        return self.signalling.scheme is Scheme.POLLED

    def standing(self, device: SimulatedDevice, now_s: float) -> Standing:
        raise TypeError("devices decide by their plans")

    def decision(
        self, device: SimulatedDevice, now_s: float, epoch: int, evidence: int, observed: Observed
    ) -> Decision:
        raise TypeError("devices decide by their plans")

    # How it begins.

    def begin(self, world: World) -> None:
        signalling = self.signalling
        self._world = world
        # Of all that happens at this instant it comes first; by then the pipelines are there.
        world.schedule(0.0, self._attach_devices, None)
        self.courier = Courier(signalling, world.scenario.seed, world.schedule)
        self.core = self.made_core(world)
        self.errors = MirrorErrors(world, self.core)
        self._streams: dict[str, int] = {}
        self._questions: dict[int, tuple[int, int]] = {}
        self._tick_at_s = math.inf
        self._logs: defaultdict[int, ArrivalLog] = defaultdict(ArrivalLog)
        self._devices_at: list[dict[int, SimulatedDevice]] = [{} for _ in world.edges]
        for device in world.devices:
            self._devices_at[device.edge.index][device.index] = device
        self._edge_reporters = [self._attach_edge(edge) for edge in world.edges]
        self._looks_at_s = [math.inf for _ in world.edges]
        for edge in world.edges:
            self._plan_look(edge)

    def made_core(self, world: World) -> TwinCore:
        """The twin of a world that begins."""
        settings = CoreSettings(planner=self.signalling.planner)
        return TwinCore(self._rule, world.scenario.weights, VolatileMemory(), settings)

    def equip(self, device: SimulatedDevice) -> tuple[PlanKeeper, Reporter]:
        world, scenario, signalling = device.world, device.world.scenario, self.signalling
        plans = WatchedPlans(
            device,
            self.errors,
            world.manifest,
            world.model_digest,
            payloads=scenario.payloads,
            fixed_edge_address=_told_edge(device),
        )
        kind = PeriodicReporter if signalling.scheme is Scheme.PERIODIC else Reporter
        reporter = kind(
            world.manifest,
            device.tracker,
            report_threshold_s=signalling.report_threshold_s,
            heartbeat_s=signalling.period_s if signalling.scheme is Scheme.PERIODIC else signalling.heartbeat_s,
        )
        return plans, reporter

    def _attach_devices(self, _: object) -> None:
        """Hello, manifest, welcome and the first plan take no time. All are planned at once: that is cheaper each."""
        world, now_s = self._world, self._world.now_s
        for device in world.devices:
            self._attach_device(device)
        while self.core.next_due_s() <= now_s:
            for send in self.core.tick(now_s):
                self._count(send)
                self._device_hears((self._device(send), self._wire(send)))
        for device in world.devices:
            heartbeat_s = device.pipeline.reporter.heartbeat_s
            device.obey(device.pipeline.twin_attached(now_s, heartbeat_s))
            world.schedule(now_s + heartbeat_s, self._heartbeat, device)
        self._plan_tick()

    def _attach_device(self, device: SimulatedDevice) -> None:
        now_s = self._world.now_s
        hello = hello_to_wire(self._announcement(device), _attachment(device))
        self.courier.count("device hello", hello.ByteSize() + _CLOCK_BYTES)
        event = device_hello_from_wire(hello.hello)
        self._streams[event.device_id], sends = self.core.attach_device(event, now_s)
        for send in sends:
            self._count(send)
            if isinstance(send.message, Welcome) and send.message.needs_manifest:
                upload = manifest_to_wire(self.manifest_bytes(device))
                self.courier.count("device manifest", upload.ByteSize() + _CLOCK_BYTES)
                self.core.device_said(
                    event.device_id, self._streams[event.device_id], device_event_from_wire(upload, now_s), now_s
                )

    def manifest_bytes(self, device: SimulatedDevice) -> bytes:
        """As the device would upload it."""
        return (device.world.scenario.model / "manifest.json").read_bytes()

    def _announcement(self, device: SimulatedDevice) -> Announcement:
        scenario = self._world.scenario
        return Announcement(
            device_id=_name(device.index),
            model_digest=self._world.model_digest,
            payloads=scenario.payloads,
            fixed_edge_address=_told_edge(device),
            compute_watts=scenario.weights.compute_watts,
            transmit_watts=scenario.weights.transmit_watts,
            is_polled=self.signalling.scheme is Scheme.POLLED,
            report_threshold_s=self.signalling.report_threshold_s,
        )

    # Devices to the twin.

    def told(self, device: SimulatedDevice, message: Report | AskTwin) -> None:
        now_s = self._world.now_s
        if isinstance(message, AskTwin):
            wire = poll_to_wire(message)
            question = (message.task.task_id, message.epoch)
            self._questions[device.index] = question
            self._world.schedule(now_s + self.signalling.poll_timeout_s, self._poll_late, (device, question))
        else:
            wire = report_to_wire(message, now_s)
        self.courier.send(
            ("device", device.index),
            f"device {wire.WhichOneof('kind')}",
            wire.ByteSize() + _CLOCK_BYTES,
            now_s,
            self._twin_hears,
            (_name(device.index), device_event_from_wire(wire, now_s)),
        )

    def _twin_hears(self, said: tuple[str, DeviceEvent]) -> None:
        device_id, event = said
        try:
            self._dispatch(self.core.device_said(device_id, self._streams[device_id], event, self._world.now_s))
        except RefusedError:
            self.refused += 1
        self._tick()

    def _heartbeat(self, device: SimulatedDevice) -> None:
        now_s = self._world.now_s
        due_s = device.pipeline.reporter.next_heartbeat_s
        if now_s >= due_s:
            device.obey(device.pipeline.tick(now_s))
            due_s = device.pipeline.reporter.next_heartbeat_s
        self._world.schedule(max(due_s, now_s), self._heartbeat, device)

    # Edges to the twin.

    def tail_admitted(self, edge: int, tail: Tail[Work], at_s: float) -> None:
        owner = tail.work.device
        self._logs[edge].add(
            Arrival(
                at_s, tail.predicted_s, "" if owner is None else _name(owner), 0 if owner is None else tail.work.task_id
            )
        )
        if owner is not None:
            self._world.schedule(at_s, self._look, (self._world.edges[edge], None))

    def _attach_edge(self, edge: SimulatedEdge) -> BacklogReporter:
        signalling, now_s = self.signalling, self._world.now_s
        reading = edge.reading(now_s)
        wire = edge_report_to_wire(reading, now_s)
        self.core.attach_edge(
            EdgeHello(
                edge_id=edge.edge_id,
                advertise_address=edge.address,
                models={self._world.model_digest: edge.tail_s},
                report_threshold_s=signalling.backlog_threshold_s,
                backlog=backlog_report_from_wire(wire, now_s),
            ),
            now_s,
        )
        self.courier.count("edge hello", wire.ByteSize() + _CLOCK_BYTES)
        is_periodic = signalling.scheme is Scheme.PERIODIC
        policy = ReportPolicy(
            math.inf if is_periodic else signalling.backlog_threshold_s, signalling.backlog_patience_s
        )
        heartbeat_s = signalling.period_s if is_periodic else signalling.heartbeat_s
        return BacklogReporter(policy, heartbeat_s, reading.backlog)

    def _look(self, looked: tuple[SimulatedEdge, float | None]) -> None:
        """See whether the edge owes a report; the second of the pair is the appointment that this is."""
        edge, appointment_s = looked
        if appointment_s is not None and appointment_s != self._looks_at_s[edge.index]:
            return
        now_s = self._world.now_s
        reporter = self._edge_reporters[edge.index]
        due = reporter.look(edge.backlog_s(now_s), now_s)
        if due is not Due.NOTHING:
            self._edge_reports(edge, reporter, "edge backlog" if due is Due.REPORT else "edge heartbeat")
        self._plan_look(edge)

    def _edge_reports(self, edge: SimulatedEdge, reporter: BacklogReporter, kind: str) -> None:
        now_s = self._world.now_s
        reading = edge.reading(now_s)
        reporter.sent(reading.backlog, now_s)
        arrivals = self._logs[edge.index].untold(now_s)
        wire = edge_report_to_wire(reading, now_s, arrivals)
        self._logs[edge.index].told(arrivals)
        report = backlog_report_from_wire(wire, now_s)
        size = wire.ByteSize() + _CLOCK_BYTES
        self.courier.send(("edge", edge.index), kind, size, now_s, self._twin_hears_edge, (edge, report))

    def _plan_look(self, edge: SimulatedEdge) -> None:
        now_s = self._world.now_s
        # Not nearer than this, or rounding could make a heartbeat due for ever and never now.
        look_at_s = max(self._edge_reporters[edge.index].next_look_at_s(now_s), now_s + _SHORTEST_LOOK_S)
        at_s = self._looks_at_s[edge.index] = min(edge.next_job_s, look_at_s)
        self._world.schedule(at_s, self._look, (edge, at_s))

    def _twin_hears_edge(self, said: tuple[SimulatedEdge, BacklogReport]) -> None:
        edge, report = said
        now_s = self._world.now_s
        answer = self.core.edge_said(edge.edge_id, self.core.edges[edge.edge_id].stream, report, now_s)
        if answer is not None:
            wire = edge_response(answer, ClockReadings(now_s), heartbeat_s=self.signalling.heartbeat_s)
            way = ("twin to edge", edge.index)
            self.courier.send(way, "twin interest", wire.ByteSize(), now_s, self._edge_hears, (edge, answer))
        if self.signalling.scheme is Scheme.PERIODIC:
            for device in self._devices_at[edge.index].values():
                self._carry(Send(_name(device.index), BacklogUpdate(report.backlog)))
        self._tick()

    def _edge_hears(self, heard: tuple[SimulatedEdge, BacklogInterest]) -> None:
        edge, interest = heard
        self._edge_reporters[edge.index].ceiling_s = interest.ceiling_s

    # The twin to devices.

    def _tick(self) -> None:
        now_s = self._world.now_s
        while self.core.next_due_s() <= now_s:
            self._dispatch(self.core.tick(now_s))
        self._plan_tick()

    def _plan_tick(self) -> None:
        due_s = self.core.next_due_s()
        if due_s < self._tick_at_s:
            self._tick_at_s = due_s
            self._world.schedule(max(due_s, self._world.now_s), self._tick_due, None)

    def _tick_due(self, _: object) -> None:
        self._tick_at_s = math.inf
        self._tick()

    def _dispatch(self, sends: Sequence[Send]) -> None:
        for send in sends:
            # Told every period anyway.
            is_superfluous = isinstance(send.message, BacklogUpdate)
            if not (is_superfluous and self.signalling.scheme is Scheme.PERIODIC):
                self._carry(send)

    def _carry(self, send: Send) -> None:
        wire = self._wire(send)
        device = self._device(send)
        kind = f"twin {wire.WhichOneof('kind')}"
        self.courier.send(
            ("twin", device.index), kind, wire.ByteSize(), self._world.now_s, self._device_hears, (device, wire)
        )

    def _count(self, send: Send) -> None:
        wire = self._wire(send)
        self.courier.count(f"twin {wire.WhichOneof('kind')}", wire.ByteSize())

    def _wire(self, send: Send) -> Any:
        now_s = self._world.now_s
        return device_response(
            send.message,
            ClockReadings(now_s, now_s, now_s),
            lease_s=self.signalling.planner.lease_s,
            heartbeat_s=self.signalling.heartbeat_s,
        )

    def _device(self, send: Send) -> SimulatedDevice:
        return self._world.devices[int(send.device_id.removeprefix("device-"))]

    def _device_hears(self, heard: tuple[SimulatedDevice, Any]) -> None:
        device, wire = heard
        now_s, pipeline = self._world.now_s, device.pipeline
        kind = wire.WhichOneof("kind")
        device.obey(pipeline.lease_renewed(now_s, wire.lease_s))
        if kind == "plan":
            backlog = backlog_from_wire(wire.plan.backlog, now_s) if wire.plan.HasField("backlog") else None
            try:
                device.obey(pipeline.plan_received(now_s, plan_from_wire(wire.plan), backlog))
            except RefusedError:
                self.refused += 1
            self._follow_plan(device)
        elif kind == "edges":
            device.obey(pipeline.edges_listed(now_s, edges_from_wire(wire.edges, now_s)))
            self._follow_plan(device)
        elif kind == "backlog":
            device.obey(pipeline.backlog_seen(now_s, backlog_from_wire(wire.backlog.backlog, now_s)))
        elif kind == "poll" and self._questions.get(device.index) == (wire.poll.task_id, wire.poll.epoch):
            del self._questions[device.index]
            device.obey(pipeline.polled(now_s, Decision(wire.poll.decision)))

    def _follow_plan(self, device: SimulatedDevice) -> None:
        del self._devices_at[device.edge.index][device.index]
        device.follow_plan()
        self._devices_at[device.edge.index][device.index] = device

    def _poll_late(self, asked: tuple[SimulatedDevice, tuple[int, int]]) -> None:
        device, question = asked
        if self._questions.get(device.index) == question:
            del self._questions[device.index]
            device.obey(device.pipeline.polled(self._world.now_s, None))


def _attachment(device: SimulatedDevice) -> Attachment:
    tracker = device.tracker
    segment_s, exit_s = device.pipeline.reporter.profile_reported()
    return Attachment(
        segment_s=segment_s,
        exit_s=exit_s,
        encode_s=tracker.encode_s,
        goodput_bytes_per_s=device.link.bytes_per_s(device.world.now_s),
        round_trip_s=tracker.round_trip_s,
        last_plan_id=0,
    )


def _told_edge(device: SimulatedDevice) -> str | None:
    """Address of the only edge that a device may use; ``None``: the twin says which."""
    return device.edge.address if device.world.scenario.edge_choice == "fixed" else None


def _name(device: int) -> str:
    return f"device-{device}"
