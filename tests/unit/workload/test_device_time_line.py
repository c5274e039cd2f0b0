"""Who waited on a device while a task was in service, and when its uplink was free."""

from __future__ import annotations

import math

import pytest

from twin_service.workload.device_time_line import DeviceTimeLine
from twinsplit.types import Outcome, Reason, Stages, TaskRecord


def task(
    task_id: int,
    arrived_at_s: float,
    started_at_s: float | None,
    ended_at_s: float,
    outcome: Outcome = Outcome.DEVICE,
    stages: Stages | None = None,
) -> TaskRecord:
    return TaskRecord(
        task_id,
        "",
        arrived_at_s,
        started_at_s,
        ended_at_s,
        outcome,
        Reason.NOT_WORTH_IT,
        stop_epoch=None if started_at_s is None else 1,
        evidence=0,
        stages=stages or Stages(),
        epoch_times_s=() if started_at_s is None else (started_at_s, started_at_s + 0.1),
    )


def line_of(*tasks: TaskRecord) -> DeviceTimeLine:
    line = DeviceTimeLine()
    for each in tasks:
        line.ended(each, 0.01)
    return line


FIRST = task(1, 0.0, 0.0, 1.0)
SECOND = task(2, 0.2, 1.0, 2.0)
THIRD = task(3, 0.6, 2.0, 3.0)
FOURTH = task(4, 2.9, 3.0, 3.5)


def test_those_that_arrive_wait_until_the_task_ends() -> None:
    waiting = line_of(FIRST, SECOND, THIRD, FOURTH).waiting(FIRST, 1.0)
    assert [waiting.length(t) for t in (0.0, 0.1, 0.2, 0.5, 0.6, 1.0)] == [0, 0, 1, 1, 2, 2]
    assert waiting.area_s(0.0, 1.0) == pytest.approx(0.8 + 0.4)
    assert waiting.area_s(0.3, 0.7) == pytest.approx(0.4 + 0.1)


def test_those_that_wait_at_the_start_stay_even_if_the_service_takes_longer_than_it_did() -> None:
    waiting = line_of(FIRST, SECOND, THIRD, FOURTH).waiting(SECOND, 3.0)
    assert [waiting.length(t) for t in (1.0, 2.5, 2.9)] == [1, 1, 2]
    assert waiting.area_s(1.0, 3.0) == pytest.approx(2.0 + 0.1)


def test_those_that_found_the_device_idle_would_have_waited_had_the_service_taken_longer() -> None:
    short = task(1, 0.0, 0.0, 0.3)
    at_once = task(2, 0.5, 0.5, 1.5)
    waiting = line_of(short, at_once).waiting(short, 1.0)
    assert [waiting.length(t) for t in (0.4, 0.5, 1.0)] == [0, 1, 1]
    assert waiting.area_s(0.0, 1.0) == pytest.approx(0.5)


def test_the_sum_of_caused_waiting_is_the_sum_of_waiting() -> None:
    tasks = (FIRST, SECOND, THIRD, FOURTH)
    line = line_of(*tasks)
    caused_s = sum(line.waiting(each, each.ended_at_s).area_s(each.started_at_s, each.ended_at_s) for each in tasks)
    assert caused_s == pytest.approx(sum(each.started_at_s - each.arrived_at_s for each in tasks))


def test_dropped_tasks_wait_until_they_are_dropped_or_not_at_all() -> None:
    turned_away = task(2, 0.2, None, 0.2, Outcome.DROPPED)
    pushed_out = task(3, 0.3, None, 0.7, Outcome.DROPPED)
    waiting = line_of(FIRST, turned_away, pushed_out).waiting(FIRST, 1.0)
    assert [waiting.length(t) for t in (0.25, 0.3, 0.8)] == [0, 1, 0]
    assert waiting.area_s(0.0, 1.0) == pytest.approx(0.4)


def test_the_uplink_is_free_when_the_earlier_offloads_are_sent() -> None:
    sent = Stages(encode=0.02, upload=0.51)
    first, second = task(1, 0.0, 0.0, 1.0, Outcome.EDGE, sent), task(2, 0.0, 0.13, 2.0, Outcome.EDGE, sent)
    line = line_of(first, second)
    assert line.uplink_free_at_s(first) == -math.inf
    assert line.uplink_free_at_s(second) == pytest.approx(0.12 + 0.5)


def test_an_offload_at_service_start_is_not_in_its_own_way() -> None:
    at_once = TaskRecord(
        1, "", 0.0, 0.0, 1.0, Outcome.EDGE, Reason.OFFLOAD_PAYS, 0, 0, stages=Stages(upload=0.5), epoch_times_s=(0.0,)
    )
    assert line_of(at_once).uplink_free_at_s(at_once) == -math.inf


def test_an_instant_is_complete_once_all_that_arrived_before_have_ended() -> None:
    line = line_of(FIRST)
    assert line.complete_until_s == 0.0
    line.ended(THIRD, 0.01)  # the second is still on its way to the edge
    assert line.complete_until_s == 0.0
    line.reported(3, 3.0)
    assert line.complete_until_s == 0.0
    line.ended(SECOND, 0.01)
    assert line.complete_until_s == 0.6
    line.reported(3, 3.0)
    assert line.complete_until_s == 3.0
    line.reported(4, 9.0)
    assert line.complete_until_s == 3.0


def test_a_report_that_never_came_is_not_waited_for_for_ever() -> None:
    line = line_of(FIRST, *(task(n, n, n, n + 0.5) for n in range(3, 100)))
    assert line.complete_until_s == 99.0


def test_a_device_that_starts_again_counts_anew() -> None:
    line = line_of(FIRST, SECOND, THIRD)
    line.ended(task(1, 50.0, 50.0, 51.0), 0.01)
    assert line.complete_until_s == 50.0
    assert line.waiting(task(1, 50.0, 50.0, 51.0), 51.0).area_s(50.0, 51.0) == 0.0


def test_the_line_is_bounded() -> None:
    line = line_of(*(task(n, 0.1 * n, 0.1 * n, 0.1 * n + 0.1) for n in range(1, 5000)))
    assert len(line._stays) < 700
