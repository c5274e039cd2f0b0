"""One device of a run: its process, its frames and arrivals, and what its sink writes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from benchmarks.books import BooksError, Entry, entry_of_line
from benchmarks.scenario import Scenario
from benchmarks.testbed.commands import SINK_NAME, Ports, device_arguments
from benchmarks.testbed.emulated import lead_s
from benchmarks.testbed.follow import LineFollower
from benchmarks.testbed.frames import frame_names, prepare_frames
from benchmarks.testbed.process import ServiceEndedError, ServiceProcess, sample, total
from benchmarks.testbed.speeds import Speeds

LOOK_EVERY_S = 0.1
_SOURCE_STARTED = "device-running"


class DeviceRun:
    """A device's process within a run.

    Args:
        index: position among the scenario's devices.
        order: names of the frames that it is shown, one per arrival.
        first_task: tasks of devices before it; its own are numbered behind them.
        folder: of the run; all but the first device have a folder of their own in it.

    Raises:
        SourceError: a frame cannot be read.
    """

    def __init__(
        self,
        index: int,
        scenario: Scenario,
        speeds: Speeds,
        ports: Ports,
        arrivals_s: Sequence[float],
        order: Sequence[str],
        first_task: int,
        folder: Path,
        profile: Path,
    ) -> None:
        self.name = "device" if index == 0 else f"device-{index + 1}"
        own = folder if index == 0 else folder / self.name
        own.mkdir(exist_ok=True)
        frames = prepare_frames(scenario.frames_folder, order, arrivals_s, lead_s(scenario), speeds.manifest, own)
        self.expected = frames.count
        """Tasks that will have entered at the end."""
        self.booked = 0
        """Tasks that have ended."""
        arguments = device_arguments(scenario, speeds, ports, frames, profile, own, index)
        self.service = ServiceProcess(self.name, arguments, folder, ports.device_http[index])
        self._scenario, self._manifest = scenario, speeds.manifest
        self._labels = frames.labels
        self._first_task = first_task
        self._lines = LineFollower(own / SINK_NAME)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What its sink has written so far, task ids as the device has them."""
        return self._lines.objects

    def new_entries(self) -> Iterator[Entry]:
        """Tasks that have ended since the last call, numbered within the run.

        Raises:
            BooksError: a line that cannot be booked.
        """
        for line in self._lines.new_objects():
            entry = entry_of_line(line, self._manifest, self._scenario.weights, self._labels)
            self.booked += 1
            yield replace(entry, task_id=self._first_task + entry.task_id)

    def source_started_at_s(self, timeout_s: float) -> float | None:
        """Instant at which its source began to count, on the monotonic clock, from its log; ``None``: not in time.

        Raises:
            ServiceEndedError: it has ended.
        """
        follower = LineFollower(self.service.log_path)
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            for line in follower.new_objects():
                if line.get("event") == _SOURCE_STARTED:
                    wrote_at_s = datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp()
                    return time.monotonic() - (time.time() - wrote_at_s)
            self.service.check()
            time.sleep(LOOK_EVERY_S)
        return None

    def unready_reason(self) -> str | None:
        """What it still lacks to obey plans; ``None``: nothing."""
        metrics = self.service.metrics()
        if sample(metrics, "twinsplit_uplink_round_trip_seconds") is None:
            return f"{self.name} is not connected to the edge"
        if sample(metrics, "twinsplit_degraded") != 0.0:
            return f"{self.name} has no plan"
        return None

    def check_counters(self) -> None:
        """See that its own counters say what its lines say.

        Raises:
            ServiceEndedError: it does not answer any more.
            BooksError: they differ.
        """
        samples = self.service.metrics()
        if samples is None:
            raise ServiceEndedError(f"{self.name} does not answer any more: its counters cannot be compared")
        entered, ended = total(samples, "twinsplit_tasks_entered_total"), total(samples, "twinsplit_tasks_total")
        if not entered == ended == self.booked:
            raise BooksError(
                f"{self.name} counts {entered:g} tasks that entered and {ended:g} that ended, its sink has "
                f"{self.booked} lines"
            )


def device_runs(scenario: Scenario, speeds: Speeds, ports: Ports, folder: Path, profile: Path) -> list[DeviceRun]:
    """All devices of ``scenario``, not started.

    Raises:
        SourceError: a frame cannot be read.
    """
    arrivals = [arrivals_of(scenario, index) for index in range(scenario.devices)]
    names = frame_names(scenario.frames_folder, speeds.manifest)
    order = scenario.frame_order(names, sum(map(len, arrivals)))
    found: list[DeviceRun] = []
    first = 0
    for index, instants in enumerate(arrivals):
        shown = order[first : first + len(instants)]
        found.append(DeviceRun(index, scenario, speeds, ports, instants, shown, first, folder, profile))
        first += len(instants)
    return found


def arrivals_of(scenario: Scenario, index: int) -> list[float]:
    """Arrival instants at one device; at least one."""
    if index == 0:
        return scenario.arrivals_s()
    within = takewhile(lambda instant: instant <= scenario.seconds, scenario.endless_arrivals_s(index))
    return list(within) or [scenario.seconds]
