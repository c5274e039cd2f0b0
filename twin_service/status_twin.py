"""The status twin of one device: where its inference stands now, and how it does (design section 6).

Sans-IO: it is told what the device says with the instant of receipt, and answers what it believes at any instant.
Between messages it reckons with :class:`twinsplit.reckoning.ProgressModel` on the profile as *reported*, which is what
the device reckons with too, so that silence means agreement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from twin_service.epoch_mirror import EpochMirror
from twin_service.fields import FieldView, MirroredField
from twin_service.messages import DeviceHello, DeviceState, LiveReport, ProgressReport, StartReport
from twinsplit.edge_list import MOST_LISTED, EdgeLink
from twinsplit.errors import BadMessageError
from twinsplit.model.manifest import Manifest
from twinsplit.reckoning import (
    LEAST_MIRRORED_SHARE,
    DecayingRate,
    ProgressModel,
    believed_epoch,
    expected_queue_length,
    task_boundaries_s,
)
from twinsplit.types import Outcome, TaskRecord

_MAX_UPLINK_SHARE = 0.9
"""Above this the expected wait for the uplink is reckoned with this share: it would grow without bound."""

_MOST_LINKS = 4 * MOST_LISTED
"""Ways kept to edges that have come and gone."""

HEALTH = ("cpu_share", "memory_share", "temperature_celsius", "is_throttled", "speed_share")
"""How the machine does; what it has no sensor for is never reported."""
_MEASURED = (
    "epoch",
    "service_s",
    "queue_length",
    "task_rate_per_s",
    "busy_share",
    "goodput_bytes_per_s",
    "round_trip_s",
    "uplink_wait_s",
    "energy_joules",
    "is_edge_reachable",
    "is_degraded",
    *HEALTH,
)


class StatusTwin:
    """What is known and believed of one device. Instants are on the twin's monotonic clock."""

    def __init__(
        self, hello: DeviceHello, manifest: Manifest | None, now_s: float, mirror: EpochMirror | None = None
    ) -> None:
        self.hello = hello
        self.manifest = manifest
        """``None`` until the device has sent it."""
        if manifest is not None:
            check_profile(hello.segment_s, hello.exit_s, manifest)
        self.segment_s = hello.segment_s
        self.exit_s = hello.exit_s
        self.speed_share = hello.speed_share or 1.0
        """Speed of the processor at which ``segment_s`` and ``exit_s`` hold."""
        self.goodput_bytes_per_s = hello.goodput_bytes_per_s
        self.round_trip_s = hello.round_trip_s
        self.links: dict[str, EdgeLink] = {}
        """Ways to single edges by name, for a device that has a list of them."""
        self.is_edge_reachable = True
        self.is_degraded = False
        self.task: ProgressModel | None = None
        """The task believed in service; ``None``: idle."""
        self.first_epoch = 0
        """Segments that it had done when its service (re)started."""
        self.queue_length = 0
        """As last reported."""
        self.reported_at_s = now_s
        self._attached_at_s = now_s
        self.mirror = mirror or EpochMirror()
        """How right the beliefs were; it goes on where the device had been attached before."""
        self.mirror.believe(now_s, None)
        self._exits_run: tuple[bool, ...] = ()
        self._entered: int | None = None
        self._arrivals = DecayingRate(now_s)
        self._busy = DecayingRate(now_s)
        self._uploads = DecayingRate(now_s)
        self._uploads_squared = DecayingRate(now_s)
        self._segment_names = tuple(f"segment_{k}_s" for k in range(1, len(hello.segment_s) + 1))
        self._fields = {name: MirroredField() for name in (*_MEASURED, *self._segment_names)}
        self._boundaries: tuple[object, tuple[float, ...]] = (None, ())
        """The newest ones, after what they were made of: every belief holds them."""
        self._take_profile(now_s)
        self._take_uplink(self.goodput_bytes_per_s, self.round_trip_s, now_s)

    # What the device says.

    def manifest_known(self, manifest: Manifest) -> None:
        """The manifest has arrived.

        Raises:
            BadMessageError: the profile of the hello does not fit it.
        """
        check_profile(self.hello.segment_s, self.hello.exit_s, manifest)
        self.manifest = manifest

    def plan_stands(self, exits_run: tuple[bool, ...], now_s: float) -> None:
        """The device runs these exits from its next epoch on."""
        if exits_run == self._exits_run:
            return
        self._exits_run = exits_run
        if self.task is not None:
            epoch = believed_epoch(self.task, now_s)
            self._anchor(self.task.task_id, epoch, self.task.reached_at_s(epoch), now_s)

    def started(self, report: StartReport, now_s: float) -> None:
        """A task is in service. One that is believed in service already keeps what is known of its progress."""
        task_id, first_epoch = report.task_id, report.first_epoch
        if self.task is not None and self.task.task_id == task_id and self.first_epoch == first_epoch:
            return
        self.first_epoch = first_epoch
        self._believe(ProgressModel(task_id, report.started_at_s, self._boundaries_s()), now_s)
        self._fields["epoch"].report(first_epoch, report.started_at_s)
        self._fields["service_s"].report(max(0.0, now_s - report.started_at_s), now_s)

    def progressed(self, report: ProgressReport, now_s: float, *, is_live: bool = False) -> None:
        """The task in service stands elsewhere than reckoned, or was asked where it stands."""
        self._fields["epoch"].report(
            report.epoch, report.reached_at_s, expected=self.epoch(report.reached_at_s), is_live=is_live
        )
        if self.task is None or self.task.task_id != report.task_id:
            self.first_epoch = 0
        self._anchor(report.task_id, report.epoch, report.reached_at_s, now_s)

    def idle(self, now_s: float) -> None:
        """No task is in service."""
        if self.task is not None:
            self._believe(None, now_s)

    def queue(self, queue_length: int, now_s: float, *, is_live: bool = False) -> None:
        """So many tasks wait."""
        expected = self.queue_expected(now_s)
        self.queue_length = queue_length
        self.reported_at_s = now_s
        self._fields["queue_length"].report(queue_length, now_s, expected=expected, is_live=is_live)

    def ended(self, tasks: Iterable[TaskRecord], now_s: float) -> None:
        """Tasks have ended; their true epoch times judge what was believed of them."""
        for task in tasks:
            if task.energy_joules is not None:
                self._fields["energy_joules"].report(task.energy_joules, task.ended_at_s)
            # What began before the device attached was neither believed here nor falls into the span of our rates.
            if task.started_at_s is None or task.started_at_s < self._attached_at_s:
                continue
            if task.stages.upload:
                transmission_s = self._transmission_s(task, task.stages.upload)
                self._uploads.add(transmission_s, now_s)
                self._uploads_squared.add(transmission_s**2, now_s)
            service_s = service_on_device_s(task)
            if service_s is not None:
                self._busy.add(service_s, now_s)
                if service_s < LEAST_MIRRORED_SHARE * self.hello.report_threshold_s:
                    continue
                self._judge_service(task, task.started_at_s, service_s)
        self._fields["busy_share"].report(self.busy_share(now_s), now_s)
        self._fields["uplink_wait_s"].report(self.uplink_busy_s(now_s), now_s)

    def state(self, state: DeviceState, now_s: float, *, is_live: bool = False) -> None:
        """How the device does, apart from its task."""
        self._take_times(state, now_s)
        self._take_uplink(state.goodput_bytes_per_s, state.round_trip_s, now_s, is_live=is_live)
        for link in state.links:
            self.links.pop(link.edge_id, None)
            self.links[link.edge_id] = link
        while len(self.links) > _MOST_LINKS:
            del self.links[next(iter(self.links))]
        self.is_edge_reachable = state.is_edge_reachable
        self.is_degraded = state.is_degraded
        self._fields["is_edge_reachable"].report(float(state.is_edge_reachable), now_s, is_live=is_live)
        self._fields["is_degraded"].report(float(state.is_degraded), now_s, is_live=is_live)
        for name in HEALTH:
            if (value := getattr(state, name)) is not None:
                self._fields[name].report(float(value), now_s, is_live=is_live)
        # The count starts anew with the device; what came before our first look has no known span of time.
        if self._entered is not None and state.entered >= self._entered:
            self._arrivals.add(state.entered - self._entered, now_s)
        self._entered = state.entered
        self._fields["task_rate_per_s"].report(self.task_rate_per_s(now_s), now_s)
        self.reported_at_s = now_s

    def heard(
        self,
        state: DeviceState,
        started: StartReport | None,
        queue_length: int,
        now_s: float,
        *,
        is_live: bool = False,
    ) -> None:
        """The device tells all of itself: how it does, what is in service (``None``: nothing), what waits.

        Raises:
            BadMessageError: something in it does not fit; nothing of it is taken.
        """
        self.check_state(state)
        if started is not None:
            self.check_epoch(started.first_epoch)
        self.queue(queue_length, now_s, is_live=is_live)
        self.state(state, now_s, is_live=is_live)
        if started is None:
            self.idle(now_s)
        else:
            self.started(started, now_s)

    def live(self, report: LiveReport, now_s: float) -> None:
        """The device was asked and answers.

        Raises:
            BadMessageError: something in it does not fit; nothing of it is taken.
        """
        self.check_epoch(report.epoch)
        self.heard(report.state, report.started, report.queue_length, now_s, is_live=True)
        if report.started is not None:
            progress = ProgressReport(report.started.task_id, report.epoch, report.reached_at_s)
            self.progressed(progress, now_s, is_live=True)

    # What may be believed: called before anything of a message is taken, so that a bad one leaves no trace.

    def check_state(self, state: DeviceState) -> None:
        """See that a state fits the model.

        Raises:
            BadMessageError: a profile of another number of segments or exits.
        """
        if (state.segment_s or state.exit_s) and self.manifest is not None:
            check_profile(state.segment_s or self.segment_s, state.exit_s or self.exit_s, self.manifest)

    def check_epoch(self, epoch: int) -> None:
        """See that this device has such an epoch.

        Raises:
            BadMessageError: it has not.
        """
        if not 0 <= epoch <= len(self.segment_s):
            raise BadMessageError(f"epoch: {epoch} is impossible, this device holds {len(self.segment_s)} segments")

    def check_task(self, task: TaskRecord) -> None:
        """See that an ended task fits the model.

        Raises:
            BadMessageError: an epoch, evidence or exit that the model does not have.
        """
        if task.stop_epoch is not None:
            self.check_epoch(task.stop_epoch)
        if len(task.epoch_times_s) > len(self.segment_s) + 1:
            raise BadMessageError(
                f"epoch_s: has {len(task.epoch_times_s) - 1} epochs, at most {len(self.segment_s)} fit"
            )
        if len(task.exit_confidences) > len(self.exit_s):
            raise BadMessageError(
                f"exit_confidence: has {len(task.exit_confidences)} values, the model has {len(self.exit_s)} exits"
            )
        if self.manifest is None:
            return
        if not 0 <= task.evidence < self.manifest.evidence_count:
            raise BadMessageError(f"evidence: {task.evidence} is not one of {self.manifest.evidence_count} states")
        if task.exit_index is not None and not 0 <= task.exit_index < len(self.manifest.exits):
            raise BadMessageError(f"exit_index: {task.exit_index} is not one of {len(self.manifest.exits)} exits")

    # What is believed.

    def epoch(self, now_s: float) -> int | None:
        """Decision epoch of the task in service at ``now_s``; ``None``: idle."""
        return None if self.task is None else believed_epoch(self.task, now_s)

    def encode_s(self) -> Mapping[tuple[int, int], float]:
        """Encoding time by (cut, position of the representation), at the speed of now; told once, at attachment."""
        slower = (self.hello.speed_share or 1.0) / self.speed_share
        if slower == 1.0:
            return self.hello.encode_s
        return {key: slower * seconds for key, seconds in self.hello.encode_s.items()}

    def queue_expected(self, now_s: float) -> float:
        """Tasks waiting at ``now_s``: those reported, and those that arrive while one is in service."""
        return self.queue_length + self.arrivals_expected(now_s)

    def arrivals_expected(self, now_s: float) -> float:
        """Tasks that have joined the queue by ``now_s`` since it was reported; none where no task is in service."""
        if self.task is None:  # whoever comes then is served, and reported, at once
            return 0.0
        unreported_s = now_s - self._fields["queue_length"].reported_at_s
        return expected_queue_length(0, self._arrivals.per_second(now_s), unreported_s, is_serving=True)

    def task_rate_per_s(self, now_s: float) -> float:
        """Tasks entering per second."""
        return self._arrivals.per_second(now_s)

    def busy_share(self, now_s: float) -> float:
        """Share of time in service, 0..1."""
        return min(self._busy.per_second(now_s), 1.0)

    def goodput_to(self, edge_id: str | None) -> float | None:
        """Goodput of the uplink to an edge, bytes per second; where nothing was sent there yet, to the edge used."""
        link = None if edge_id is None else self.links.get(edge_id)
        return self.goodput_bytes_per_s if link is None else link.goodput_bytes_per_s or self.goodput_bytes_per_s

    def round_trip_to(self, edge_id: str | None) -> float | None:
        """Round trip to an edge, seconds; where it was not measured yet, to the edge used."""
        link = None if edge_id is None else self.links.get(edge_id)
        return self.round_trip_s if link is None else link.round_trip_s or self.round_trip_s

    def reaches(self, edge_id: str) -> bool:
        """Whether the device can use an edge, as far as it has told."""
        link = self.links.get(edge_id)
        return link is None or link.is_reachable

    def uplink_busy_s(self, now_s: float) -> float:
        """Expected wait for an uplink that earlier offloads still use, seconds (Pollaczek-Khinchine)."""
        return 0.5 * self._uploads_squared.per_second(now_s) / (1.0 - self.uplink_busy_share(now_s))

    def uplink_busy_share(self, now_s: float) -> float:
        """Share of time in which the uplink sends payloads."""
        return min(self._uploads.per_second(now_s), _MAX_UPLINK_SHARE)

    def field(self, name: str) -> MirroredField:
        """One mirrored number with its running error."""
        return self._fields[name]

    @property
    def segment_fields(self) -> tuple[MirroredField, ...]:
        """Time of each segment; its error is told by the tasks that run it."""
        return tuple(self._fields[name] for name in self._segment_names)

    def views(self, now_s: float, desired: dict[str, float]) -> tuple[FieldView, ...]:
        """All fields as a reader sees them at ``now_s``; ``desired`` by name of the field."""
        epoch = self.epoch(now_s)
        predicted = {
            "epoch": None if epoch is None else float(epoch),
            "service_s": None if self.task is None else max(0.0, now_s - self.task.started_at_s),
            "queue_length": self.queue_expected(now_s),
            "task_rate_per_s": self.task_rate_per_s(now_s),
            "busy_share": self.busy_share(now_s),
            "uplink_wait_s": self.uplink_busy_s(now_s),
        }
        views = [f.view(name, now_s, predicted=predicted.get(name)) for name, f in self._fields.items()]
        if epoch is None:  # idle: the last task's epoch is history, not a state
            views = [
                replace(v, reported=None, predicted=None) if v.name in ("epoch", "service_s") else v for v in views
            ]
        wished = [replace(MirroredField().view(name, now_s), desired=value) for name, value in desired.items()]
        return (*views, *wished)

    # How it is done.

    def _transmission_s(self, task: TaskRecord, upload_s: float) -> float:
        """For how long the payload of ``task`` kept the uplink busy: its upload without the way, and without the time
        in which earlier payloads were sent, which are counted themselves."""
        transmission_s = max(0.0, upload_s - (self.round_trip_s or 0.0))
        goodput = self.goodput_bytes_per_s
        return min(transmission_s, task.wire_bytes / goodput) if goodput and task.wire_bytes else transmission_s

    def _believe(self, task: ProgressModel | None, now_s: float) -> None:
        self.task = task
        self.mirror.believe(now_s, task)

    def _anchor(self, task_id: int, epoch: int, reached_at_s: float, now_s: float) -> None:
        """Believe that ``task_id`` reached ``epoch`` at ``reached_at_s`` and goes on by the profile."""
        boundaries_s = self._boundaries_s()
        elapsed_s = boundaries_s[epoch - 1] if epoch and boundaries_s else 0.0
        self._believe(ProgressModel(task_id, reached_at_s - elapsed_s, boundaries_s), now_s)

    def _boundaries_s(self) -> tuple[float, ...]:
        if self.manifest is None:
            return ()
        made_of = (self.segment_s, self.exit_s, self._exits_run, self.first_epoch)
        if self._boundaries[0] != made_of:
            exits_run = self._exits_run or (False,) * len(self.manifest.exits)
            boundaries_s = task_boundaries_s(
                self.segment_s, self.exit_s, self.manifest.exit_after, exits_run, self.first_epoch
            )
            self._boundaries = (made_of, boundaries_s)
        return self._boundaries[1]

    def _judge_service(self, task: TaskRecord, started_at_s: float, service_s: float) -> None:
        reached_s = [instant - started_at_s for instant in task.epoch_times_s[1:]]
        self.mirror.judge(task.task_id, started_at_s, reached_s, service_s)
        true_s = expected_s = 0.0
        for name, true_next_s, expected_next_s in zip(
            self._segment_names, reached_s, self._boundaries_s(), strict=False
        ):
            self._fields[name].judge(abs((true_next_s - true_s) - (expected_next_s - expected_s)))
            true_s, expected_s = true_next_s, expected_next_s

    def _take_uplink(
        self, goodput_bytes_per_s: float | None, round_trip_s: float | None, now_s: float, *, is_live: bool = False
    ) -> None:
        if goodput_bytes_per_s is not None:
            field = self._fields["goodput_bytes_per_s"]
            field.report(goodput_bytes_per_s, now_s, expected=field.reported, is_live=is_live)
            self.goodput_bytes_per_s = goodput_bytes_per_s
        if round_trip_s is not None:
            field = self._fields["round_trip_s"]
            field.report(round_trip_s, now_s, expected=field.reported, is_live=is_live)
            self.round_trip_s = round_trip_s

    def _take_times(self, state: DeviceState, now_s: float) -> None:
        """Times that are told hold at the speed that is told with them. Those that are not are made to fit it, so that
        a device that is slowed down is reckoned with as such at once, and only once."""
        share = state.speed_share or self.speed_share
        slower = self.speed_share / share
        if slower == 1.0 and not (state.segment_s or state.exit_s):
            return
        self.segment_s = state.segment_s or tuple(slower * s for s in self.segment_s)
        self.exit_s = state.exit_s or tuple(slower * s for s in self.exit_s)
        self.speed_share = share
        self._take_profile(now_s)

    def _take_profile(self, now_s: float) -> None:
        for name, service_s in zip(self._segment_names, self.segment_s, strict=True):
            self._fields[name].report(service_s, now_s)


def check_profile(segment_s: tuple[float, ...], exit_s: tuple[float, ...], manifest: Manifest) -> None:
    """See that a profile fits a manifest.

    Raises:
        BadMessageError: another number of segments or exits.
    """
    if len(segment_s) != manifest.held_segments:
        raise BadMessageError(
            f"segment_s: has {len(segment_s)} times, a device holds {manifest.held_segments} segments"
        )
    if len(exit_s) != len(manifest.exits):
        raise BadMessageError(f"exit_s: has {len(exit_s)} times, the model has {len(manifest.exits)} exits")


def service_on_device_s(task: TaskRecord) -> float | None:
    """Service start to the end of service on the device, seconds; ``None``: never started, or resumed after a failed
    offload, whose second service the record does not tell apart."""
    if task.started_at_s is None:
        return None
    if task.payload is None:
        return max(0.0, task.ended_at_s - task.started_at_s)
    if task.outcome is not Outcome.EDGE:
        return None
    stopped_at_s = task.epoch_times_s[-1] if task.epoch_times_s else task.started_at_s
    return max(0.0, stopped_at_s - task.started_at_s) + (task.stages.encode or 0.0)
