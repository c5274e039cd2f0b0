"""Some devices of one twin service, as a process: ``python -m benchmarks.load.twin_devices ORDER``.

Every device has a connection and a stream of its own and says by the product's own converters what a device says: a
report when a task has ended, which also tells of the next one where it starts at once, and an announcement of a task
that starts on an idle device. Now and then one tells of another goodput, for which its plan cannot stay: from that
report to the new plan is the plan's delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import grpc.aio

from benchmarks.load.reports import (
    EXIT_S,
    GOODPUT_BYTES_PER_S,
    ROUND_TRIP_S,
    SEGMENT_S,
    SLOWED,
    longest_service_s,
    made_record,
)
from benchmarks.load.window import LAST_ANSWERS_S, READY, START_TIMEOUT_S, Counted, CpuClock, Window, say_counted
from benchmarks.streams import stream_seed
from device.reports import DeviceState, Report, Started, StartReport, TaskReport
from device.twin_wire import Announcement, Attachment, hello_to_wire, manifest_to_wire, report_to_wire
from twinsplit.model.manifest import Manifest, manifest_digest, read_manifest
from twinsplit.rpc.v1 import edge_pb2, twin_pb2, twin_pb2_grpc
from twinsplit.telemetry.logs import configure_logging
from twinsplit.transport.channel import open_channel
from twinsplit.transport.clock_echo import ClockEcho
from twinsplit.transport.convert import digest_to_wire
from twinsplit.transport.open_files import allow_many_connections
from twinsplit.types import Payloads, TaskRecord

MODULE = "benchmarks.load.twin_devices"
EDGE_REPORT_S = 0.2
EDGE_SPEED = 10.0
"""Of the edge over the devices."""
_EDGE_ARRIVALS = 8
"""Tails of other users in one report."""
_BUSY_SHARE = 0.5
"""Tasks of a device that has more to do than this lets it take less time. Its profile stays: for a processor so fast no
uplink would change a plan."""
_ATTACHING = 16
"""Devices that attach at once: more would only wait for one another."""


class TwinDevice:
    """One device: a connection, a stream, and the plan that stands."""

    def __init__(
        self, name: str, channel: grpc.aio.Channel, manifest: Manifest, manifest_bytes: bytes, rate_per_s: float
    ) -> None:
        self._name = name
        self._rate_per_s = rate_per_s
        self._pace = min(1.0, _BUSY_SHARE / (rate_per_s * longest_service_s(manifest)))
        self._manifest = manifest
        self._manifest_bytes = manifest_bytes
        self._channel = channel
        self._call: Any = None
        self._echo = ClockEcho(_now_s)
        self._has_plan = asyncio.Event()
        self._plan_id = 0
        self._changed_at_s: float | None = None
        self._is_answered = asyncio.Event()
        self._is_answered.set()
        self._entered = 0
        self._is_slow = False
        self._counted = Counted()
        self._window: Window | None = None
        self.reader: asyncio.Future[None] | None = None
        """Reads what the twin says."""

    async def attach(self) -> None:
        """Connect, say hello and wait for the plan."""
        self._call = _stub(self._channel).AttachDevice(wait_for_ready=True)
        digest = manifest_digest(self._manifest_bytes)
        announcement = Announcement(self._name, digest, Payloads.ANY, None, 3.0, 1.2, False, 0.1)
        attachment = Attachment(
            (SEGMENT_S,) * self._manifest.held_segments,
            (EXIT_S,) * len(self._manifest.exits),
            {},
            GOODPUT_BYTES_PER_S,
            ROUND_TRIP_S,
            0,
        )
        await self._say(hello_to_wire(announcement, attachment))
        self.reader = asyncio.ensure_future(self._read())
        await asyncio.wait_for(self._has_plan.wait(), START_TIMEOUT_S)

    async def run(self, window: Window, change_s: float, counted: Counted, draw: random.Random) -> None:
        """Serve independent tasks one by one and report them, another goodput about every ``change_s``.

        It ends some time after the window, whatever the twin reads.
        """
        self._counted, self._window = counted, window
        last_s = window.end_s + LAST_ANSWERS_S
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._serve(window, change_s, counted, draw), last_s - _now_s())
            await asyncio.wait_for(self._is_answered.wait(), last_s - _now_s())
        if self._changed_at_s is not None and window.has(self._changed_at_s):
            counted.ended["lost"] += 1

    async def _serve(self, window: Window, change_s: float, counted: Counted, draw: random.Random) -> None:
        arrives_s = window.start_s + draw.expovariate(self._rate_per_s)
        ended_s = window.start_s
        change_at_s = window.start_s + change_s * draw.random()
        # Whoever waits for a plan goes on reporting, as it would in the field.
        while arrives_s < window.end_s or not self._is_answered.is_set():
            self._entered += 1
            if arrives_s > ended_s:
                await _until(arrives_s)
                await self._report(StartReport(Started(self._entered, arrives_s, 0), 0))
            record = made_record(
                self._manifest, self._entered, max(arrives_s, ended_s), draw, self._plan_id, self._pace
            )
            ended_s = record.ended_at_s
            await _until(ended_s)
            if window.has(ended_s):
                counted.lags_s.append(_now_s() - ended_s)
            # One change at a time: the plan that answers it must be told from the next one's.
            if window.end_s > ended_s >= change_at_s and self._changed_at_s is None:
                self._is_slow = not self._is_slow
                change_at_s = ended_s + change_s
                self._changed_at_s = ended_s
                self._is_answered.clear()
                if window.has(ended_s):
                    counted.offered += 1
            arrives_s += draw.expovariate(self._rate_per_s)
            await self._report(self._ended(record, is_next_here=arrives_s <= ended_s))

    def _ended(self, record: TaskRecord, *, is_next_here: bool) -> TaskReport:
        goodput = GOODPUT_BYTES_PER_S / (SLOWED if self._is_slow else 1.0)
        state = DeviceState(goodput, ROUND_TRIP_S, (), (), True, False, self._entered + is_next_here, 0)
        started = Started(self._entered + 1, record.ended_at_s, 0) if is_next_here else None
        return TaskReport((record,), started, 0, state)

    async def _report(self, report: Report) -> None:
        await self._say(report_to_wire(report, _now_s()))

    async def _say(self, message: twin_pb2.AttachDeviceRequest) -> None:
        self._echo.stamp(message)
        self._count_message()
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(message)

    def _count_message(self) -> None:
        if self._window is not None and self._window.has(_now_s()):
            self._counted.messages += 1

    async def _read(self) -> None:
        while isinstance(heard := await self._call.read(), twin_pb2.AttachDeviceResponse):
            self._echo.received(heard)
            self._count_message()
            kind = heard.WhichOneof("kind")
            if kind == "welcome" and heard.welcome.needs_manifest:
                await self._say(manifest_to_wire(self._manifest_bytes))
            elif kind == "plan":
                self._note_plan(heard.plan)
            elif kind == "error" and self._window is not None and self._window.has(_now_s()):
                self._counted.ended[f"message refused: {heard.error.code}"] += 1

    def _note_plan(self, plan: twin_pb2.Plan) -> None:
        self._plan_id = plan.plan_id
        self._has_plan.set()
        now_s, changed_at_s = _now_s(), self._changed_at_s
        if changed_at_s is None or self._window is None:
            return
        self._changed_at_s = None
        self._is_answered.set()
        if self._window.has(now_s):
            self._counted.answers += 1
        if self._window.has(changed_at_s):
            self._counted.latencies_s.append(round(now_s - changed_at_s, 6))
            self._counted.ended["answered"] += 1


async def _edge(channel: grpc.aio.Channel, manifest: Manifest, manifest_bytes: bytes, draw: random.Random) -> None:
    """An edge whose backlog moves as under other users' load; runs until cancelled."""
    call = _stub(channel).AttachEdge(wait_for_ready=True)

    def report() -> twin_pb2.BacklogReport:
        backlog = edge_pb2.Backlog(backlog_s=draw.expovariate(30.0), mean_s=0.03, time_constant_s=0.5)
        # Told, arrivals let the twin replay what ended on devices and at exits, for as much of its core as it may.
        ages_s = sorted((draw.uniform(0.0, EDGE_REPORT_S) for _ in range(_EDGE_ARRIVALS)), reverse=True)
        others = [0] * _EDGE_ARRIVALS
        arrivals = twin_pb2.ArrivalLog(age_s=ages_s, work_s=[0.01] * _EDGE_ARRIVALS, device=others, task_id=others)
        return twin_pb2.BacklogReport(
            backlog=backlog, arrived_work_s=[0.1, 0.4, 1.6], speed_factor=1.0, arrivals=arrivals
        )

    segments = manifest.segment_count
    hello = twin_pb2.EdgeHello(
        edge_id="load-edge",
        advertise_address="127.0.0.1:1",
        models=[
            twin_pb2.EdgeModel(
                model_digest=digest_to_wire(manifest_digest(manifest_bytes)),
                tail_s=[SEGMENT_S / EDGE_SPEED * (segments - cut) for cut in range(segments)],
            )
        ],
        backlog=report(),
    )
    await call.write(twin_pb2.AttachEdgeRequest(clock=twin_pb2.ClockEcho(sent_s=_now_s()), hello=hello))
    while True:
        await asyncio.sleep(EDGE_REPORT_S)
        await call.write(twin_pb2.AttachEdgeRequest(clock=twin_pb2.ClockEcho(sent_s=_now_s()), backlog=report()))


async def _main(order: dict[str, Any]) -> None:
    address, first, seed = str(order["address"]), int(order["first"]), int(order["seed"])
    manifest, manifest_bytes = read_manifest(Path(order["model"]))
    counted = Counted()
    async with contextlib.AsyncExitStack() as stack:
        edge = None
        if first == 0:
            channel = await stack.enter_async_context(open_channel(address))
            draw = random.Random(stream_seed(seed, "load-edge"))
            edge = asyncio.ensure_future(_edge(channel, manifest, manifest_bytes, draw))
            await asyncio.sleep(EDGE_REPORT_S)
        devices = []
        for number in range(first, first + order["devices"]):
            channel = await stack.enter_async_context(open_channel(address))
            rate_per_s = order["rate_per_device_s"]
            devices.append(TwinDevice(f"load-{number}", channel, manifest, manifest_bytes, rate_per_s))
        for begin in range(0, len(devices), _ATTACHING):
            await asyncio.gather(*(device.attach() for device in devices[begin : begin + _ATTACHING]))
        print(READY, flush=True)
        start_s = float(await asyncio.to_thread(sys.stdin.readline))
        window = Window(start_s, order["warm_up_s"], order["seconds"])
        runs = [
            asyncio.ensure_future(
                device.run(
                    window,
                    order["change_s"],
                    counted,
                    random.Random(stream_seed(seed, "load-device", first + index)),
                )
            )
            for index, device in enumerate(devices)
        ]
        await _until(window.begin_s)
        clock = CpuClock()
        await _until(window.end_s)
        counted.cpu_share = clock.share()
        await asyncio.gather(*runs)
        # Before thousands of connections are closed, which takes a busy machine its time.
        say_counted(counted)
        for task in (edge, *(device.reader for device in devices)):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def _stub(channel: grpc.aio.Channel) -> Any:
    return twin_pb2_grpc.TwinServiceStub(channel)


def _now_s() -> float:
    return time.monotonic()


async def _until(instant_s: float) -> None:
    left_s = instant_s - _now_s()
    if left_s > 0.0:
        await asyncio.sleep(left_s)


if __name__ == "__main__":
    configure_logging("warning")
    allow_many_connections()
    asyncio.run(_main(json.loads(sys.argv[1])))
