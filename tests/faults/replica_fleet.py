"""Many light devices and an edge before several twins: real processes there, the product's own links here.

A light device has no network: it reports tasks as one would, keeps the plans that it is sent as one does, and writes
down from which replica, under which attachment, each of them came.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.testbed.process import HOST, ServiceProcess, free_ports, sample
from benchmarks.testbed.scenarios import SHIPPED_MODEL
from device.plan_keeping import PlanKeeper
from device.reporting import DeviceState, Heartbeat, TaskReport
from device.twin_link import TwinLink
from device.twin_route import TwinRoute
from device.twin_wire import Announcement, Attachment, LiveState
from edge.arrival_log import ArrivalLog, ArrivalLogs
from edge.backlog_reporting import ReportPolicy
from edge.tail_queue import EdgeReading
from edge.twin_link import Announcement as EdgeAnnouncement
from edge.twin_link import TwinLink as EdgeLink
from edge.twin_links import TwinLinks
from tests.faults.link import Link, Switchboard
from twin_service.fleet import read_fleet
from twinsplit.clock import SystemClock
from twinsplit.edge_list import ListedEdge
from twinsplit.model.manifest import Manifest, manifest_digest, read_manifest
from twinsplit.plan import Plan
from twinsplit.reckoning import BacklogState
from twinsplit.replicas.listing import ReplicaSource
from twinsplit.replicas.rendezvous import ranked
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.transport.tls import TlsFiles
from twinsplit.types import Outcome, Payloads, Reason, Stages, TaskRecord

LEASE_S = 3.0
REPORT_S = 0.2
"""Every device ends a task so often."""
TASKS_PER_CHANGE = 5
"""After so many tasks a device's goodput is another, for which its plan cannot stay."""
SEGMENT_S = 0.02
GOODPUTS_BYTES_PER_S = (200_000.0, 4_000.0)
PATIENCE_S = 30.0
CLOCK = SystemClock()


@dataclass(frozen=True)
class Taken:
    """A plan that a device took."""

    replica: str
    attachment_epoch: int
    plan_id: int


class LightDevice:
    """One device's way to the twin and the plans that came by it."""

    def __init__(self, name: str, replicas: str, manifest: Manifest, manifest_bytes: bytes, seed: int) -> None:
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
        self._manifest = manifest
        self._plans = PlanKeeper(manifest, digest)

    async def run(self) -> None:
        """Report tasks until cancelled."""
        link = asyncio.ensure_future(self.link.run())
        try:
            while True:
                await asyncio.sleep(REPORT_S)
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
        manifest = self._manifest
        profile = (SEGMENT_S,) * manifest.held_segments, (0.002,) * len(manifest.exits)
        return Attachment(*profile, {}, GOODPUTS_BYTES_PER_S[0], 0.01, self._plans.last_plan_id)

    def live_state(self) -> LiveState:
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


class ReplicaFleet:
    """Twins as processes, each with a way to it that can be made to fail, light devices and an edge."""

    def __init__(self, folder: Path, twins: int) -> None:
        self.folder = folder
        self.manifest, self._manifest_bytes = read_manifest(SHIPPED_MODEL)
        self.devices: list[LightDevice] = []
        self.twins: dict[str, ServiceProcess] = {}
        """By the address under which devices reach them."""
        self.links: dict[str, Link] = {}
        self._board = Switchboard()
        self._direct: dict[str, str] = {}
        self._tasks: list[asyncio.Future[None]] = []
        for index in range(twins):
            port, http_port, link_port = free_ports(3)
            address = f"{HOST}:{link_port}"
            self.twins[address] = ServiceProcess(
                f"twin-{index}", _twin_arguments(port, http_port, folder / f"state-{index}"), folder, http_port
            )
            self.links[address] = self._board.link(f"twin-{index}", link_port, port)
            self._direct[address] = f"{HOST}:{port}"
        self.list_path = folder / "replicas"
        self._edge_list_path = folder / "replicas-of-the-edge"
        self.edge: TwinLinks

    @property
    def replicas(self) -> tuple[str, ...]:
        """Addresses of all twins."""
        return tuple(self.twins)

    def list(self, replicas: tuple[str, ...]) -> None:
        """What devices and edge read as the list of replicas from now on."""
        self.list_path.write_text("\n".join(replicas))
        # The edge's ways do not fail.
        self._edge_list_path.write_text("\n".join(self._direct[address] for address in replicas))

    def home(self, device: LightDevice, replicas: tuple[str, ...]) -> str:
        """The one of ``replicas`` where a device belongs."""
        return ranked(device.name, replicas)[0]

    async def begin(self, devices: int, listed: int) -> None:
        """Start twins, then the edge and devices, which know the first ``listed`` twins."""
        for twin in self.twins.values():
            twin.start()
        for twin in self.twins.values():
            await asyncio.to_thread(twin.wait_until_ready)
        self.list(self.replicas[:listed])
        self.edge = IdleEdge().links(f"@{self._edge_list_path}", self.manifest, manifest_digest(self._manifest_bytes))
        self._tasks.append(asyncio.ensure_future(self.edge.run()))
        for index in range(devices):
            device = LightDevice(f"cam-{index}", f"@{self.list_path}", self.manifest, self._manifest_bytes, index)
            self.devices.append(device)
            self._tasks.append(asyncio.ensure_future(device.run()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for twin in self.twins.values():
            twin.kill()
        self._board.close()

    def are_home(self, replicas: tuple[str, ...]) -> bool:
        """Whether every device is attached where it belongs and has a plan from there, and the edge is everywhere."""
        return self.edge.is_attached and all(
            device.link.is_attached
            and device.route.address == self.home(device, replicas)
            and bool(device.taken)
            and device.taken[-1].replica == device.route.address
            for device in self.devices
        )

    async def held(self) -> dict[str, list[str]]:
        """By device, the replicas that hold it to be attached to them."""
        fleet = await read_fleet([self._direct[address] for address in self.replicas], TlsFiles())
        back = {direct: address for address, direct in self._direct.items()}
        found: dict[str, list[str]] = {device.name: [] for device in self.devices}
        for direct, listing in fleet.listings.items():
            for view in listing.devices:
                if view.is_attached:
                    found[view.device_id].append(back[direct])
        return found

    async def heard(self, address: str) -> float:
        """Messages that a twin has taken so far."""
        metrics = await asyncio.to_thread(self.twins[address].metrics)
        return sample(metrics, "twinsplit_heard_messages_total") or 0.0

    async def metric(self, address: str, name: str) -> float | None:
        return sample(await asyncio.to_thread(self.twins[address].metrics), name)

    def disorder(self) -> list[str]:
        """All plans that came to a device and should not have."""
        return [line for device in self.devices for line in device.disorder()]


@asynccontextmanager
async def running_fleet(
    folder: Path, *, twins: int, devices: int, listed: int | None = None
) -> AsyncIterator[ReplicaFleet]:
    """A fleet for as long as the block lasts."""
    fleet = ReplicaFleet(folder, twins)
    try:
        await fleet.begin(devices, twins if listed is None else listed)
        yield fleet
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await fleet.close()


def _twin_arguments(port: int, http_port: int, state: Path) -> list[str]:
    return [
        *("-m", "twin_service", f"--listen={HOST}:{port}", f"--http-listen={HOST}:{http_port}", f"--state={state}"),
        *("--rule=open-loop", f"--lease-s={LEASE_S:g}", "--save-s=0.2", "--replay-share=0", "--log-format=json"),
    ]
