"""The world of one run: devices, edges, uplinks, one heap of events. Deterministic per seed; nothing waits, no asyncio.

With exact state a device decides by its own queue and the edge's own backlog, without any message. Everything random
is drawn ahead of the decisions from a stream per source, so that every rule meets the same world.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.books import Books, entry_of_record, whole_accuracy_of
from benchmarks.scenario import Scenario, changed_scenario
from benchmarks.simulator.deciding import Deciding
from benchmarks.simulator.device import UNBOUNDED, SimulatedDevice
from benchmarks.simulator.edge import SimulatedEdge, Work
from benchmarks.simulator.exact_plans import ExactPlans, SilentReporter
from benchmarks.simulator.link import Link
from benchmarks.simulator.load import LoadJobs
from benchmarks.simulator.result import SimulatedRun
from benchmarks.simulator.samples import TaskSamples, samples_of
from benchmarks.simulator.shown_evidence import shown_bins
from benchmarks.simulator.situations import SituationGrid
from benchmarks.simulator.speeds import speeds_of
from device.plan_keeping import PlanKeeper
from device.reporting import Reporter
from device.reports import Report
from device.task import AskTwin
from edge.tail_queue import Tail
from twinsplit.errors import SettingsError
from twinsplit.model.manifest import Manifest, manifest_digest, read_manifest
from twinsplit.types import TaskRecord


class Listener:
    """Is told what happens in a world; subclass what is of interest."""

    def task_ended(self, device: SimulatedDevice, record: TaskRecord) -> None:
        """A task has its outcome now (``device.world.now_s``)."""

    def tail_admitted(self, edge: int, tail: Tail[Work], at_s: float) -> None:
        """A tail entered an edge's queue, a device's or another user's; per edge in the order of time, but not at once:
        other users' jobs are told when somebody next looks at the edge."""

    def tail_started(self, edge: int, tail: Tail[Work], at_s: float) -> None:
        """A tail entered service; told as late."""


class World:
    """One run. What a clairvoyant may see is public: ``device.samples`` (arrivals to come, what exits would show),
    ``edge.jobs`` (other users' jobs to come), ``device.link`` (rates to come)."""

    def __init__(
        self, scenario: Scenario, seed: int, deciding: Deciding, *, listeners: Sequence[Listener] = ()
    ) -> None:
        """
        Args:
            seed: takes the place of the scenario's own.
            deciding: is told what happens, too, if it is a :class:`Listener`.

        Raises:
            SettingsError: the scenario leaves open what a simulation needs, or asks for what it has not.
            ManifestError: its model cannot be read.
        """
        self.scenario = scenario = changed_scenario(scenario, seed=seed)
        self.deciding = deciding
        self.manifest, self.model_digest = model_of(scenario.model)
        self.now_s = 0.0
        self._listeners = (*listeners, deciding) if isinstance(deciding, Listener) else tuple(listeners)
        self._heap: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._scheduled = 0
        self._books = Books(scenario.weights, whole_accuracy_of(self.manifest))
        samples = self._samples()
        self._numbers = _numbered(samples)
        self._left = self.tasks
        self.edges = [self._edge(index) for index in range(scenario.edges)]
        self._edge_at = {edge.address: edge for edge in self.edges}
        self.devices = self._devices(samples)
        deciding.begin(self)
        for device in self.devices:
            device.equip(*(deciding.equip(device) or self._exact(device)))

    @property
    def tasks(self) -> int:
        """Tasks of all devices that arrive in the run."""
        return sum(len(numbers) for numbers in self._numbers)

    def run(self, *, keeps_entries: bool = False) -> SimulatedRun:
        """Let everything happen until every task has its outcome.

        Args:
            keeps_entries: the result lists every task.

        Raises:
            BooksError: nothing is left after the warm-up, or a task has no outcome.
        """
        began_s = time.process_time()
        heap = self._heap
        while self._left:
            self.now_s, _, act, argument = heapq.heappop(heap)
            act(argument)
        summary = self._books.close(self.tasks - self.scenario.warm_up_tasks)
        messages = self.deciding.messages
        entries = self._books.entries
        answered = [entry.latency_s for entry in entries.values() if entry.outcome.is_answered]
        return SimulatedRun(
            rule=self.deciding.name,
            seed=self.scenario.seed,
            summary=summary,
            costs_s=self._books.costs_s(),
            latency_mean_s=sum(answered) / len(answered) if answered else None,
            messages_per_task=None if messages is None else messages / self.tasks,
            simulated_tasks=self.tasks,
            simulated_s=self.now_s,
            core_s=time.process_time() - began_s,
            entries=tuple(entries[number] for number in sorted(entries)) if keeps_entries else (),
        )

    # What devices ask for.

    def edge_at(self, address: str) -> SimulatedEdge:
        """The edge that is reached there."""
        return self._edge_at[address]

    def schedule(self, at_s: float, act: Callable[[Any], None], argument: Any) -> None:
        """Call ``act(argument)`` at ``at_s``; of events at one instant the one scheduled first comes first."""
        self._scheduled += 1
        heapq.heappush(self._heap, (at_s, self._scheduled, act, argument))

    def ended(self, device: SimulatedDevice, record: TaskRecord) -> None:
        """A task has its outcome."""
        self._left -= 1
        number = self._numbers[device.index][record.task_id - 1]
        if number > self.scenario.warm_up_tasks:
            self._books.enter(entry_of_record(record, self.manifest, self.scenario.weights, number=number))
        for listener in self._listeners:
            listener.task_ended(device, record)

    def told(self, device: SimulatedDevice, message: Report | AskTwin) -> None:
        """A device has something to tell its twin."""
        self.deciding.told(device, message)

    # How it is made.

    def _exact(self, device: SimulatedDevice) -> tuple[PlanKeeper, Reporter]:
        if self.scenario.edge_choice == "twin":
            raise SettingsError(
                "edge_choice: twin needs a twin that plans (`twinsplit sim capacity`); with exact state a device has "
                "one edge: set edge_choice=fixed"
            )
        plans = ExactPlans(self.manifest, self.model_digest, self.scenario.payloads, device, self.deciding)
        return plans, SilentReporter(self.manifest, device.tracker)

    def _samples(self) -> list[TaskSamples]:
        arrivals = _arrivals_s(self.scenario)
        shown: list[Any] = [None] * len(arrivals)
        if self.scenario.evidence == "frames":
            shown = shown_bins(self.scenario, [len(instants) for instants in arrivals])
        return [
            samples_of(self.scenario, self.manifest, index, instants, bins)
            for index, (instants, bins) in enumerate(zip(arrivals, shown, strict=True))
        ]

    def _edge(self, index: int) -> SimulatedEdge:
        scenario = self.scenario
        tail_s = speeds_of(scenario, self.manifest).tail_s
        jobs = LoadJobs(scenario, index, scenario.load_mean_s or tail_s[0])
        has_listeners = bool(self._listeners)
        return SimulatedEdge(
            index,
            self.model_digest,
            tail_s,
            jobs,
            -scenario.warm_up_s,
            capacity=scenario.edge_queue_capacity or UNBOUNDED,
            admitted=self._tail_admitted if has_listeners else None,
            started=self._tail_started if has_listeners else None,
        )

    def _devices(self, samples: Sequence[TaskSamples]) -> list[SimulatedDevice]:
        scenario = self.scenario
        speeds = speeds_of(scenario, self.manifest)
        kinds = [speeds.device(factor) for factor in scenario.device_factors]
        seedless = changed_scenario(scenario, seed=0)
        grids = [_grid(seedless, factor) for factor in scenario.device_factors]
        return [
            SimulatedDevice(
                self,
                index,
                kinds[index % len(kinds)],
                grids[index % len(kinds)],
                self.edges[index % len(self.edges)],
                Link(scenario, index),
                drawn,
            )
            for index, drawn in enumerate(samples)
        ]

    def _tail_admitted(self, edge: int, tail: Tail[Work], at_s: float) -> None:
        for listener in self._listeners:
            listener.tail_admitted(edge, tail, at_s)

    def _tail_started(self, edge: int, tail: Tail[Work], at_s: float) -> None:
        for listener in self._listeners:
            listener.tail_started(edge, tail, at_s)


@lru_cache(maxsize=16)
def model_of(folder: Path) -> tuple[Manifest, str]:
    """Manifest and digest; the same object every time, so that what is made from it is made once."""
    manifest, data = read_manifest(folder)
    return manifest, manifest_digest(data)


@lru_cache(maxsize=128)
def _grid(scenario: Scenario, factor: float) -> SituationGrid:
    """Shared by the runs of a process, so that they share what rules make of it; ``scenario`` without its seed."""
    manifest, _ = model_of(scenario.model)
    return SituationGrid(scenario, manifest, speeds_of(scenario, manifest).device(factor))


def _arrivals_s(scenario: Scenario) -> list[list[float]]:
    """Arrival instants by device: the first ``tasks`` of all devices together, or those within ``seconds``."""
    found: list[list[float]] = [[] for _ in range(scenario.devices)]
    streams = [scenario.endless_arrivals_s(device) for device in range(scenario.devices)]
    heap = [(next(stream), device) for device, stream in enumerate(streams)]
    heapq.heapify(heap)
    count = 0
    while (count < scenario.tasks) if scenario.tasks is not None else (heap[0][0] <= scenario.seconds or count == 0):
        at_s, device = heap[0]
        found[device].append(at_s)
        count += 1
        heapq.heapreplace(heap, (next(streams[device]), device))
    return found


def _numbered(samples: Sequence[TaskSamples]) -> list[list[int]]:
    """Number of every task among those of all devices, by arrival from 1; by device."""
    order = sorted(
        (at_s, device, task) for device, drawn in enumerate(samples) for task, at_s in enumerate(drawn.arrivals_s)
    )
    numbers = [[0] * len(drawn.arrivals_s) for drawn in samples]
    for number, (_, device, task) in enumerate(order, start=1):
        numbers[device][task] = number
    return numbers
