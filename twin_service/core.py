"""The twin service without its wires: what is said goes in with a clock reading, what is to be sent comes out.

Sans-IO: the service's shell and the simulator run this very object. Whoever runs it calls :meth:`TwinCore.tick` until
:meth:`TwinCore.next_due_s` lies ahead: looks at devices and plans are done there, in batches, so that one event that
concerns thousands of devices does not keep the others waiting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from twin_service import messages
from twin_service.accounts import Accounts
from twin_service.archive import Archive
from twin_service.backlog_watch import BacklogWatch
from twin_service.decision.rules import Rule
from twin_service.decision.situation import Weights
from twin_service.decision.value_net import ValueNet
from twin_service.device_twin import DeviceTwin
from twin_service.documents import Desired
from twin_service.edge_choice import has_changed
from twin_service.edge_twin import EdgeTwin
from twin_service.learning.learner import Learner
from twin_service.manifests import Manifests
from twin_service.memory import Memory, WeightsRow
from twin_service.messages import Send
from twin_service.planner import Cause, Planner, PlannerSettings
from twin_service.polling import polled_decision
from twin_service.schedule import Appointment, Schedule, taken
from twin_service.status_twin import StatusTwin
from twin_service.views import DeviceView, Listing, device_view, edge_view
from twin_service.workload.intake import take_tasks
from twin_service.workload.recalibration import Recalibrated
from twin_service.workload.records import ReplayBatch, replay_batches
from twin_service.workload.traces import exported
from twin_service.workload.twin import WorkloadTwin
from twinsplit.errors import StaleWriteError
from twinsplit.model.manifest import Manifest
from twinsplit.types import Outcome, Reason

_RENEW_AT_SHARE = 0.5
"""Share of the lease after which silence is ended by a renewal."""
_SHORTEST_LOOK_S = 0.001
"""A look is never scheduled nearer than this, so that rounding cannot make it due again at once."""
_LIST_AGAIN_S = 5.0
"""After this time it is looked at whether what a device was told of its edges still holds."""
_MAX_EDGES = 256
"""Edges kept; beyond it the first detached one is forgotten."""
_EDGE_SPOKE = frozenset({Reason.EDGE_REFUSED})
"""Reasons that show that the edge answered, and so told its backlog, though the task did not end there."""


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """Bounds of the core."""

    planner: PlannerSettings = field(default_factory=PlannerSettings)
    plan_batch: int = 16
    """Devices planned at one tick: larger batches are hardly cheaper each, and keep everybody else waiting."""
    look_batch: int = 512
    """Devices looked at for backlog updates at one tick."""
    tell_batch: int = 128
    """Devices whose list of edges is looked at at one tick, after an edge has come or gone."""
    max_devices: int = 20_000
    """Documents kept; beyond it the first that is not attached is forgotten."""


_WITHOUT_NEWS = (messages.StartReport, messages.ProgressReport)
"""They say where a task stands, and nothing of what plans are made of."""

TaskReportTold = Callable[[DeviceTwin, "EdgeTwin | None", messages.TaskReport], None]
"""Is told what a device reports of ended tasks, and the edge that its standing plan names, while it is attached."""


class TwinCore:
    """All twins, and what they make of events."""

    def __init__(
        self,
        rule: Rule,
        weights: Weights,
        memory: Memory,
        settings: CoreSettings | None = None,
        *,
        workload: WorkloadTwin | None = None,
        learner: Learner | None = None,
    ) -> None:
        """
        Args:
            weights: for devices of which nothing else is desired.
            memory: what survives a restart.
            workload: replays ended tasks; ``None``: none are.
            learner: holds learned weights, and learns from what is replayed; ``None``: nothing is learnt.
        """
        self.settings = settings or CoreSettings()
        self.planner = Planner(rule, weights, self.settings.planner, memory.next_plan_id)
        self.devices: dict[str, DeviceTwin] = {}
        """Devices that attached since the start."""
        self.edges: dict[str, EdgeTwin] = {}
        self.changes = 0
        """Counts everything that readers may want to see."""
        self.recalibrated: list[Recalibrated] = []
        """Models whose exits were found to be another way than calibrated, until somebody takes them out."""
        self.released = 0
        """Devices that had attached elsewhere while they were still held to be attached here."""
        self.told: list[TaskReportTold] = []
        """Told of every task report, before the device's plan hears of a newer backlog by it."""
        self._memory = memory
        self.workload = workload
        self.learner = learner
        self.accounts = Accounts()
        if workload is not None:
            workload.told.append(self.accounts.task_replayed)
        if workload is not None and learner is not None:
            workload.told.append(learner.task_replayed)
        self.archive = Archive(memory, self.settings.max_devices, self._is_attached)
        self.manifests = Manifests(memory)
        self._watch = BacklogWatch(self.settings.planner)
        self._schedule = Schedule()
        self._to_weigh: dict[str, Cause] = {}
        self._to_look: dict[str, None] = {}
        self._to_tell: dict[str, None] = {}
        """Devices whose list of edges may be another by now."""
        self._streams = 0

    # Devices.

    def attach_device(self, hello: messages.DeviceHello, now_s: float) -> tuple[int, list[Send]]:
        """A device says hello: the number of its stream, and the welcome. A plan follows at the next ticks.

        Raises:
            BadMessageError: its profile does not fit the manifest.
        """
        manifest = self.manifests.get(hello.model_digest)
        before = self.devices.get(hello.device_id)
        status = StatusTwin(hello, manifest, now_s, None if before is None else before.status.mirror)
        if before is not None:
            self._watch.forget(before)
            self.planner.forget(before)
        document = self.archive.opened(hello.device_id)
        document.attached(max(hello.attachment_epoch - 1, 0))
        document.announce(hello.model_digest, hello.decided)
        self._memory.plan_id_seen(hello.last_plan_id)
        self._streams += 1
        device = DeviceTwin(document, status, stream=self._streams, attachment_epoch=document.epoch, last_sent_s=now_s)
        self.devices[hello.device_id] = device
        self._schedule.put(hello.device_id, Appointment.LEASE, now_s + self._renewal_s)
        if manifest is not None:
            self._to_weigh[hello.device_id] = Cause.ATTACHED
            self._to_tell[hello.device_id] = None
        self._changed(hello.device_id)
        return device.stream, [Send(hello.device_id, messages.Welcome(manifest is None, device.attachment_epoch))]

    def detach_device(self, device_id: str, stream: int) -> None:
        """A device's stream has ended. What is known of it stays."""
        device = self.devices.get(device_id)
        if device is None or device.stream != stream:
            return
        self._watch.forget(device)
        self._schedule.discard(device_id)
        self._to_weigh.pop(device_id, None)
        self._to_look.pop(device_id, None)
        self._to_tell.pop(device_id, None)
        device.is_attached = False
        self.planner.forget(device)
        self._changed(device_id)

    def release_device(self, device_id: str, attachment_epoch: int) -> bool:
        """A device says that it has attached to another replica under this number: whether it was held to be attached
        here, and is planned for no longer. What an attachment here has overtaken changes nothing."""
        device = self.devices.get(device_id)
        if device is None or not device.is_attached or attachment_epoch <= device.attachment_epoch:
            return False
        self.detach_device(device_id, device.stream)
        device.stream = 0
        self.released += 1
        return True

    def device_said(self, device_id: str, stream: int, event: messages.DeviceEvent, now_s: float) -> list[Send]:
        """An attached device says something. A message that is refused leaves no trace.

        Raises:
            StaleWriteError: another stream speaks for that device by now.
            BadMessageError: something in it does not fit.
            WrongDigestError: a manifest that is not the announced one.
        """
        device = self.devices.get(device_id)
        if device is None or device.stream != stream:
            raise StaleWriteError(f"{device_id} has attached again on another stream, which speaks for it now")
        if isinstance(event, messages.TaskReport):
            self._take_tasks(device, event, now_s)
        elif isinstance(event, messages.StartReport):
            device.status.check_epoch(event.first_epoch)
            device.status.queue(event.queue_length, now_s)
            device.status.started(event, now_s)
        elif isinstance(event, messages.ProgressReport):
            device.status.check_epoch(event.epoch)
            device.status.queue(event.queue_length, now_s)
            device.status.progressed(event, now_s)
        elif isinstance(event, messages.DeviceHeartbeat):
            device.status.heard(event.state, event.started, event.queue_length, now_s)
            if self.workload is not None:
                self.workload.device_heard(device_id, event.state.entered, now_s)
        elif isinstance(event, messages.LiveReport):
            device.status.live(event, now_s)
        elif isinstance(event, messages.PollRequest):
            return [Send(device_id, polled_decision(device, self._plan_edge(device), event, now_s))]
        elif isinstance(event, messages.ManifestUpload):
            digest = device.status.hello.model_digest
            device.status.manifest_known(self.manifests.received(digest, event.manifest_json))
            self._to_tell[device_id] = None
        self._changed(device_id)
        if not isinstance(event, _WITHOUT_NEWS):
            self._consider(device, now_s)
        if len(self.edges) > 1 and now_s >= device.edges_looked_at_s + _LIST_AGAIN_S:
            self._to_tell[device_id] = None
        return self._look(device, now_s)

    # Edges.

    def attach_edge(self, hello: messages.EdgeHello, now_s: float) -> int:
        """An edge says hello: the number of its stream. Devices that gain by it get new plans."""
        self._streams += 1
        edge = EdgeTwin(hello, now_s, self._streams)
        self.edges[hello.edge_id] = edge
        self._forget_surplus_edge()
        self._tell_of(edge)
        self.changes += 1
        return edge.stream

    def detach_edge(self, edge_id: str, stream: int) -> None:
        """An edge's stream has ended: devices get plans without it."""
        edge = self.edges.get(edge_id)
        if edge is None or edge.stream != stream:
            return
        edge.is_attached = False
        for device in self.devices.values():
            if device.standing is not None and device.standing.plan.edge_id == edge_id:
                self._to_weigh[device.device_id] = Cause.EDGE_LOST
        self._tell_of(edge)
        self.changes += 1

    def edge_said(
        self, edge_id: str, stream: int, report: messages.BacklogReport, now_s: float
    ) -> messages.BacklogInterest | None:
        """An edge reports its backlog. Devices that this may concern are looked at in the next ticks.

        Returns:
            What its reports are needed for from now on; ``None``: about as before.

        Raises:
            StaleWriteError: another stream speaks for that edge by now.
        """
        edge = self.edges.get(edge_id)
        if edge is None or edge.stream != stream:
            raise StaleWriteError(f"{edge_id} has attached again on another stream, which speaks for it now")
        edge.report(report, now_s)
        if self.workload is not None:
            self.workload.edge_reported(edge_id, report)
        self._to_look.update(dict.fromkeys(self._watch.touched_by(edge)))
        self.changes += 1
        return self._watch.interest(edge)

    # Time.

    def next_due_s(self) -> float:
        """Instant at which :meth:`tick` has something to do; ``-inf``: now; ``inf``: nothing is due."""
        return -math.inf if self._to_weigh or self._to_look or self._to_tell else self._schedule.next_s()

    def tick(self, now_s: float) -> list[Send]:
        """Do what is due: a batch of plans, of lists of edges, of looks, leases."""
        sends: list[Send] = []
        edges = list(self.edges.values())
        for device_id, _ in taken(self._to_tell, self.settings.tell_batch):
            self._edges_changed(self.devices[device_id], edges, now_s, sends)
        chosen = taken(self._to_weigh, self.settings.plan_batch)
        weighed = [(self.devices[device_id], cause) for device_id, cause in chosen]
        weighed = [(device, cause) for device, cause in weighed if device.is_plannable]
        if weighed:
            for send in self.planner.weigh(weighed, edges, now_s):
                self._note_sent(send, now_s, sends)
                self._tell_edges(self.devices[send.device_id], edges, now_s, sends)
            for device, _ in weighed:
                self._watch.planned(device)
                self._watch_again(device, now_s)
        for device_id, _ in taken(self._to_look, self.settings.look_batch):
            sends.extend(self._look(self.devices[device_id], now_s))
        for device_id, appointment in self._schedule.take_due(now_s):
            device = self.devices[device_id]
            if appointment is Appointment.LOOK:
                sends.extend(self._look(device, now_s))
            elif appointment is Appointment.WEIGH:
                self._consider(device, now_s)
            else:
                if now_s >= device.last_sent_s + self._renewal_s:
                    self._note_sent(Send(device_id, messages.LeaseRenewal()), now_s, sends)
                self._schedule.put(device_id, Appointment.LEASE, device.last_sent_s + self._renewal_s)
        return sends

    # Readers and writers of twins.

    def device_view(self, device_id: str, now_s: float) -> DeviceView:
        """The twin of one device.

        Raises:
            UnknownTwinError: there is none of that name.
        """
        return device_view(self.archive.document(device_id), self.devices.get(device_id), now_s)

    def listing(self, now_s: float) -> Listing:
        """All twins, by name."""
        return Listing(
            self.planner.rule.name,
            [device_view(document, self.devices.get(document.device_id), now_s) for document in self.archive],
            [edge_view(self.edges[edge_id], now_s) for edge_id in sorted(self.edges)],
        )

    def is_worth_asking(self, device_id: str, older_than_s: float, now_s: float) -> bool:
        """Whether a device is attached and its newest report is older than ``older_than_s``."""
        device = self.devices.get(device_id)
        return device is not None and device.is_attached and now_s - device.status.reported_at_s > older_than_s

    def desire(self, device_id: str, desired: Desired, version: int) -> int:
        """Write what is desired of a device: the new version.

        Raises:
            UnknownTwinError: there is none of that name.
            StaleWriteError: the document has moved on.
            BadMessageError: an impossible weight.
        """
        document = self.archive.document(device_id)
        document.desire(desired, version)
        self._changed(device_id)
        if device_id in self.devices:
            self._to_weigh.setdefault(device_id, Cause.WEIGHTS)
        return document.version

    def net_of(self, manifest: Manifest) -> ValueNet | None:
        """Learned weights in force for a model; ``None``: none."""
        model_digest = self.manifests.digest_of(manifest)
        return None if self.learner is None or model_digest is None else self.learner.net(model_digest)

    def weights(self) -> list[WeightsRow]:
        """All versions of learned weights that are kept, by model and version.

        Raises:
            StorageError: they cannot be kept or read.
        """
        if self.learner is not None:
            self.learner.save()
        return self._memory.weights()

    def weights_changed(self, model_digest: str) -> None:
        """Other learned weights are in force for a model: its devices get new plans where that is worth a message."""
        for device in self.devices.values():
            if device.is_plannable and device.status.hello.model_digest == model_digest:
                self._to_weigh.setdefault(device.device_id, Cause.WEIGHTS)

    def exported(self, unix_s: float) -> Iterator[bytes]:
        """All documents and records as batches of trace records; ``unix_s``: now."""
        return exported(self.archive, self._memory, unix_s)

    def replay_batches(self, model: str, limit: int) -> Iterator[ReplayBatch]:
        """The newest replayed tasks of every model that a device holds and whose digest begins with ``model``."""
        return replay_batches(self._memory, self.archive, self.manifests, model, limit)

    def save(self, limit: int | None = None) -> bool:
        """Keep what changed: manifests, weights, at most ``limit`` documents and replayed tasks; whether more are due.

        Raises:
            StorageError: it cannot be kept; it stays due.
        """
        self.manifests.save()
        if self.learner is not None:
            self.learner.save()
        is_replay_due = self.workload is not None and self.workload.save(limit)
        return self.archive.save(limit) or is_replay_due

    # How it is done.

    @property
    def _renewal_s(self) -> float:
        return _RENEW_AT_SHARE * self.settings.planner.lease_s

    def _take_tasks(self, device: DeviceTwin, report: messages.TaskReport, now_s: float) -> None:
        status = device.status
        for task in report.ended:
            status.check_task(task)
        if report.started is not None:
            status.check_epoch(report.started.first_epoch)
        status.check_state(report.state)
        status.ended(report.ended, now_s)
        status.heard(report.state, report.started, report.queue_length, now_s)
        edge = self._plan_edge(device)
        for tell in self.told:
            tell(device, edge, report)
        for task in report.ended:
            device.document.outcomes[task.outcome.value] += 1
            device.document.reasons[task.reason.value] += 1
            if status.manifest is not None:
                self.accounts.task_ended(task, status.manifest, device.weights(self.planner.weights))
            if (found := self.manifests.task_ended(status.hello.model_digest, task)) is not None:
                self._recalibrate(found)
            is_edge_heard = task.outcome is Outcome.EDGE or task.reason in _EDGE_SPOKE
            is_plans = edge is not None and task.edge_id in (None, edge.edge_id)
            if is_edge_heard and is_plans and edge is not None and device.standing is not None:
                device.standing.hears(edge.reading_at(min(task.ended_at_s, now_s)))
        if self.workload is not None:
            take_tasks(self.workload, self.planner, device, edge, report, now_s)

    def _consider(self, device: DeviceTwin, now_s: float) -> None:
        """Have the plan of a device weighed if that is called for; right after a weighing: see then whether it is."""
        if not device.is_plannable:
            return
        if (cause := self.planner.cause(device, self.edges.values(), now_s)) is not None:
            self._to_weigh.setdefault(device.device_id, cause)
        elif (again_s := self.planner.looks_away_until_s(device)) > now_s:
            self._schedule.put(device.device_id, Appointment.WEIGH, again_s)

    def _recalibrate(self, found: Recalibrated) -> None:
        self.recalibrated.append(found)
        for device in self.devices.values():
            status = device.status
            if status.manifest is not None and status.hello.model_digest == found.model_digest:
                status.manifest = found.manifest
                self._to_weigh.setdefault(device.device_id, Cause.CALIBRATION)

    def _look(self, device: DeviceTwin, now_s: float) -> list[Send]:
        sends: list[Send] = []
        edge = self._plan_edge(device)
        update, look_at_s = (None, math.inf) if edge is None else self._watch.look(device, edge, now_s)
        if update is not None:
            self._note_sent(Send(device.device_id, update), now_s, sends)
        self._schedule.put(device.device_id, Appointment.LOOK, max(look_at_s, now_s + _SHORTEST_LOOK_S))
        return sends

    def _watch_again(self, device: DeviceTwin, now_s: float) -> None:
        edge = self._plan_edge(device)
        look_at_s = math.inf if edge is None else self._watch.watch(device, edge, now_s)
        self._schedule.put(device.device_id, Appointment.LOOK, max(look_at_s, now_s + _SHORTEST_LOOK_S))

    def _tell_of(self, edge: EdgeTwin) -> None:
        """An edge has come or gone: that may concern all devices of its models."""
        for device in self.devices.values():
            if device.is_plannable and device.status.hello.model_digest in edge.models:
                self._to_tell[device.device_id] = None

    def _edges_changed(self, device: DeviceTwin, edges: list[EdgeTwin], now_s: float, sends: list[Send]) -> None:
        if not device.is_plannable:
            return
        if (cause := self.planner.edges_changed(device, edges, now_s)) is not None:
            self._to_weigh.setdefault(device.device_id, cause)
        self._tell_edges(device, edges, now_s, sends)

    def _tell_edges(self, device: DeviceTwin, edges: list[EdgeTwin], now_s: float, sends: list[Send]) -> None:
        """Send a device the list of its edges if it is another than the one it was sent."""
        if len(edges) < 2 and len(device.told_edges) < 2:
            return
        device.edges_looked_at_s = now_s
        listed = self.planner.chooser.listed(device, edges, now_s)
        if has_changed(device.told_edges, listed):
            device.told_edges = listed
            self._note_sent(Send(device.device_id, messages.EdgeList(listed)), now_s, sends)

    def _plan_edge(self, device: DeviceTwin) -> EdgeTwin | None:
        """The edge that the standing plan names, while it is attached."""
        edge_id = None if device.standing is None else device.standing.plan.edge_id
        edge = None if edge_id is None else self.edges.get(edge_id)
        return edge if edge is not None and edge.is_attached else None

    def _note_sent(self, send: Send, now_s: float, sends: list[Send]) -> None:
        self.devices[send.device_id].last_sent_s = now_s
        sends.append(send)

    def _forget_surplus_edge(self) -> None:
        if len(self.edges) > _MAX_EDGES:
            gone = next((edge_id for edge_id, edge in self.edges.items() if not edge.is_attached), None)
            if gone is not None:
                del self.edges[gone]
                self._watch.forget_edge(gone)
                self.planner.chooser.forget(gone)
                if self.workload is not None:
                    self.workload.forget_edge(gone)

    def _is_attached(self, device_id: str) -> bool:
        device = self.devices.get(device_id)
        return device is not None and device.is_attached

    def _changed(self, device_id: str) -> None:
        self.archive.note_change(device_id)
        self.changes += 1
