"""Whether a back end takes tails: asked again and again, and at once after it has failed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import grpc.aio

from edge.engine.back_end import BackEnd
from twinsplit.telemetry.logs import EventLog
from twinsplit.transport.back_off import reconnect_delay_s

_log = EventLog("edge.engine")

PERIOD_S = 1.0
MISSING_LOG_S = 60.0


class Probe:
    """Keeps the readiness of one back end.

    Args:
        place: Position of the back end in the setting.
        back_end: Who is asked.
        models: Name and version of everything that it must take.
        measure: Awaited when it is ready for the first time, before it gets a tail.
    """

    def __init__(
        self,
        place: int,
        back_end: BackEnd,
        models: Sequence[tuple[str, str]],
        measure: Callable[[], Awaitable[None]],
    ) -> None:
        self.place = place
        self.back_end = back_end
        self._models = models
        self._measure = measure
        self._is_measured = False
        self._is_asked = asyncio.Event()
        self._rng = random.Random()

    def ask_now(self) -> None:
        """Ask without waiting for the next time."""
        self._is_asked.set()

    async def run(self, note: Callable[[int, bool], None]) -> None:
        """Ask until cancelled, and tell ``note`` (place, whether it is ready) every time."""
        failures = 0
        was_ready = False
        while True:
            is_ready = await self.is_ready()
            if is_ready is not was_ready:
                write = _log.info if is_ready else _log.warning
                write("back-end-ready" if is_ready else "back-end-lost", address=self.back_end.address)
                was_ready = is_ready
            note(self.place, is_ready)
            failures = 0 if is_ready else failures + 1
            delay_s = PERIOD_S if is_ready else reconnect_delay_s(failures - 1, self._rng)
            # Not asyncio.wait_for: before Python 3.12 it may swallow a cancellation that meets the event.
            timer = asyncio.get_running_loop().call_later(delay_s, self._is_asked.set)
            try:
                await self._is_asked.wait()
            finally:
                timer.cancel()
            self._is_asked.clear()

    async def is_ready(self) -> bool:
        """Ask once."""
        try:
            is_ready = await self.back_end.is_ready(self._models)
            if is_ready and not self._is_measured:
                await self._measure()
                self._is_measured = True
        except grpc.aio.AioRpcError as failure:
            cause = f"{failure.code().name}: {failure.details()}"
        except Exception as failure:  # noqa: BLE001 - whatever a server does, the others must go on
            cause = str(failure)
        else:
            return is_ready
        address = self.back_end.address
        _log.warning("back-end-missing", limit_s=MISSING_LOG_S, limit_key=address, address=address, cause=cause)
        return False
