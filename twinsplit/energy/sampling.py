"""The thread that looks at a meter: no event loop and no task ever waits for one."""

from __future__ import annotations

from collections.abc import Callable

from twinsplit.clock import Clock
from twinsplit.energy.meter import Meter, MeterReading
from twinsplit.telemetry.logs import EventLog
from twinsplit.ticker import Ticker

_log = EventLog("energy")


class Sampler:
    """Looks at a meter at its interval and hands on what it says. A meter that fails is unknown until it is back."""

    def __init__(
        self,
        meter: Meter,
        take: Callable[[float, MeterReading | None], None],
        clock: Clock,
        interval_s: float | None = None,
    ) -> None:
        """
        Args:
            take: told the instant of every look and what it gave, in the sampler's thread.
            interval_s: ``None``: the meter's own.
        """
        self.meter = meter
        self.interval_s = meter.interval_s if interval_s is None else interval_s
        self._take = take
        self._now_s = clock.monotonic_s
        self._is_lost = False
        self._ticker = Ticker("energy-meter", self.interval_s, self.look)

    def start(self) -> None:
        """Look from now on."""
        self._ticker.start()

    def close(self) -> None:
        """Look no more; a look that hangs is left to itself."""
        self._ticker.close()
        self.meter.close()

    def look(self) -> None:
        """Look once."""
        began_s = self._now_s()
        reading, cause = None, "it tells nothing"
        try:
            reading = self.meter.read()
        except Exception as error:  # noqa: BLE001 - a meter may be anybody's plug-in, and the next look may succeed
            cause = f"{type(error).__name__}: {error}"
        # A slow meter's number belongs to the middle of the look.
        self._take(0.5 * (began_s + self._now_s()), reading)
        self._tell(is_lost=reading is None, cause=cause)

    def _tell(self, *, is_lost: bool, cause: str) -> None:
        if is_lost == self._is_lost:
            return
        self._is_lost = is_lost
        if is_lost:
            _log.warning("energy-meter-lost", source=self.meter.source, cause=cause)
        else:
            _log.info("energy-meter-back", source=self.meter.source)
