"""The workload twin's counterfactual of *any* decision is what a second run brings in which that decision is taken.

Exact with one device and an edge load that does not react: every random source of the simulator is a stream of its own,
so the second run meets the same world. With several devices the others react, and only they make the difference.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest

from benchmarks.scenario import Scenario
from benchmarks.simulator.deciding import ByTable, Deciding, Forced
from benchmarks.simulator.recording import Recording
from benchmarks.simulator.world import Listener, World
from twin_service.decision.rules import rule_named
from twin_service.workload.replayed import INPUT, TENSOR, Replayed
from twinsplit.types import Decision, TaskRecord

ONE_DEVICE = Scenario(
    tasks=24,
    task_rate_per_s=4.0,
    device_whole_s=0.3,
    edge_whole_s=0.02,
    uplink_bytes_per_s=60e3,
    uplink_delay_s=0.004,
    load_share=0.7,
    load_burst_s=1.0,
    load_sizes="exponential",
)
"""Tasks that queue, uploads that queue, bursts at the edge."""
BYTE_S = 1.0 / 60e3
EXACT_S = 1.5 * BYTE_S
"""Payloads of the simulator have whole bytes, the manifest's mean has not; beyond that nothing differs."""


class Books(Listener):
    """Records by device and task."""

    def __init__(self) -> None:
        self.records: dict[tuple[int, int], TaskRecord] = {}

    def task_ended(self, device: object, record: TaskRecord) -> None:
        self.records[device.index, record.task_id] = record


Run = tuple[dict[tuple[int, int], TaskRecord], dict[tuple[str, int], Replayed]]


def ran(scenario: Scenario, deciding: Deciding) -> Run:
    books, recording = Books(), Recording(7)
    World(scenario, 3, deciding, listeners=[books, recording]).run()
    return books.records, {(task.device_id, task.task_id): task for task in recording.close()}


@lru_cache(maxsize=4)
def base_run(scenario: Scenario) -> Run:
    return ran(scenario, by_rule())


def by_rule() -> Deciding:
    return ByTable(rule_named("open-loop"))


def forced_run(scenario: Scenario, task_id: int, epoch: int, decision: Decision) -> Run:
    return ran(scenario, Forced(by_rule(), device=0, task_id=task_id, epoch=epoch, decision=decision))


def decisions_of(task: Replayed) -> list[tuple[int, Decision]]:
    """All that it could have done."""
    found = [(task.epochs - 1, Decision.CONTINUE)]
    for epoch in range(task.epochs):
        for decision, column in ((Decision.OFFLOAD_TENSOR, TENSOR), (Decision.OFFLOAD_INPUT, INPUT)):
            if math.isfinite(task.offload_s[epoch, column]):
                found.append((epoch, decision))
        if math.isfinite(task.exit_s[epoch]) and epoch < task.epochs - 1:
            found.append((epoch, Decision.EXIT))
    return found


def told_latency_s(task: Replayed, epoch: int, decision: Decision) -> float:
    """Service start to answer, as the counterfactual has it."""
    reached_s = float(task.reached_s[epoch])
    return (
        reached_s + float(task.latency_s[epoch, decision - Decision.OFFLOAD_TENSOR])
        if decision.is_offload
        else reached_s
    )


def told_joules(task: Replayed, epoch: int, decision: Decision) -> float:
    joules = task.compute_watts * float(task.reached_s[epoch])
    return (
        joules + float(task.transmit_joules[epoch, decision - Decision.OFFLOAD_TENSOR])
        if decision.is_offload
        else joules
    )


def served_s(record: TaskRecord) -> float:
    assert record.started_at_s is not None
    return record.ended_at_s - record.started_at_s


CASES = [4, 9, 15, 20]


def test_the_tasks_looked_at_meet_queues_everywhere_and_stop_in_different_places() -> None:
    records, replayed = base_run(ONE_DEVICE)
    tasks = [replayed["device-0", task_id] for task_id in sorted(n for _, n in records)]
    assert max(task.queue.max() for task in tasks) >= 1
    assert max(task.uplink_busy_s.max() for task in tasks) > 0.01
    assert max(task.backlog_s.max() for task in tasks) > 0.1
    assert len({task.taken for task in tasks}) >= 3
    assert len({(task.taken, task.taken_epoch) for task in tasks}) >= 4


def test_the_decision_that_was_taken_is_what_happened() -> None:
    records, replayed = base_run(ONE_DEVICE)
    for (_, task_id), record in records.items():
        task = replayed["device-0", task_id]
        told_s = told_latency_s(task, task.taken_epoch, task.taken)
        assert told_s == pytest.approx(served_s(record), abs=1e-6)
        assert told_joules(task, task.taken_epoch, task.taken) == pytest.approx(record.energy_joules, abs=1e-5)
        assert task.evidence[task.taken_epoch] == record.evidence


@pytest.mark.slow
@pytest.mark.parametrize("task_id", CASES)
def test_any_other_decision_is_what_a_second_run_brings(task_id: int) -> None:
    _, replayed = base_run(ONE_DEVICE)
    task = replayed["device-0", task_id]
    choices = decisions_of(task)
    assert len(choices) >= 8
    for epoch, decision in choices:
        records, again = forced_run(ONE_DEVICE, task_id, epoch, decision)
        record = records[0, task_id]
        name = f"{decision.name} at {epoch}"
        assert record.stop_epoch == epoch, name
        assert told_latency_s(task, epoch, decision) == pytest.approx(served_s(record), abs=EXACT_S), name
        assert told_joules(task, epoch, decision) == pytest.approx(record.energy_joules, abs=1e-4), name
        # All that is seen and paid on the way there is the same, too.
        taken = again["device-0", task_id]
        for field in ("reached_s", "queue", "backlog_s", "uplink_busy_s", "arrived_work_s"):
            np.testing.assert_allclose(
                getattr(task, field)[: epoch + 1], getattr(taken, field)[: epoch + 1], atol=EXACT_S, err_msg=name
            )
        np.testing.assert_allclose(task.caused_s[:epoch], taken.caused_s[:epoch], atol=1e-6, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("load_share", "edge_whole_s", "least_exact", "most_error"),
    [
        (0.4, 0.02, 0.9, 0.02),
        (0.1, 0.08, 0.5, 0.4),  # four devices are the edge's load themselves, and watch one another's tails
    ],
)
def test_with_other_devices_only_their_reaction_makes_a_difference(
    load_share: float, edge_whole_s: float, least_exact: float, most_error: float
) -> None:
    """Mean error over the spread of latencies between decisions; seen: under 0.001 and 0.24, exact: 100 and 60 %."""
    changes = {"devices": 4, "tasks": 48, "load_share": load_share, "edge_whole_s": edge_whole_s}
    scenario = ONE_DEVICE.model_copy(update=changes)
    _, replayed = base_run(scenario)
    errors_s, latencies_s = [], []
    for task_id in (3, 5, 7):
        task = replayed["device-0", task_id]
        for epoch, decision in decisions_of(task):
            records, _ = forced_run(scenario, task_id, epoch, decision)
            latencies_s.append(served_s(records[0, task_id]))
            errors_s.append(abs(told_latency_s(task, epoch, decision) - latencies_s[-1]))
    assert np.mean(np.array(errors_s) <= EXACT_S) >= least_exact
    assert np.mean(errors_s) < most_error * np.std(latencies_s)
