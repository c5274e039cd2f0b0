"""``make soak``: three devices, two edges and a twin under random faults; nothing lost, nothing doubled, memory flat.

    python -m tests.faults.soak [--minutes 30] [--seed 1] [--json FILE] [--keep FOLDER]

Tasks come to every device by a Poisson process, whether those before are answered or not; faults come by another.
Kills and restarts hit one edge and one device: the growth of a process is judged on a life that lasts for at least half
of the run, from its first quarter on; tasks before it fill what the services keep: the twin's evaluations, and the
memory of a full queue, which a device does not give back.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.provenance import provenance
from benchmarks.testbed.process import ServiceProcess
from benchmarks.testbed.stopping import Stopping
from tests.faults.catalogue import Fault, has_not_fired
from tests.faults.flatness import GROWTH_SHARE, Growth, Sample, growth_of, piled_up, sampled
from tests.faults.injection import SLOW_BYTES_PER_S, resumed_at_the_end
from tests.faults.link import SWALLOWED, Link
from tests.faults.stage import Device, Stage
from twinsplit.transport.limits import KEEPALIVE_TIME_S, KEEPALIVE_TIMEOUT_S

DEVICES, EDGES = 3, 2
TASKS_PER_S = 2.0
"""At each device."""
FAULT_EVERY_S = 3.0
"""Mean pause between the end of a fault and the next."""
FAULT_LENGTH_S = (0.3, 3.0)
WARM_UP_TASKS = 300
"""At each device, one after the other, before the run begins."""
WARM_UP_BURSTS = (128, 128, 128)
"""Then so many at once, twice what may wait: a queue that faults fill for the first time would look like growth."""
WARM_UP_SHARE = 0.25
SAMPLE_EVERY_S = 0.5
DRAIN_S = 30.0
SETTLING_S = KEEPALIVE_TIME_S + KEEPALIVE_TIMEOUT_S + 10.0
"""Until the last half-open connection has been found out by both its ends."""
LINK_FAULTS = (Fault.BLACK_HOLED, Fault.SLOW, Fault.FLAPPING, Fault.RESET, Fault.HALF_OPEN)


@dataclass(frozen=True, slots=True)
class SoakResult:
    """What a soak has shown."""

    seconds: float
    submitted: int
    outcomes: dict[str, int]
    broken: int
    """Tasks whose outcome was the kill of the one device that is killed and restarted."""
    untaken: int
    """Tasks submitted to it while it was not there, or at its last moment."""
    faults: dict[str, int]
    """How often each was injected."""
    fired: dict[str, int]
    """How often each has hit: signals that took effect, bytes and connections that suffered."""
    growth: dict[str, Growth]
    problems: tuple[str, ...]


class _Arrivals:
    """A thread that submits frames to one device."""

    def __init__(self, device: Device, frame: bytes, rng: random.Random) -> None:
        self._device, self._frame, self._rng = device, frame, rng
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"arrivals-{device.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(self._rng.expovariate(TASKS_PER_S)):
            self._device.program.submit(self._frame)


class Soak:
    """One run on a stage that is whole."""

    def __init__(self, stage: Stage, seconds: float, seed: int) -> None:
        self.stage = stage
        self.seconds = seconds
        self.samples: defaultdict[str, list[Sample]] = defaultdict(list)
        self.faults: Counter[str] = Counter()
        self.fired: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._broken = 0
        self._problems: list[str] = []
        self._at_rest: dict[str, Sample] = {}
        self._began_s = 0.0
        self._mortal_device = stage.devices[-1]

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def run(self, look: Callable[[str], None]) -> SoakResult:
        """Until the time is over and everything has drained; ``look`` is told each fault."""
        for count in (*[1] * WARM_UP_TASKS, *WARM_UP_BURSTS):
            devices = self.stage.devices * count
            for submission in [device.program.submit(self.stage.frame) for device in devices]:
                submission.over.wait(DRAIN_S)
        self._at_rest = self._rested()
        self._began_s = time.monotonic()
        arrivals = [
            _Arrivals(device, self.stage.frame, random.Random(self._rng.random())) for device in self.stage.devices
        ]
        with resumed_at_the_end(self.stage):
            try:
                while self.elapsed_s < self.seconds:
                    self._rest(min(self._rng.expovariate(1.0 / FAULT_EVERY_S), self.seconds - self.elapsed_s))
                    if self.elapsed_s < self.seconds:
                        look(self._fault())
            finally:
                for arrival in arrivals:
                    arrival.stop()
        for link in self.stage.links:
            link.mend()
        return self._result()

    def _rest(self, seconds: float) -> None:
        """Wait and watch."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            for process in self.stage.processes:
                process.check()
                sample = None if process.pid is None else sampled(process.pid, self.elapsed_s)
                if sample is not None and self.elapsed_s >= WARM_UP_SHARE * self.seconds:
                    self.samples[process.name].append(sample)
            time.sleep(SAMPLE_EVERY_S)

    def _fault(self) -> str:
        """One fault from its beginning to its end; what it was."""
        length_s = self._rng.uniform(*FAULT_LENGTH_S)
        kind = self._rng.choice((Fault.KILLED, Fault.RESTARTED, Fault.STOPPED, *LINK_FAULTS))
        self.faults[kind.value] += 1
        if kind in LINK_FAULTS:
            link = self._rng.choice(self.stage.links)
            self._hit_link(kind, link, length_s)
            return f"{kind.value} {link.name} {length_s:.1f} s"
        process = self._victim(kind)
        if kind is Fault.STOPPED:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGSTOP)
            self._rest(length_s)
            os.kill(process.pid, signal.SIGCONT)
            self.fired[kind.value] += 1
        else:
            self._end_life(kind, process, length_s)
        return f"{kind.value} {process.name} {length_s:.1f} s"

    def _end_life(self, kind: Fault, process: ServiceProcess, length_s: float) -> None:
        """Kill or restart ``process``."""
        device = self._mortal_device
        open_tasks = [submission for submission in device.program.submissions if not submission.over.is_set()]
        if kind is Fault.KILLED:
            process.kill()
        self.fired[kind.value] += process.stop() == (-signal.SIGKILL if kind is Fault.KILLED else 0)
        if process is device.process:
            if kind is Fault.KILLED:
                self._broken += sum(task.over.wait(DRAIN_S) and task.has_broken for task in open_tasks)
            else:
                self._problems += device.unfinished_business()
            device.new_life()
        self._rest(length_s if kind is Fault.KILLED else 0.0)
        process.start()
        process.wait_until_ready()

    def _victim(self, kind: Fault) -> ServiceProcess:
        if kind is Fault.STOPPED:
            return self._rng.choice(self.stage.processes)
        return self._rng.choice([self.stage.edges[-1], self._mortal_device.process])

    def _hit_link(self, kind: Fault, link: Link, length_s: float) -> None:
        before = link.fired.copy()
        if kind is Fault.BLACK_HOLED:
            link.hold()
        elif kind is Fault.SLOW:
            link.slow(SLOW_BYTES_PER_S)
        elif kind is Fault.FLAPPING:
            link.flap()
        elif kind is Fault.RESET:
            link.reset()
        else:
            link.leave_half_open()
        self._rest(length_s)
        link.mend()
        hits = link.fired - before
        # What half-open connections swallow goes on after the fault; it is counted at the end.
        del hits[SWALLOWED]
        self.fired[kind.value] += hits.total()

    def _result(self) -> SoakResult:
        problems = self._problems
        submissions = [(device, s) for device in self.stage.devices for s in device.program.submissions]
        deadline_s = time.monotonic() + DRAIN_S
        for device, submission in submissions:
            submission.over.wait(max(0.0, deadline_s - time.monotonic()))
            ends = len(submission.answers) + submission.has_broken
            if ends != 1 or (submission.has_broken and device is not self._mortal_device):
                problems.append(f"{device.name}: task {submission.request_id} ended {ends} times")
        for device in self.stage.devices:
            problems += device.settled()
        try:
            self.stage.await_whole()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what went wrong
            problems.append(str(error))
        self.fired[Fault.HALF_OPEN.value] += sum(link.fired[SWALLOWED] for link in self.stage.links)
        problems += [has_not_fired(Fault(kind)) for kind in self.faults if not self.fired[kind]]
        growth = self._growth()
        problems += [f"{name}: {problem}" for name, found in growth.items() for problem in found.problems]
        problems += self._piled_up()
        if not growth:
            problems.append("no process lived long enough for its growth to be judged")
        return SoakResult(
            seconds=self.elapsed_s,
            submitted=len(submissions),
            outcomes=dict(Counter(s.answers[0]["outcome"] for _, s in submissions if s.answers)),
            broken=self._broken,
            untaken=sum(s.has_broken for _, s in submissions) - self._broken,
            faults=dict(self.faults),
            fired=dict(self.fired),
            growth=growth,
            problems=tuple(problems),
        )

    def _rested(self) -> dict[str, Sample]:
        found = {process.name: sampled(process.pid or 0, self.elapsed_s) for process in self.stage.processes}
        return {name: sample for name, sample in found.items() if sample is not None}

    def _piled_up(self) -> list[str]:
        """What processes that lived through hold more of than before, once half-open connections have been found."""
        deadline_s = time.monotonic() + SETTLING_S
        while True:
            now = self._rested()
            lived = [name for name, before in self._at_rest.items() if name in now and now[name].pid == before.pid]
            found = [f"{name}: {more}" for name in lived for more in piled_up(self._at_rest[name], now[name])]
            if not found or time.monotonic() > deadline_s:
                return found
            time.sleep(SAMPLE_EVERY_S)

    def _growth(self) -> dict[str, Growth]:
        """Of every process that lived for half of the run."""
        found = {}
        for name, samples in self.samples.items():
            life = [sample for sample in samples if sample.pid == samples[-1].pid]
            growth = growth_of(life)
            if growth is not None and life[-1].at_s - life[0].at_s >= 0.5 * self.seconds:
                found[name] = growth
        return found


def soak(folder: Path, seconds: float, seed: int, look: Callable[[str], None]) -> SoakResult:
    """Run one in ``folder``."""
    with Stage(folder, devices=DEVICES, edges=EDGES) as stage:
        return Soak(stage, seconds, seed).run(look)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where something was lost, doubled or grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--keep", type=Path, help="keep logs and task records there")
    options = parser.parse_args(arguments)
    stopping = Stopping()
    stopping.install()
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twinsplit-soak-")))
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{DEVICES} devices, {EDGES} edges, {options.minutes:g} minutes, seed {options.seed}", flush=True)
        began_s = time.monotonic()
        result = soak(
            folder,
            60.0 * options.minutes,
            options.seed,
            lambda fault: print(f"{time.monotonic() - began_s:6.0f} s  {fault}", flush=True),
        )
    stopping.remove()
    _show(result)
    if options.json is not None:
        document: dict[str, Any] = {"provenance": provenance(seeds=[options.seed]), **asdict(result)}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return int(bool(result.problems))


def _show(result: SoakResult) -> None:
    for name, growth in result.growth.items():
        print(
            f"{name}: {growth.mean_mb:.1f} MB, {growth.slope_mb_per_min:+.3f} MB a minute (at least "
            f"{growth.slope_low_mb_per_min:+.3f})"
        )
    print(f"{sum(result.faults.values())} faults: {result.faults}; hits: {result.fired}")
    print(
        f"{result.submitted} tasks: {result.outcomes}, {result.broken} broken off by kills, {result.untaken} not taken"
    )
    for problem in result.problems:
        print(f"FAILED: {problem}")
    whole = f"nothing lost, nothing doubled, memory flat within {GROWTH_SHARE:.0%}"
    print("FAILED" if result.problems else whole)


if __name__ == "__main__":
    sys.exit(main())
