"""What the operating system says of this process."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping

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
        try:
            with process.oneshot():
                times = process.cpu_times()
                found = {
                    "twinsplit_process_cpu_seconds_total": times.user + times.system,
                    "twinsplit_process_resident_memory_bytes": float(process.memory_info().rss),
                    "twinsplit_process_threads": float(process.num_threads()),
                    "twinsplit_process_start_time_seconds": process.create_time(),
                    "twinsplit_process_open_files": float(process.num_fds()),
                }
        except psutil.Error:
            return
        for name, value in found.items():
            yield name, {}, value
