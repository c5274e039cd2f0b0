"""One point of load: generators as processes, a window in which is counted, and what the loaded service did in it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.testbed.process import ServiceEndedError, ServiceProcess

READY = "ready"
START_TIMEOUT_S = 120.0
START_AFTER_S = 0.5
"""From the last generator's readiness to the first arrival."""
LAST_ANSWERS_S = 5.0
"""What has no end so long after the window is counted as lost."""
END_TIMEOUT_S = LAST_ANSWERS_S + 30.0
BUSY_GENERATOR = 0.85
"""Share of one core from which a generator, which is one thread, may be what limits a point."""
BUSY_SERVICE = 0.9
BUSY_MACHINE = 0.97
_LOOK_EVERY_S = 0.05

Say = Callable[[str], None]
"""Told every point as it is done."""


@dataclass(frozen=True, slots=True)
class Window:
    """Instants on the monotonic clock, which all processes of a machine share."""

    start_s: float
    """First arrival."""
    warm_up_s: float
    seconds: float

    @property
    def begin_s(self) -> float:
        """From here on is counted."""
        return self.start_s + self.warm_up_s

    @property
    def end_s(self) -> float:
        return self.begin_s + self.seconds

    def has(self, instant_s: float) -> bool:
        return self.begin_s <= instant_s < self.end_s


@dataclass(slots=True)
class Counted:
    """What one generator counted in the window."""

    offered: int = 0
    """Arrivals due in the window; each has one end."""
    ended: Counter[str] = field(default_factory=Counter)
    """Of these, by end: ``answered``, ``late`` (answered after its deadline), ``unsent``, ``lost``, or the error code
    of the refusal."""
    answers: int = 0
    """Answers received within the window, whenever they were asked for."""
    latencies_s: list[float] = field(default_factory=list)
    """Arrival to answer of all that were answered."""
    lags_s: list[float] = field(default_factory=list)
    """How much later than it was due each arrival was sent."""
    cpu_share: float = 0.0
    """Of one core, taken by this generator in the window."""
    messages: int = 0
    """Messages of signalling within the window, in either direction; 0: not counted."""


@dataclass(frozen=True, slots=True)
class ServiceUse:
    """What the loaded service and the machine did in the window."""

    cpu_cores: float
    """Processor time over time."""
    memory_mb: float
    """Resident at the end."""
    machine_share: float
    """Of all cores, by whatever runs on the machine."""
    before: Mapping[Any, float]
    after: Mapping[Any, float]
    """Its metrics at both ends."""


@contextmanager
def generators(orders: Sequence[Mapping[str, Any]], module: str, folder: Path) -> Iterator[list[ServiceProcess]]:
    """Processes that are ready to begin; they are stopped at the end, whatever happens."""
    processes = [
        ServiceProcess(f"generator-{time.monotonic_ns()}-{index}", ["-m", module, json.dumps(order)], folder)
        for index, order in enumerate(orders)
    ]
    try:
        for process in processes:
            process.start()
        _await_lines(processes, 1, START_TIMEOUT_S)
        yield processes
    finally:
        for process in processes:
            process.kill()


def run_window(
    processes: Sequence[ServiceProcess], service: ServiceProcess, warm_up_s: float, seconds: float
) -> tuple[list[Counted], ServiceUse]:
    """Let all begin at one instant and gather what they counted."""
    window = Window(time.monotonic() + START_AFTER_S, warm_up_s, seconds)
    for process in processes:
        process.tell(str(window.start_s))
    use = _watched(service, window)
    _await_lines(processes, 2, END_TIMEOUT_S)
    counted = []
    for process in processes:
        document = json.loads(process.output_path.read_text().splitlines()[1])
        counted.append(Counted(**document | {"ended": Counter(document["ended"])}))
    return counted, use


def summary(counted: Sequence[Counted], use: ServiceUse, seconds: float) -> dict[str, Any]:
    """One point for the result, apart from what only its kind of load knows."""
    ended: Counter[str] = sum((each.ended for each in counted), Counter())
    latencies = [latency for each in counted for latency in each.latencies_s]
    lags = [lag for each in counted for lag in each.lags_s]
    offered = sum(each.offered for each in counted)
    return {
        "offered": offered,
        "offered_per_s": offered / seconds,
        "ended": dict(sorted(ended.items())),
        "adds_up": offered == sum(ended.values()),
        "answers_per_s": sum(each.answers for each in counted) / seconds,
        "in_time_per_s": ended["answered"] / seconds,
        "latency_s": quantiles(latencies),
        "messages_per_s": sum(each.messages for each in counted) / seconds,
        "lag_p99_s": quantile(lags, 0.99),
        "generators": [round(each.cpu_share, 3) for each in counted],
        "service_cpu_cores": round(use.cpu_cores, 3),
        "service_memory_mb": round(use.memory_mb, 1),
        "machine_share": round(use.machine_share, 3),
    }


def limits(point: Mapping[str, Any], service: str, service_busy: float, largest_lag_s: float) -> list[str]:
    """What was at its limit in a point; where ``generator`` is among it, the service may hold more."""
    is_late = (point["lag_p99_s"] or 0.0) > largest_lag_s
    found = {
        "generator": max(point["generators"]) >= BUSY_GENERATOR or is_late,
        service: service_busy >= BUSY_SERVICE,
        "machine": point["machine_share"] >= BUSY_MACHINE,
    }
    return [name for name, is_limit in found.items() if is_limit]


def quantile(values: Sequence[float], share: float) -> float | None:
    """``None``: there are no values."""
    return float(np.quantile(values, share)) if values else None


def quantiles(values: Sequence[float]) -> dict[str, float | None]:
    """The ones that are shown."""
    return {name: quantile(values, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}


def shares(total: int, parts: int) -> list[int]:
    """``total`` devices spread over at most ``parts`` processes."""
    parts = min(total, parts)
    return [total // parts + (index < total % parts) for index in range(parts)]


def say_counted(counted: Counted) -> None:
    """A generator's last line."""
    document = {each.name: getattr(counted, each.name) for each in fields(counted)}
    print(json.dumps(document), flush=True)


class CpuClock:
    """A generator's processor time in the window."""

    def __init__(self) -> None:
        self._used_s = time.process_time()
        self._at_s = time.monotonic()

    def share(self) -> float:
        """Of one core, since this was made."""
        return (time.process_time() - self._used_s) / max(1e-9, time.monotonic() - self._at_s)


def _watched(service: ServiceProcess, window: Window) -> ServiceUse:
    process = psutil.Process(service.pid)
    _sleep_until(window.begin_s)
    before, used_s, at_s = service.metrics() or {}, _cpu_s(process), time.monotonic()
    psutil.cpu_percent()
    _sleep_until(window.end_s)
    machine_share = psutil.cpu_percent() / 100.0
    cpu_cores = (_cpu_s(process) - used_s) / (time.monotonic() - at_s)
    memory_mb = process.memory_info().rss / 1e6
    return ServiceUse(cpu_cores, memory_mb, machine_share, before, service.metrics() or {})


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _sleep_until(instant_s: float) -> None:
    time.sleep(max(0.0, instant_s - time.monotonic()))


def _await_lines(processes: Iterable[ServiceProcess], count: int, timeout_s: float) -> None:
    """Return when every process has written so many lines."""
    deadline_s = time.monotonic() + timeout_s
    for process in processes:
        while process.output_path.read_text().count("\n") < count:
            has_ended = not process.is_running
            if has_ended and process.output_path.read_text().count("\n") >= count:
                break
            if has_ended or time.monotonic() > deadline_s:
                raise ServiceEndedError(f"{process.name} has not said what it should: {process.last_lines()}")
            time.sleep(_LOOK_EVERY_S)
