"""Devices without a network and an edge with nothing to do, before real twins: the product's own links here.

A light device reports tasks as one would, keeps the plans that it is sent as one does, and writes down from which
replica, under which attachment, each of them came. Hundreds of them fit into one process.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from itertools import accumulate, pairwise
from types import SimpleNamespace
from typing import Any

from benchmarks.testbed.process import HOST
from device.plan_keeping import PlanKeeper
from device.reports import DeviceState, Heartbeat, TaskReport
from device.twin_link import TwinLink
from device.twin_route import TwinRoute
from device.twin_wire import Announcement, Attachment, LiveState
from edge.arrival_log import ArrivalLog, ArrivalLogs
from edge.backlog_reporting import ReportPolicy
from edge.tail_queue import EdgeReading
from edge.twin_link import Announcement as EdgeAnnouncement
from edge.twin_link import TwinLink as EdgeLink
from edge.twin_links import TwinLinks
from twinsplit.clock import SystemClock
from twinsplit.edge_list import ListedEdge
from twinsplit.model.manifest import Manifest, manifest_digest
from twinsplit.plan import Plan
from twinsplit.reckoning import BacklogState
from twinsplit.replicas.listing import ReplicaSource
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.types import Outcome, Payloads, Reason, Stages, TaskRecord

REPORT_S = 0.2
"""Every device ends a task so often, where nothing else is said."""
TASKS_PER_CHANGE = 5
"""After so many tasks a device's goodput is another, for which its plan cannot stay."""
SEGMENT_S = 0.02
GOODPUTS_BYTES_PER_S = (200_000.0, 4_000.0)
CLOCK = SystemClock()


@dataclass(frozen=True)
class Taken:
    """A plan that a device took."""

    replica: str
    attachment_epoch: int
    plan_id: int


class LightDevice:
    """One device's way to the twin and the plans that came by it."""

    def __init__(
        self,
        name: str,
        replicas: str,
        manifest: Manifest,
        manifest_bytes: bytes,
        seed: int,
        report_s: float = REPORT_S,
    ) -> None:
        digest = manifest_digest(manifest_bytes)
        self.name = name
        self.signalling = SignallingCount()
        self.route = TwinRoute(ReplicaSource(replicas), name, CLOCK, self.signalling, rng=random.Random(seed))
        announcement = Announcement(name, digest, Payloads.ANY, None, 3.0, 1.2, False, 0.1)
        self.link = TwinLink(self.route, announcement, manifest_bytes, self, CLOCK, self.signalling)
        self.taken: list[Taken] = []
        self.tasks = 0
        self.tasks_without_plan = 0
        """Of those after the first plan."""
        self._report_s = report_s
        self._manifest = manifest
        self._plans = PlanKeeper(manifest, digest)

    async def run(self) -> None:
        """Report tasks until cancelled."""
        link = asyncio.ensure_future(self.link.run())
        try:
            while True:
                await asyncio.sleep(self._report_s)
                self._end_task()
        finally:
            link.cancel()
            await asyncio.gather(link, return_exceptions=True)

    def disorder(self) -> list[str]:
        """Where plans came that should not have: of an older attachment, with an id that is not new, or of two replicas
        under one attachment."""
        replicas: dict[int, set[str]] = {}
        for each in self.taken:
            replicas.setdefault(each.attachment_epoch, set()).add(each.replica)
        return [
            *(f"{self.name}: {a} then {b}" for a, b in pairwise(self.taken) if b.attachment_epoch < a.attachment_epoch),
            *(f"{self.name}: {a} then {b}" for a, b in pairwise(self.taken) if b.plan_id <= a.plan_id),
            *(f"{self.name}: {epoch} of {found}" for epoch, found in replicas.items() if len(found) > 1 or epoch == 0),
        ]

    def _end_task(self) -> None:
        self.tasks += 1
        now_s = CLOCK.monotonic_s()
        if self.taken and self._plans.absence(now_s) is not None:
            self.tasks_without_plan += 1
        segments = self._manifest.segment_count
        started_at_s = now_s - SEGMENT_S * segments
        record = TaskRecord(
            self.tasks,
            "",
            started_at_s,
            started_at_s,
            now_s,
            Outcome.DEVICE,
            Reason.NOT_WORTH_IT,
            stop_epoch=segments,
            evidence=0,
            exit_index=None,
            payload=None,
            exit_confidences=(None,) * len(self._manifest.exits),
            stages=Stages(queue=0.0, compute=SEGMENT_S * segments),
            epoch_times_s=tuple(accumulate([SEGMENT_S] * segments, initial=started_at_s)),
            plan_id=self._plans.last_plan_id or None,
        )
        self.link.report(TaskReport((record,), None, 0, self._state()))

    def _state(self) -> DeviceState:
        goodput = GOODPUTS_BYTES_PER_S[self.tasks // TASKS_PER_CHANGE % 2]
        return DeviceState(goodput, 0.01, (), (), True, False, self.tasks, 0)

    # What the link tells.

    def attachment(self) -> Attachment:
        """What it tracks."""
        manifest = self._manifest
        profile = (SEGMENT_S,) * manifest.held_segments, (0.002,) * len(manifest.exits)
        return Attachment(*profile, {}, GOODPUTS_BYTES_PER_S[0], 0.01, self._plans.last_plan_id)

    def live_state(self) -> LiveState:
        """State now."""
        return LiveState(0, None, 0, CLOCK.monotonic_s(), self._state())

    def attached(self, heartbeat_s: float) -> None:
        self.link.report(Heartbeat(None, 0, self._state()))

    def plan_received(self, plan: Plan, backlog: BacklogState | None) -> None:
        if self._plans.plan_received(plan, backlog, CLOCK.monotonic_s()):
            self.taken.append(Taken(self.route.address, plan.attachment_epoch, plan.plan_id))

    def backlog_updated(self, backlog: BacklogState) -> None:
        self._plans.backlog_seen(backlog)

    def edges_listed(self, edges: tuple[ListedEdge, ...]) -> None:
        pass

    def lease_renewed(self, lease_s: float) -> None:
        self._plans.lease_renewed(lease_s, CLOCK.monotonic_s())


class IdleEdge:
    """An edge that holds the model and has nothing to do."""

    def reading(self) -> EdgeReading:
        return EdgeReading(BacklogState(0.0, CLOCK.monotonic_s(), 0.0, 1.0), (0.0, 0.0, 0.0), 1.0, 0, 0.0)

    def backlog_s(self) -> float:
        return 0.0

    def links(self, replicas: str, manifest: Manifest, digest: str) -> TwinLinks:
        """Its links to all of ``replicas``."""
        model: Any = SimpleNamespace(digest=digest, tail_s=(SEGMENT_S / 10,) * manifest.segment_count)
        announcement = EdgeAnnouncement("hall", f"{HOST}:9", [model])

        def link_to(address: str, log: ArrivalLog) -> EdgeLink:
            return EdgeLink(
                address, None, announcement, self, ReportPolicy(), CLOCK, SignallingCount(), random.Random(1), log
            )

        return TwinLinks(ReplicaSource(replicas), ArrivalLogs(), link_to)
