"""What the operating system says of this process."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator, Mapping

import psutil

from twinsplit import __version__


class ProcessReading:
    """Samples of this process. What the system does not tell gives no sample."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._process = psutil.Process()

    def samples(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """Read now."""
        info = {"service": self._service, "version": __version__, "python": platform.python_version()}
        yield "twinsplit_build_info", info, 1.0
        process = self._process
        readings: dict[str, Callable[[], float]] = {
            "twinsplit_process_cpu_seconds_total": lambda: sum(process.cpu_times()[:2]),
            "twinsplit_process_resident_memory_bytes": lambda: process.memory_info().rss,
            "twinsplit_process_threads": process.num_threads,
            "twinsplit_process_start_time_seconds": process.create_time,
            "twinsplit_process_open_files": process.num_fds,
        }
        for name, reading in readings.items():
            with contextlib.suppress(psutil.Error):
                yield name, {}, float(reading())
