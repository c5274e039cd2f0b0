"""The thread that takes frames from a source, until it ends or enough were taken."""

from __future__ import annotations

import threading
from collections.abc import Callable

from device.sources.source import Source, SourceFrame, SourceWatch
from twinsplit.errors import SourceError
from twinsplit.telemetry.logs import EventLog

_log = EventLog("device.source")


class Feeder:
    """Feeds frames to ``take`` from a thread of its own."""

    def __init__(
        self,
        source: Source,
        watch: SourceWatch,
        take: Callable[[SourceFrame], None],
        ended: Callable[[], None],
        now_s: Callable[[], float],
        *,
        duration_s: float | None = None,
        count: int | None = None,
    ) -> None:
        """
        Args:
            take: one frame; runs in the feeding thread.
            ended: the source has ended by itself or enough was taken; called once, from the feeding thread.
            duration_s: take frames generated within so many seconds of the start.
            count: take so many frames.
        """
        self._source = source
        self._watch = watch
        self._take = take
        self._ended = ended
        self._now_s = now_s
        self._duration_s = duration_s
        self._count = count
        self.failure: Exception | None = None
        """What ended the source before its time."""
        self._thread = threading.Thread(target=self._run, name="device-source", daemon=True)

    def start(self) -> None:
        """Start taking frames."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Take no more; a source that hangs in a driver is left behind."""
        self._watch.stop()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._feed()
        except SourceError as error:
            self.failure = error
            _log.error("source-ended", error=str(error))
        except Exception as error:  # noqa: BLE001 - a defect of a source must end the run in order, not the process
            self.failure = error
            _log.exception("source-failed", error)
        else:
            _log.info("source-ended", frames=self._watch.frames)
        self._ended()

    def _feed(self) -> None:
        began_s = self._now_s()
        for taken, frame in enumerate(self._source.frames(self._watch), start=1):
            if self._duration_s is not None and frame.arrived_at_s - began_s > self._duration_s:
                return
            self._take(frame)
            if taken == self._count or self._watch.is_stopping:
                return
