"""Light devices and an edge before several twins as processes, with a way to each that can be made to fail."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.light_devices import IdleEdge, LightDevice
from benchmarks.testbed.process import HOST, ServiceProcess, free_ports, sample, total
from benchmarks.testbed.scenarios import SHIPPED_MODEL
from edge.twin_links import TwinLinks
from tests.faults.link import Link, Switchboard
from twin_service.fleet import read_fleet
from twinsplit.model.manifest import manifest_digest, read_manifest
from twinsplit.replicas.rendezvous import ranked
from twinsplit.transport.tls import TlsFiles

LEASE_S = 8.0
"""Far more than a device needs to go elsewhere, on a machine with other work, too; less than keepalive needs to find a
replica out that is silent."""
PATIENCE_S = 60.0
Metrics = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class ReplicaFleet:
    """Twins as processes, each with a way to it that can be made to fail, light devices and an edge."""

    def __init__(self, folder: Path, twins: int, store: str | None) -> None:
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
                f"twin-{index}", _twin_arguments(port, http_port, folder / f"state-{index}", store), folder, http_port
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
        for index, name in enumerate(self._names(devices)):
            device = LightDevice(name, f"@{self.list_path}", self.manifest, self._manifest_bytes, index)
            self.devices.append(device)
            self._tasks.append(asyncio.ensure_future(device.run()))

    def _names(self, count: int) -> list[str]:
        """Names of devices of which every twin is the home of as many as the others, whatever its port."""
        room = dict.fromkeys(self.replicas, count // len(self.replicas))
        names: list[str] = []
        for name in map("cam-{}".format, itertools.count()):
            home = ranked(name, self.replicas)[0]
            if room[home]:
                room[home] -= 1
                names.append(name)
            if not any(room.values()):
                return names
        raise AssertionError("names do not end")

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

    async def await_held(self) -> None:
        """Return when every device is held to be attached at the one replica where it is, and nowhere else."""
        deadline_s = time.monotonic() + PATIENCE_S
        while (held := await self.held()) != {device.name: [device.route.address] for device in self.devices}:
            assert time.monotonic() < deadline_s, held
            await asyncio.sleep(0.1)

    async def reported(self) -> dict[str, int]:
        """By device, the ended tasks that are on record where it is attached."""
        fleet = await read_fleet([self._direct[address] for address in self.replicas], TlsFiles())
        return {view.device_id: sum(view.outcomes.values()) for _, view in fleet.devices() if view.is_attached}

    async def heard_and_tasks(self, address: str) -> tuple[float, float]:
        """Messages, and ended tasks in them, that a twin has taken so far."""
        metrics = await self._metrics(address)
        heard = sample(metrics, "twinsplit_heard_messages_total")
        assert heard is not None
        return heard, total(metrics, "twinsplit_tasks_reported_total")

    async def metric(self, address: str, name: str) -> float | None:
        return sample(await self._metrics(address), name)

    async def _metrics(self, address: str) -> Metrics:
        """Of a twin that runs; a busy machine may need more than one try."""
        deadline_s = time.monotonic() + PATIENCE_S
        while (metrics := await asyncio.to_thread(self.twins[address].metrics)) is None:
            assert time.monotonic() < deadline_s, self.twins[address].last_lines()
        return metrics

    def disorder(self) -> list[str]:
        """All plans that came to a device and should not have."""
        return [line for device in self.devices for line in device.disorder()]


@asynccontextmanager
async def running_fleet(
    folder: Path, *, twins: int, devices: int, listed: int | None = None, store: str | None = None
) -> AsyncIterator[ReplicaFleet]:
    """A fleet for as long as the block lasts; ``store``: a database that all twins share, ``None``: each its own."""
    fleet = ReplicaFleet(folder, twins, store)
    try:
        await fleet.begin(devices, twins if listed is None else listed)
        yield fleet
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await fleet.close()


def _twin_arguments(port: int, http_port: int, state: Path, store: str | None) -> list[str]:
    return [
        *("-m", "twin_service", *(() if store is None else (f"--store={store}",))),
        *(f"--listen={HOST}:{port}", f"--http-listen={HOST}:{http_port}", f"--state={state}"),
        *("--rule=open-loop", f"--lease-s={LEASE_S:g}", "--save-s=0.2", "--replay-share=0", "--log-format=json"),
    ]
