"""The workload twin in the core: it waits for what it must know, replays, samples, keeps."""

from __future__ import annotations

import weakref
from dataclasses import replace

import pytest

from tests.unit.twin_service.made_up_twins import DIGEST, StepRule, World, ended_task, state
from tests.unit.workload.test_replay import SITUATION
from twin_service.memory import VolatileMemory
from twin_service.messages import ArrivedTail, DeviceHeartbeat, TaskReport
from twin_service.workload.replayed import TENSOR, Replayed
from twin_service.workload.traces import unpacked
from twin_service.workload.twin import Ended, WorkloadSettings, WorkloadTwin
from twinsplit.errors import StorageError
from twinsplit.types import Outcome, Payload, Stages, TaskRecord

START_S = 1000.0


class Bench(World):
    """A world with a workload twin, a device and an edge that tells its arrivals."""

    def __init__(self, memory: VolatileMemory | None = None, **settings: object) -> None:
        memory = memory or VolatileMemory()
        self.workload = WorkloadTwin(memory, WorkloadSettings(**settings), now_s=START_S, clock_offset_s=1e9, seed=1)
        super().__init__(StepRule(), memory, self.workload)
        self.attach_edge()
        self.attach_device()

    def device_tells(self, *tasks: TaskRecord, entered: int, at_s: float) -> None:
        self.now_s = at_s
        self.say(TaskReport(tasks, state=state(entered)))

    def edge_tells(self, *tails: ArrivedTail, at_s: float, backlog_s: float = 0.0) -> None:
        self.now_s = at_s
        self.edge_reports(backlog_s, arrivals=tails, is_logging=True)

    def replay_all(self) -> list[Replayed]:
        found = []
        while self.workload.next_due_s() <= self.now_s:
            found.append(self.workload.replay_next(self.now_s))
        return [task for task in found if task is not None]


def offloaded(task_id: int = 1, wait_s: float = 0.0) -> TaskRecord:
    """Sent after 0.11 s: 1 ms of encoding, 10 ms of upload, 1 ms each way; 20 ms of service at the edge."""
    record = ended_task(task_id, START_S, outcome=Outcome.EDGE, epochs=1)
    return replace(
        record,
        ended_at_s=START_S + 0.11 + 0.001 + 0.012 + wait_s + 0.02,
        exit_confidences=(0.2,),
        payload=Payload.TENSOR,
        representation_index=0,
        wire_bytes=1000,
        stages=Stages(encode=0.001, upload=0.012, edge_queue=wait_s, edge_compute=0.02),
    )


ARRIVES_S = START_S + 0.11 + 0.001 + 0.01 + 0.001
OWN = ArrivedTail(ARRIVES_S, 0.02, "cam", 1)


def test_a_task_is_replayed_once_device_and_edge_have_told_all_that_concerns_it() -> None:
    bench = Bench()
    bench.device_tells(offloaded(wait_s=0.04), entered=1, at_s=START_S + 0.2)
    assert bench.replay_all() == []
    bench.edge_tells(ArrivedTail(ARRIVES_S - 0.01, 0.05), OWN, at_s=START_S + 0.9)
    assert bench.replay_all() == []  # a second task could have come while it was in service
    bench.device_tells(ended_task(2, START_S + 1.0), entered=2, at_s=START_S + 2.0)
    (first,) = bench.replay_all()
    assert (first.device_id, first.task_id, first.at_s) == ("cam", 1, 1e9 + START_S)
    # The decision that was taken comes out as it happened.
    record = offloaded(wait_s=0.04)
    assert first.edge_wait_s[1, TENSOR] == pytest.approx(0.04, abs=1e-5)
    assert first.reached_s[1] + first.latency_s[1, TENSOR] == pytest.approx(record.ended_at_s - START_S, abs=1e-5)
    assert first.backlog_s[0] == 0.0
    assert bench.workload.waiting == 1
    bench.edge_tells(at_s=START_S + 3.0)
    assert [task.task_id for task in bench.replay_all()] == [2]
    assert (bench.workload.waiting, bench.workload.replayed) == (0, 2)


def test_a_sign_of_life_shows_that_no_other_task_came_meanwhile() -> None:
    bench = Bench()
    bench.edge_tells(at_s=START_S + 2.0)
    bench.device_tells(offloaded(), entered=1, at_s=START_S + 0.2)
    bench.edge_tells(OWN, at_s=START_S + 2.0)
    assert bench.replay_all() == []
    bench.say(DeviceHeartbeat(state=state(1)))
    assert [task.task_id for task in bench.replay_all()] == [1]


def test_a_task_does_not_wait_for_ever() -> None:
    bench = Bench(patience_s=3.0)
    bench.edge_tells(at_s=START_S + 0.1)
    bench.device_tells(ended_task(1, START_S), entered=5, at_s=START_S + 0.4)
    assert bench.workload.next_due_s() == pytest.approx(START_S + 3.4)
    bench.now_s = START_S + 3.3
    assert bench.replay_all() == []
    bench.now_s = START_S + 3.5
    assert [task.task_id for task in bench.replay_all()] == [1]


def test_a_task_that_waited_for_a_silent_edge_is_left_out_in_the_end() -> None:
    bench = Bench(patience_s=3.0)
    bench.device_tells(ended_task(1, START_S), entered=1, at_s=START_S + 0.4)
    bench.edge_reports(0.0)  # an edge of an older version
    bench.now_s += 3.1
    assert bench.replay_all() == []
    assert bench.workload.left_out == {"edge-does-not-tell": 1}
    assert bench.workload.waiting == 0


class Name(str):
    """A frame's name that shows whether its task is still held."""


def test_tasks_that_waited_for_a_silent_edge_are_let_go() -> None:
    bench = Bench(patience_s=3.0, is_traced=False)
    held: weakref.WeakSet[Name] = weakref.WeakSet()
    for number in range(1, 101):
        name = Name(number)
        held.add(name)
        task = replace(ended_task(number, bench.now_s), frame=name)
        bench.device_tells(task, entered=number, at_s=bench.now_s + 1.0)
        bench.replay_all()
    assert bench.workload.left_out == {"edge-does-not-tell": 97}
    del task, name
    assert len(held) < 10


def test_a_task_whose_own_tail_nobody_knows_is_left_out() -> None:
    bench = Bench(patience_s=1.0)
    bench.edge_tells(ArrivedTail(ARRIVES_S, 0.02), at_s=START_S + 0.2)  # the device did not name itself
    bench.device_tells(offloaded(), entered=1, at_s=START_S + 0.3)
    bench.now_s += 1.1
    assert bench.replay_all() == []
    assert bench.workload.left_out == {"own-tail-unknown": 1}


def test_lost_tasks_and_those_of_a_device_without_a_plan_are_left_out() -> None:
    bench = Bench()
    bench.device_tells(
        replace(ended_task(1, START_S), outcome=Outcome.FAILED), ended_task(2, START_S), entered=2, at_s=START_S + 0.4
    )
    assert bench.workload.left_out == {"lost": 1}
    assert bench.workload.waiting == 1
    bench.core.devices["cam"].standing = None
    bench.device_tells(ended_task(3, START_S), entered=3, at_s=START_S + 0.5)
    assert bench.workload.left_out == {"lost": 1, "no-plan": 1}


def share_replayed(cost_s: float) -> tuple[float, float]:
    """Of 50 tasks a second for ten seconds that take ``cost_s`` each: (share replayed, share of a core)."""
    workload = WorkloadTwin(VolatileMemory(), WorkloadSettings(is_traced=False), now_s=START_S, seed=1)
    for n in range(1, 501):
        now_s = START_S + 0.02 * n
        workload.task_ended(
            Ended("cam", ended_task(n, now_s - 0.4), DIGEST, None, SITUATION, SITUATION, (True,)), now_s
        )
        workload.device_reported("cam", n, now_s)
        while workload.next_due_s() <= now_s:
            workload.replay_next(now_s)
            workload.cost(cost_s, now_s)
    return workload.replayed / 500, workload.share(now_s)


def test_tasks_are_sampled_when_replay_would_take_more_than_its_share() -> None:
    replayed, share = share_replayed(0.02)  # all of them would take a whole core
    assert 0.25 < replayed < 0.45
    assert share == pytest.approx(0.3, abs=0.1)


def test_nothing_is_sampled_while_there_is_time_for_all() -> None:
    replayed, share = share_replayed(0.002)
    assert replayed == 1.0
    assert share == pytest.approx(0.1, abs=0.01)


def test_a_share_of_nothing_replays_nothing() -> None:
    bench = Bench(most_share=0.0)
    bench.device_tells(ended_task(1, START_S), entered=1, at_s=START_S + 0.4)
    assert bench.workload.left_out == {"sampled": 1}


def test_those_that_wait_are_bounded() -> None:
    bench = Bench(most_waiting=3)
    bench.device_tells(*(ended_task(n, START_S) for n in range(1, 6)), entered=9, at_s=START_S + 0.4)
    assert bench.workload.waiting == 3
    assert bench.workload.left_out == {"too-many": 2}


def test_replayed_tasks_are_kept_in_batches_and_told() -> None:
    bench = Bench(patience_s=0.1)
    told: list[int] = []
    bench.workload.told.append(lambda task, _: told.append(task.task_id))
    bench.edge_tells(at_s=START_S + 0.1)
    bench.device_tells(*(ended_task(n, START_S) for n in range(1, 6)), entered=9, at_s=START_S + 0.4)
    bench.now_s += 1.0
    bench.replay_all()
    assert told == [1, 2, 3, 4, 5]
    assert bench.core.save(2)
    assert [task.task_id for task in bench.memory.replay(DIGEST, 9)] == [1, 2]
    while bench.core.save(2):
        pass
    assert [task.task_id for task in bench.memory.replay(DIGEST, 9)] == [1, 2, 3, 4, 5]


class FullDisk(VolatileMemory):
    """Keeps traces, and nothing else while it is full."""

    def __init__(self) -> None:
        super().__init__()
        self.is_full = True
        self.traces: list[bytes] = []

    def keep_trace(self, lines: bytes) -> None:
        if self.is_full:
            raise StorageError("full")
        self.traces.append(lines)


def test_what_cannot_be_kept_now_stays_due() -> None:
    disk = FullDisk()
    bench = Bench(disk)
    bench.edge_tells(OWN, at_s=START_S + 0.2)
    bench.device_tells(offloaded(), entered=1, at_s=START_S + 0.3)
    with pytest.raises(StorageError):
        bench.workload.save()
    disk.is_full = False
    bench.workload.save()
    bench.workload.save()
    (lines,) = map(unpacked, disk.traces)
    assert lines.count("\n") == 2
    assert '"kind":"arrival"' in lines
    assert '"kind":"task"' in lines


def test_nothing_is_traced_where_that_is_switched_off() -> None:
    disk = FullDisk()
    disk.is_full = False
    bench = Bench(disk, is_traced=False)
    bench.edge_tells(OWN, at_s=START_S + 0.2)
    bench.device_tells(offloaded(), entered=1, at_s=START_S + 0.3)
    bench.workload.save()
    assert disk.traces == []


def test_an_edge_that_is_forgotten_leaves_no_line() -> None:
    bench = Bench(patience_s=1.0)
    bench.edge_tells(OWN, at_s=START_S + 0.2)
    bench.workload.forget_edge("edge")
    bench.device_tells(offloaded(), entered=1, at_s=START_S + 0.3)
    bench.now_s += 1.1
    assert bench.replay_all() == []
    assert bench.workload.left_out == {"edge-does-not-tell": 1}
