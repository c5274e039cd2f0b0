"""Some devices of one edge, as a process: ``python -m benchmarks.load.edge_devices ORDER`` (started by the load test).

Every device has a connection and a stream of its own, as in the field. Prints ``ready`` when all are connected, waits
on standard input for the instant at which to begin, and prints what it counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import grpc.aio

from benchmarks.load.window import LAST_ANSWERS_S, READY, START_TIMEOUT_S, Counted, CpuClock, Window, say_counted
from benchmarks.streams import stream_seed
from edge.load import LoadTails
from edge.load_payloads import load_tails
from twinsplit.telemetry.logs import configure_logging
from twinsplit.transport.channel import await_reachable, open_channel
from twinsplit.transport.status import code_of
from twinsplit.transport.tail_stream import InferRequest, InferResponse, infer_call

MODULE = "benchmarks.load.edge_devices"
PAUSE_AFTER_REFUSAL_S = 0.05


class TailDevice:
    """One device: a connection, a stream, and the tails that it waits for."""

    def __init__(
        self, name: str, channel: grpc.aio.Channel, tails: LoadTails, deadline_s: float | None, counted: Counted
    ) -> None:
        self._tails = tails
        self._deadline_s = deadline_s
        self._counted = counted
        self._call = infer_call(channel, device_id=name)
        self._payloads = itertools.cycle(tails.payloads)
        self._ids = itertools.count(1)
        self._due_s: dict[int, float] = {}
        self._slots = asyncio.Semaphore(0)
        self._has_ended = asyncio.Event()
        self._window: Window

    async def run(self, window: Window, rate_per_s: float | None, in_flight: int, draw: random.Random) -> None:
        """Send until the window is over, then wait for what is still open.

        Args:
            rate_per_s: Of independent arrivals; ``None``: ``in_flight`` tails are always under way.
        """
        self._window = window
        reader = asyncio.ensure_future(self._read())
        try:
            await _until(window.start_s)
            if rate_per_s is None:
                await self._keep_busy(in_flight)
            else:
                due_s = window.start_s
                while (due_s := due_s + draw.expovariate(rate_per_s)) < window.end_s:
                    await _until(due_s)
                    await self._send(due_s)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._all_ended(), max(0.0, window.end_s - _now_s()) + LAST_ANSWERS_S)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            self._call.cancel()
            for due_s in self._due_s.values():
                self._end(due_s, "lost")

    async def _keep_busy(self, in_flight: int) -> None:
        for _ in range(in_flight):
            self._slots.release()
        while _now_s() < self._window.end_s:
            try:
                await asyncio.wait_for(self._slots.acquire(), max(0.001, self._window.end_s - _now_s()))
            except asyncio.TimeoutError:
                return
            await self._send(_now_s())

    async def _send(self, due_s: float) -> None:
        now_s = _now_s()
        if self._window.has(due_s):
            self._counted.offered += 1
            self._counted.lags_s.append(now_s - due_s)
        left_s = None if self._deadline_s is None else self._deadline_s - (now_s - due_s)
        if left_s is not None and left_s <= 0.0:
            self._end(due_s, "unsent")
            return
        request_id = next(self._ids)
        self._due_s[request_id] = due_s
        request = InferRequest(
            request_id, self._tails.model_digest, self._tails.cut, left_s, False, next(self._payloads)
        )
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(request)

    async def _read(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while isinstance(answer := await self._call.read(), InferResponse):
                self._note(answer)

    def _note(self, answer: InferResponse) -> None:
        now_s = _now_s()
        due_s = self._due_s.pop(answer.request_id, None)
        if due_s is None:
            return
        problem = answer.error or answer.problem
        if problem is not None:
            self._end(due_s, code_of(problem).value)
            # Whoever is refused and asks again at once is no device but an attack.
            asyncio.get_running_loop().call_later(PAUSE_AFTER_REFUSAL_S, self._slots.release)
            return
        latency_s = now_s - due_s
        is_late = self._deadline_s is not None and latency_s > self._deadline_s
        if self._window.has(now_s):
            self._counted.answers += 1
        if self._window.has(due_s):
            self._counted.latencies_s.append(round(latency_s, 6))
        self._end(due_s, "late" if is_late else "answered")
        self._slots.release()

    def _end(self, due_s: float, end: str) -> None:
        self._has_ended.set()
        if self._window.has(due_s):
            self._counted.ended[end] += 1

    async def _all_ended(self) -> None:
        while self._due_s:
            self._has_ended.clear()
            await self._has_ended.wait()


async def _main(order: dict[str, Any]) -> Counted:
    address, first = str(order["address"]), int(order["first"])
    tails = load_tails(Path(order["model"]), cut=order["cut"], seed=order["seed"])
    counted = Counted()
    async with contextlib.AsyncExitStack() as stack:
        devices = []
        for number in range(first, first + order["devices"]):
            channel = await stack.enter_async_context(open_channel(address, max_message_bytes=tails.max_message_bytes))
            await await_reachable(channel, address, timeout_s=START_TIMEOUT_S)
            devices.append(TailDevice(f"load-{number}", channel, tails, order["deadline_s"], counted))
        print(READY, flush=True)
        start_s = float(await asyncio.to_thread(sys.stdin.readline))
        window = Window(start_s, order["warm_up_s"], order["seconds"])
        runs = [
            asyncio.ensure_future(
                device.run(
                    window,
                    order["rate_per_device_s"],
                    order["in_flight"],
                    random.Random(stream_seed(order["seed"], "load-device", first + index)),
                )
            )
            for index, device in enumerate(devices)
        ]
        await _until(window.begin_s)
        clock = CpuClock()
        await _until(window.end_s)
        counted.cpu_share = clock.share()
        await asyncio.gather(*runs)
    return counted


def _now_s() -> float:
    return time.monotonic()


async def _until(instant_s: float) -> None:
    left_s = instant_s - _now_s()
    if left_s > 0.0:
        await asyncio.sleep(left_s)


if __name__ == "__main__":
    configure_logging("warning")
    say_counted(asyncio.run(_main(json.loads(sys.argv[1]))))
