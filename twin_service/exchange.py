"""The thin shell around :class:`twin_service.core.TwinCore`: streams on one side, the core on the other, time between.

It holds what needs the event loop: a bounded queue of messages for every device, the one timer for whatever the core
has due next, and the futures of live reads. It decides nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from twin_service import messages
from twin_service.core import TwinCore
from twin_service.learning.learner import Assignment, Result
from twin_service.learning.lesson import Report
from twin_service.messages import Send
from twin_service.store.interface import SharedStore
from twin_service.views import ServiceView, edge_view
from twin_service.workload.records import ReplayBatch
from twinsplit.clock import Clock
from twinsplit.errors import (
    BadMessageError,
    ErrorCode,
    RefusedError,
    StoppingError,
    StorageError,
    TwinsplitError,
    UnknownModelError,
)
from twinsplit.model.manifest import Manifest
from twinsplit.telemetry.histogram import Histogram
from twinsplit.telemetry.logs import EventLog
from twinsplit.transport.clock_offset import ClockOffset
from twinsplit.transport.status import code_of

MAX_UNSENT = 64
"""Messages that may wait for a device that does not read; then its stream is ended, and it attaches again."""
_REPEATED_LINE_S = 10.0
_FAILED_RULE_S = 60.0
_ASKED_AT_ONCE = 500
_AFTER_DEFECT_S = 0.1
"""Pause after ticks that fail one after the other: what was due is due still, and must not keep the event loop."""

_log = EventLog("twin.exchange")

T = TypeVar("T")


class DeviceSession:
    """One open stream of a device."""

    def __init__(self, end: Callable[[], object]) -> None:
        self.offset = ClockOffset()
        self.device_id = ""
        """Empty before its hello."""
        self.stream = 0
        self.unsent: asyncio.Queue[messages.DeviceMessage] = asyncio.Queue(MAX_UNSENT)
        self.is_ended = False
        """Whether the service has ended the stream."""
        self._end = end

    def end(self) -> None:
        """End the stream: the device may attach again."""
        self.is_ended = True
        self._end()

    def put(self, message: messages.DeviceMessage) -> None:
        """Queue a message; a device that reads none of them loses its stream."""
        try:
            self.unsent.put_nowait(message)
        except asyncio.QueueFull:
            _log.warning("device-does-not-read", device=self.device_id, unsent=MAX_UNSENT, limit_s=_REPEATED_LINE_S)
            self.end()


class Exchange:
    """Takes what peers say to the core, and what the core says to peers."""

    def __init__(self, core: TwinCore, clock: Clock, shared: SharedStore | None = None) -> None:
        """
        Args:
            shared: the memory of the core, where other replicas use it, too.
        """
        self.core = core
        self._shared = shared
        self.now_s = clock.monotonic_s
        self._clock = clock
        self.refusals: Counter[ErrorCode] = Counter()
        """Messages refused, by name."""
        self.heard = 0
        """Messages of devices and edges that came in."""
        self.planning_s = Histogram.of("twinsplit_planning_seconds")
        self.is_stopping = False
        self._sessions: dict[str, DeviceSession] = {}
        self._reads: dict[int, asyncio.Future[None]] = {}
        self._read_ids = itertools.count(1)
        self._timer: asyncio.Handle | None = None
        self._timer_due_s = math.inf
        self._not_before_s = -math.inf
        self._has_failed = False

    # Devices and edges.

    async def arriving(self, hello: messages.DeviceHello) -> None:
        """A device is about to attach: learn what other replicas have kept of it."""
        if self._shared is None:
            return
        claim = await self._shared.claimed(hello.device_id, hello.model_digest, hello.attachment_epoch)
        if claim is not None:
            self.core.archive.claimed(hello.device_id, claim)
        else:
            self.core.archive.unknown(hello.device_id)

    async def learn_of_documents(self) -> None:
        """What could not be asked of devices when they attached is asked again."""
        archive, unknown = self.core.archive, list(islice(self.core.archive.bases, _ASKED_AT_ONCE))
        found = await self._shared.kept(unknown) if self._shared is not None and unknown else None
        if self._shared is None or found is None:
            return
        behind = []
        for device_id in unknown:
            claim = found.get(device_id)
            if claim is not None and archive.is_behind(device_id, claim):
                behind.append(device_id)
            else:
                archive.learnt(device_id, claim)
        # They are here all the same: their clocks are behind, or a claim was made that nobody waited for any more.
        claims = await self._shared.reclaimed(behind) if behind else None
        for device_id, claim in (claims or {}).items():
            archive.reclaimed(device_id, claim)

    def device_moved(self, device_id: str, epoch: int) -> None:
        """A device has attached to another replica, under this number; nothing if it is back here since."""
        document = self.core.archive.find(device_id)
        if document is not None and document.epoch < epoch:
            self.device_released(device_id, epoch)
            self.core.archive.forget(device_id)

    def device_attached(self, session: DeviceSession, hello: messages.DeviceHello) -> None:
        """A device says hello on ``session``.

        Raises:
            RefusedError: it cannot attach so.
        """
        if self.is_stopping:
            raise StoppingError("this twin service is stopping; attach again in a moment")
        if session.device_id:
            raise BadMessageError("hello: this stream has said hello already; open another one to attach again")
        session.stream, sends = self.core.attach_device(hello, self.now_s())
        session.device_id = hello.device_id
        superseded = self._sessions.get(hello.device_id)
        self._sessions[hello.device_id] = session
        _log.info("device-attached", device=hello.device_id, model=hello.model_digest[:12], version=hello.version)
        if superseded is not None:
            # Broken without a word, or of another device with that id: left open it would never attach again.
            _log.warning("device-attached-twice", device=hello.device_id, limit_s=_REPEATED_LINE_S)
            superseded.end()
        self._dispatch(sends)

    def device_said(self, session: DeviceSession, event: messages.DeviceEvent) -> None:
        """An attached device says something.

        Raises:
            RefusedError: it cannot be taken.
        """
        if not session.device_id:
            raise BadMessageError("hello: is missing; it is the first message of a stream")
        if isinstance(event, messages.PeerRefusal):
            _log.warning(
                "device-refused-message", device=session.device_id, cause=str(event.error), limit_s=_REPEATED_LINE_S
            )
        self._dispatch(self.core.device_said(session.device_id, session.stream, event, self.now_s()))
        while self.core.ended_tasks.recalibrated:
            found = self.core.ended_tasks.recalibrated.pop()
            _log.warning("exits-recalibrated", model=found.model_digest[:12], drift=round(found.drift, 3))
        read = self._reads.pop(event.read_id, None) if isinstance(event, messages.LiveReport) else None
        if read is not None and not read.done():
            read.set_result(None)

    def device_gone(self, session: DeviceSession) -> None:
        """The stream of ``session`` has ended."""
        if self._sessions.get(session.device_id) is session:
            del self._sessions[session.device_id]
            _log.info("device-detached", device=session.device_id)
        self.core.detach_device(session.device_id, session.stream)

    def device_released(self, device_id: str, attachment_epoch: int) -> bool:
        """A device says that it has attached to another replica: whether it was held to be attached here."""
        if not self.core.release_device(device_id, attachment_epoch):
            return False
        session = self._sessions.pop(device_id, None)
        if session is not None:
            session.end()
        _log.info("device-released", device=device_id, attachment_epoch=attachment_epoch)
        return True

    def edge_attached(self, hello: messages.EdgeHello) -> int:
        """An edge says hello: the number of its stream.

        Raises:
            RefusedError: it cannot attach now.
        """
        if self.is_stopping:
            raise StoppingError("this twin service is stopping; attach again in a moment")
        stream = self.core.attach_edge(hello, self.now_s())
        _log.info("edge-attached", edge=hello.edge_id, address=hello.advertise_address, models=len(hello.models))
        self._arm()
        return stream

    def edge_said(self, edge_id: str, stream: int, report: messages.BacklogReport) -> messages.BacklogInterest | None:
        """An attached edge reports: the answer to it, if there is one.

        Raises:
            RefusedError: it cannot be taken.
        """
        answer = self.core.edge_said(edge_id, stream, report, self.now_s())
        self._arm()
        return answer

    def edge_gone(self, edge_id: str, stream: int) -> None:
        """An edge's stream has ended."""
        _log.info("edge-detached", edge=edge_id)
        self.core.detach_edge(edge_id, stream)
        self._arm()

    def refused(self, error: Exception, who: str) -> messages.Refusal:
        """Note that a message is refused, and make the answer."""
        code = code_of(error)
        self.refusals[code] += 1
        if isinstance(error, RefusedError):
            _log.warning(
                "message-refused", peer=who, code=code.value, cause=str(error), limit_s=_REPEATED_LINE_S, limit_key=who
            )
        else:
            _log.exception("message-failed", error, peer=who)
        return messages.Refusal(error)

    # Readers.

    async def refresh(self, device_id: str, *, older_than_s: float, timeout_s: float) -> bool:
        """Ask a device how it stands, if its report is older than ``older_than_s``; whether it answered in time."""
        session = self._sessions.get(device_id)
        if session is None or not self.core.is_worth_asking(device_id, older_than_s, self.now_s()):
            return False
        read_id = next(self._read_ids)
        read = self._reads[read_id] = asyncio.get_running_loop().create_future()
        session.put(messages.LiveRequest(read_id))
        try:
            await asyncio.wait_for(read, timeout_s)
        except asyncio.TimeoutError:
            return False
        finally:
            self._reads.pop(read_id, None)
        return True

    def described(self, device_id: str) -> ServiceView:
        """This service now, with regard to a device."""
        core, now_s = self.core, self.now_s()
        device, document = core.devices.get(device_id), core.archive.find(device_id)
        return ServiceView(
            rule=core.planner.rule.name,
            unix_ns=self._clock.unix_ns(),
            edges=[edge_view(edge, now_s) for _, edge in sorted(core.edges.items()) if edge.is_attached],
            is_device_attached=device is not None and device.is_attached,
            device_model_digest="" if document is None else document.model_digest,
        )

    def desired(self) -> None:
        """Something was written that the core may act upon."""
        self._arm()

    def exported(self) -> AsyncIterator[bytes]:
        """All documents and recorded tasks, those of the last seconds included, as batches of trace records."""
        self._save()
        return self._read(self.core.kept.exported(self._clock.unix_ns() * 1e-9))

    def replay_batches(self, model: str, limit: int) -> AsyncIterator[ReplayBatch]:
        """The newest replayed tasks, those of the last seconds included; arguments as those of the core."""
        self._save()
        return self._read(self.core.kept.replay_batches(model, limit))

    async def _read(self, items: Iterator[T]) -> AsyncIterator[T]:
        """What may wait for a network is read in another thread; the first item is of the twins, and made here."""
        for item in items:
            yield item
            if self._shared is not None:
                break
        while self._shared is not None and (rest := await asyncio.to_thread(next, items, None)) is not None:
            yield rest

    def _save(self) -> None:
        try:
            self.core.save()
        except StorageError as error:
            _log.error("state-not-saved", cause=str(error), limit_s=_REPEATED_LINE_S)

    # Time.

    def replay_next(self) -> float | None:
        """Let the workload twin replay a task: the seconds that it took; ``None``: none could be replayed now."""
        workload = self.core.workload
        began_s = self.now_s()
        if workload is None or workload.next_due_s() > began_s:
            return None
        try:
            workload.replay_next(began_s)
        except Exception as error:  # noqa: BLE001 - a defect in one replay must not end all replaying
            _log.exception("replay-failed", error)
        self.learner_changed()
        ended_s = self.now_s()
        workload.cost(ended_s - began_s, ended_s)
        return ended_s - began_s

    # Learning.

    def next_lesson(self) -> tuple[Assignment, Manifest] | None:
        """A lesson that is due, with the manifest of its model; ``None``: none is."""
        learner = self.core.learner
        assignment = None if learner is None else learner.next_lesson()
        if learner is None or assignment is None:
            return None
        manifest = self.core.manifests.get(assignment.model_digest)
        if manifest is None:  # its devices send it when they attach again
            learner.failed(assignment, UnknownModelError("the manifest of that model is not here (any more)"))
            self.learner_changed()
            return None
        return assignment, manifest

    def lesson_ended(self, assignment: Assignment, result: Report | TwinsplitError) -> None:
        """A lesson was learnt, or could not be."""
        learner = self.core.learner
        assert learner is not None, "a lesson comes from a learner"
        if isinstance(result, TwinsplitError):
            learner.failed(assignment, result)
        else:
            learner.learnt(assignment, result, self._clock.unix_ns() * 1e-9)
        self.learner_changed()

    def learner_changed(self) -> None:
        """Something may have happened to weights: say so, and plan with them."""
        learner = self.core.learner
        while learner is not None and learner.events:
            event = learner.events.popleft()
            is_ordinary = event.result in (Result.PROMOTED, Result.REFUSED, Result.ADOPTED)
            tell = _log.info if is_ordinary else _log.warning
            tell(
                f"weights-{event.result.value}",
                model=event.model_digest[:12],
                version=event.version,
                cause=event.cause or "it predicts better and brings more",
            )
            if event.changes_weights:
                self.core.weights_changed(event.model_digest)
        self._arm()

    def close(self) -> None:
        """Nothing is due any more."""
        self.is_stopping = True
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        due_s = max(self.core.next_due_s(), self._not_before_s)
        if due_s >= self._timer_due_s or self.is_stopping:
            return
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        wait_s = due_s - self.now_s()
        self._timer = loop.call_later(wait_s, self._tick) if wait_s > 0.0 else loop.call_soon(self._tick)
        self._timer_due_s = due_s

    def _tick(self) -> None:
        self._timer, self._timer_due_s = None, math.inf
        began_s, weighed = self.now_s(), self.core.planner.weighed
        try:
            sends = self.core.tick(began_s)
            self._has_failed = False
        except Exception as error:  # noqa: BLE001 - a defect in one batch must not end all planning
            _log.exception("tick-failed", error)
            if self._has_failed:
                self._not_before_s = began_s + _AFTER_DEFECT_S
            self._has_failed = True
            sends = []
        if (count := self.core.planner.weighed - weighed) > 0:
            each_s = (self.now_s() - began_s) / count
            for _ in range(count):
                self.planning_s.observe(each_s)
            for failure in self.core.planner.last_failures:
                device = failure.device_id
                _log.error("rule-failed", device=device, cause=failure.cause, limit_s=_FAILED_RULE_S, limit_key=device)
        self._dispatch(sends)

    def _dispatch(self, sends: Iterable[Send]) -> None:
        for send in sends:
            session = self._sessions.get(send.device_id)
            if session is not None:
                session.put(send.message)
        self._arm()
