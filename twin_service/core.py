"""The twin service without its wires: what is said goes in with a clock reading, what is to be sent comes out.

Sans-IO: the service's shell and the simulator run this very object. Whoever runs it calls :meth:`TwinCore.tick` until
:meth:`TwinCore.next_due_s` lies ahead. Who attaches and what they say is taken here; what follows from it is in

- :mod:`twin_service.due_work`: plans, lists of edges, backlog updates, leases, and when each is due;
- :mod:`twin_service.ended_tasks`: who is told of ended tasks;
- :mod:`twin_service.kept`: what outlives the service.
"""

from __future__ import annotations

from twin_service import messages
from twin_service.archive import Archive
from twin_service.core_settings import CoreSettings
from twin_service.decision.evaluation import Rule
from twin_service.decision.situation import Weights
from twin_service.device_twin import DeviceTwin
from twin_service.documents import Desired
from twin_service.due_work import DueWork
from twin_service.edge_twin import EdgeTwin
from twin_service.edges import Edges
from twin_service.ended_tasks import EndedTasks
from twin_service.epoch_mirror import EpochMirror
from twin_service.kept import Kept
from twin_service.learning.learner import Learner
from twin_service.manifests import Manifests
from twin_service.memory import Memory
from twin_service.messages import Send
from twin_service.planner import Cause, Planner
from twin_service.polling import polled_decision
from twin_service.status_twin import StatusTwin
from twin_service.views import DeviceView, Listing, device_view, edge_view
from twin_service.workload.twin import WorkloadTwin
from twinsplit.errors import StaleWriteError

_WITHOUT_NEWS = (messages.StartReport, messages.ProgressReport)
"""They say where a task stands, and nothing of what plans are made of."""


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
        """Devices that attached since the start and are not forgotten."""
        self.mirror_forgotten = EpochMirror()
        """How right the beliefs about forgotten devices were."""
        self.edges = Edges()
        self.changes = 0
        """Counts everything that readers may want to see."""
        self.released = 0
        """Devices that had attached elsewhere while they were still held to be attached here."""
        self.workload = workload
        self.learner = learner
        self.archive = Archive(memory, self.settings.max_devices, self._is_attached, self._forgotten)
        self.manifests = Manifests(memory)
        self.kept = Kept(memory, self.archive, self.manifests, workload, learner)
        self.work = DueWork(self.planner, self.devices, self.edges, self.settings)
        self.ended_tasks = EndedTasks(self.planner, self.manifests, self.work, self.devices, self.edges, workload)
        if workload is not None and learner is not None:
            workload.told.append(learner.task_replayed)
        self._memory = memory
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
            self.work.detached(before)
        document = self.archive.opened(hello.device_id)
        document.attached(max(hello.attachment_epoch - 1, 0))
        document.announce(hello.model_digest, hello.decided)
        self._memory.plan_id_seen(hello.last_plan_id)
        self._streams += 1
        device = DeviceTwin(document, status, stream=self._streams, attachment_epoch=document.epoch, last_sent_s=now_s)
        self.devices[hello.device_id] = device
        self.work.attached(device, now_s)
        self._changed(hello.device_id)
        return device.stream, [Send(hello.device_id, messages.Welcome(manifest is None, device.attachment_epoch))]

    def detach_device(self, device_id: str, stream: int) -> None:
        """A device's stream has ended. What is known of it stays."""
        device = self.devices.get(device_id)
        if device is None or device.stream != stream:
            return
        self.work.detached(device)
        device.is_attached = False
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
            self.ended_tasks.take(device, event, now_s)
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
            return [Send(device_id, polled_decision(device, device.plan_edge(self.edges), event, now_s))]
        elif isinstance(event, messages.ManifestUpload):
            digest = device.status.hello.model_digest
            device.status.manifest_known(self.manifests.received(digest, event.manifest_json))
            self.work.manifest_came(device)
        self._changed(device_id)
        return self.work.device_said(device, now_s, has_news=not isinstance(event, _WITHOUT_NEWS))

    # Edges.

    def attach_edge(self, hello: messages.EdgeHello, now_s: float) -> int:
        """An edge says hello: the number of its stream. Devices that gain by it get new plans."""
        self._streams += 1
        edge = EdgeTwin(hello, now_s, self._streams)
        if (gone := self.edges.attach(edge)) is not None:
            self.work.edge_forgotten(gone)
            if self.workload is not None:
                self.workload.forget_edge(gone)
        self.work.edge_came(edge)
        self.changes += 1
        return edge.stream

    def detach_edge(self, edge_id: str, stream: int) -> None:
        """An edge's stream has ended: devices get plans without it."""
        edge = self.edges.get(edge_id)
        if edge is None or edge.stream != stream:
            return
        self.edges.detach(edge)
        self.work.edge_went(edge)
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
        self.changes += 1
        return self.work.edge_reported(edge)

    # Time.

    def next_due_s(self) -> float:
        """Instant at which :meth:`tick` has something to do; ``-inf``: now; ``inf``: nothing is due."""
        return self.work.next_s()

    def tick(self, now_s: float) -> list[Send]:
        """Do what is due: a batch of plans, of lists of edges, of looks, leases."""
        return self.work.tick(now_s)

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
        self.work.replan_one(device_id, Cause.WEIGHTS)
        return document.version

    def weights_changed(self, model_digest: str) -> None:
        """Other learned weights are in force for a model: its devices get new plans where that is worth a message."""
        self.work.replan(model_digest, Cause.WEIGHTS)

    def save(self, limit: int | None = None) -> bool:
        """Keep what changed, see :meth:`twin_service.kept.Kept.save`."""
        return self.kept.save(limit)

    # How it is done.

    def _is_attached(self, device_id: str) -> bool:
        device = self.devices.get(device_id)
        return device is not None and device.is_attached

    def _forgotten(self, device_id: str) -> None:
        if device_id in self.devices and not self._is_attached(device_id):
            device = self.devices.pop(device_id)
            self.work.detached(device)
            self.mirror_forgotten.add(device.status.mirror)

    def _changed(self, device_id: str) -> None:
        self.archive.note_change(device_id)
        self.changes += 1
