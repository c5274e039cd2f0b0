"""A fleet and its one twin: devices, edges among which the twin's planner chooses, and what that costs the twin.

The core is the service's own, keeps its state in the service's own database, saves and replays at the service's own
pace. Its processor time is measured while everything else is simulated: the twin answers at once, however long it took,
and how much of a core it would have needed is told.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.simulator.by_plans import ByPlans
from benchmarks.simulator.device import SimulatedDevice
from benchmarks.simulator.metered import Meter, MeteredCore, MeteredRule
from benchmarks.simulator.world import World
from twin_service.core_settings import CoreSettings
from twin_service.decision.evaluation import Rule
from twin_service.documents import Document
from twin_service.saving import SavingRounds
from twin_service.settings import TwinSettings
from twin_service.store.sqlite import SqliteStore
from twin_service.workload.replayed import Replayed
from twin_service.workload.twin import WorkloadSettings, WorkloadTwin
from twinsplit.types import Outcome, TaskRecord

Progress = Callable[[str], None]

# The pace of twin_service.service.
_SAVE_S: float = TwinSettings.model_fields["save_s"].default
_REPLAY_LOOK_S = 0.1
_REPLAY_SHARE: float = TwinSettings.model_fields["replay_share"].default
_LINES = 20
"""Lines of progress in a run."""


class _Counted(NamedTuple):
    """What was counted until an instant."""

    tasks: int
    at_s: float
    served: Mapping[str, Mapping[str, float]]
    messages: Counter[str]
    bytes: Counter[str]


class CountingStore(SqliteStore):
    """The service's database, which counts what it is given."""

    documents_written = 0
    replay_written = 0

    def keep_documents(self, documents: Iterable[Document]) -> None:
        chosen = list(documents)
        super().keep_documents(chosen)
        self.documents_written += len(chosen)

    def keep_replay(self, tasks: Sequence[Replayed]) -> None:
        super().keep_replay(tasks)
        self.replay_written += len(tasks)


class FleetPlans(ByPlans):
    """Plans of a metered twin with a database. For one run; closed by whoever made it."""

    core: MeteredCore

    def __init__(self, rule: Rule, state: Path, progress: Progress = lambda _text: None) -> None:
        """
        Args:
            state: folder of the twin's database, which is made.
            progress: told a line now and then.
        """
        self.meter = Meter()
        super().__init__(MeteredRule(rule, self.meter))
        self.store = CountingStore(state)
        self.written_bytes = 0
        """Handed to the file system by savings."""
        self.attached: dict[str, dict[str, float]] = {}
        """What attaching all devices cost, and their first plans; by kind as in ``meter``, which begins anew then."""
        self.attach_messages: Counter[str] = Counter()
        self.attach_bytes: Counter[str] = Counter()
        self.first_named: Counter[str] = Counter()
        """Devices by the edge of their first plan."""
        self._warm: _Counted | None = None
        self.ended_at: Counter[str] = Counter()
        """Tasks by the edge that answered."""
        self.payload_bytes = 0
        """Of these, sent."""
        self._ended = 0
        self._tasks = self._every = 1
        self._began_s = self._planned_s = time.perf_counter()
        self._progress = progress
        self._process = psutil.Process()

    def close(self) -> None:
        """Close the database."""
        gc.unfreeze()
        self.store.close()

    def begin(self, world: World) -> None:
        super().begin(world)
        self._tasks = world.tasks
        self._every = max(1, self._tasks // _LINES)
        self._progress(f"{len(world.devices):,} devices, {len(world.edges)} edges, {self._tasks:,} tasks")
        world.schedule(0.0, self._is_attached, None)
        self._saving = SavingRounds(self.core, _SAVE_S)
        world.schedule(_SAVE_S, self._save, None)
        world.schedule(_REPLAY_LOOK_S, self._replay, None)

    def made_core(self, world: World) -> MeteredCore:
        workload = WorkloadTwin(self.store, WorkloadSettings(_REPLAY_SHARE))
        core_settings = CoreSettings(planner=self.signalling.planner)
        return MeteredCore(self.meter, self._rule, world.scenario.weights, self.store, core_settings, workload=workload)

    @property
    def named(self) -> Counter[str]:
        """Devices by the edge that their plan names now."""
        found = Counter({edge.edge_id: 0 for edge in self._world.edges})
        for device in self.core.devices.values():
            if device.standing is not None and device.standing.plan.edge_id is not None:
                found[device.standing.plan.edge_id] += 1
        return found

    @property
    def revisions(self) -> Counter[str]:
        """Plans sent, by cause."""
        found: Counter[str] = Counter()
        for document in self.core.archive:
            found.update(document.plan_revisions)
        return found

    def task_ended(self, device: SimulatedDevice, record: TaskRecord) -> None:
        super().task_ended(device, record)
        if record.edge_id is not None and record.outcome is Outcome.EDGE:
            self.ended_at[record.edge_id] += 1
            self.payload_bytes += record.wire_bytes
        self._ended += 1
        if self._ended == self._world.scenario.warm_up_tasks:
            self._warm = self._counted()
        if self._ended % self._every == 0:
            spent_s = time.perf_counter() - self._planned_s
            left_s = spent_s * (self._tasks - self._ended) / self._ended
            self._progress(f"{self._ended:,} of {self._tasks:,} tasks after {spent_s:.0f} s, {left_s:.0f} s to go")

    def figures(self) -> dict[str, Any]:
        """What the twin was asked, what that took, what it kept; after the run."""
        sizes = [len(document.to_json().encode()) for document in self.core.archive]
        workload = self.core.workload
        assert workload is not None, "made with the core"
        return {
            "attached": self.attached,
            "served": self.meter.described(),
            "settled": self._settled(),
            "messages": dict(sorted((self.courier.messages - self.attach_messages).items())),
            "bytes": dict(sorted((self.courier.bytes - self.attach_bytes).items())),
            "attach_messages": dict(sorted(self.attach_messages.items())),
            "attach_bytes": dict(sorted(self.attach_bytes.items())),
            "payload_bytes": self.payload_bytes,
            "weighed": self.core.planner.weighed,
            "plans_by_cause": dict(sorted(self.revisions.items())),
            "store": {
                "documents_written": self.store.documents_written,
                "document_mean_bytes": sum(sizes) / len(sizes),
                "replay_written": self.store.replay_written,
                "replay_left_out": dict(sorted(workload.left_out.items())),
                "written_bytes": self.written_bytes,
                "size_bytes": self.store.size_bytes,
            },
        }

    def _counted(self) -> _Counted:
        courier = self.courier
        return _Counted(
            self._ended, self._world.now_s, self.meter.described(), Counter(courier.messages), Counter(courier.bytes)
        )

    def _settled(self) -> dict[str, Any] | None:
        """What was asked and took, and what was said, since the warm-up's tasks ended; ``None``: there are none."""
        if (warm := self._warm) is None:
            return None
        now = self._counted()
        return {
            "tasks": now.tasks - warm.tasks,
            "seconds": now.at_s - warm.at_s,
            "served": {
                kind: {key: took[key] - warm.served.get(kind, {}).get(key, 0.0) for key in ("calls", "seconds")}
                for kind, took in now.served.items()
            },
            "messages": dict(sorted((now.messages - warm.messages).items())),
            "bytes": dict(sorted((now.bytes - warm.bytes).items())),
        }

    def _is_attached(self, _: object) -> None:
        """Comes right after all devices have attached and hold their first plan."""
        self.attached = self.meter.described()
        self.meter.clear()
        # What collecting the simulator's own objects takes again and again would be told as the twin's.
        gc.collect()
        gc.freeze()
        self.attach_messages = Counter(self.courier.messages)
        self.attach_bytes = Counter(self.courier.bytes)
        self.first_named = self.named
        self._planned_s = time.perf_counter()
        self._progress(f"attached and planned after {self._planned_s - self._began_s:.0f} s")

    def _save(self, _: object) -> None:
        before = _written_bytes(self._process)
        self._saving.save(self._world.now_s)
        self.written_bytes += _written_bytes(self._process) - before
        self._world.schedule(self._saving.next_s, self._save, None)

    def _replay(self, _: object) -> None:
        """One task, and as much of simulated time as the service lets pass for what it took."""
        now_s = self._world.now_s
        workload = self.core.workload
        assert workload is not None, "made with the core"
        wait_s = _REPLAY_LOOK_S
        if workload.next_due_s() <= now_s:
            began_s = time.process_time()
            workload.replay_next(now_s)
            took_s = time.process_time() - began_s
            workload.cost(took_s, now_s)
            self.meter.took("replay", took_s)
            wait_s = took_s / _REPLAY_SHARE
        self._world.schedule(now_s + wait_s, self._replay, None)


def _written_bytes(process: psutil.Process) -> int:
    """Handed to write calls by this process so far; 0 where the system does not tell."""
    if not hasattr(process, "io_counters"):
        return 0
    counters = process.io_counters()
    return int(getattr(counters, "write_chars", counters.write_bytes))
