import math
import random
import statistics
from dataclasses import replace

import pytest

from tests.unit.twin_service.made_up_twins import MANIFEST, SEGMENT_S, device_hello, ended_task, state
from twin_service.fields import FieldView, Source
from twin_service.messages import ProgressReport, StartReport
from twin_service.status_twin import StatusTwin, service_on_device_s
from twinsplit.errors import BadMessageError
from twinsplit.types import Outcome, Payload, Stages


def twin(**changes: object) -> StatusTwin:
    return StatusTwin(device_hello(**changes), MANIFEST, 0.0)


def view(status: StatusTwin, name: str, now_s: float) -> FieldView:
    return next(view for view in status.views(now_s, {}) if view.name == name)


def test_the_epoch_is_predicted_between_messages() -> None:
    status = twin()
    assert status.epoch(0.0) is None
    status.started(StartReport(1, 10.0), 10.0)
    assert [status.epoch(10.0 + s) for s in (0.05, 0.15, 0.25, 0.35)] == [0, 1, 2, 2]
    status.idle(10.4)
    assert status.epoch(10.4) is None


def test_the_exits_of_the_plan_are_part_of_the_prediction() -> None:
    status = twin()
    status.plan_stands((True,), 0.0)
    status.started(StartReport(1, 10.0), 10.0)
    assert status.epoch(10.105) == 0
    assert status.epoch(10.111) == 1


def test_a_plan_that_comes_mid_task_changes_only_what_is_ahead() -> None:
    status = twin()
    status.started(StartReport(1, 10.0), 10.0)
    status.plan_stands((True,), 10.15)
    assert status.task is not None
    assert status.task.reached_at_s(1) == pytest.approx(10.1)
    assert status.task.reached_at_s(2) == pytest.approx(10.2)


def test_a_resumed_task_starts_where_it_had_stopped() -> None:
    status = twin()
    status.started(StartReport(1, 10.0, first_epoch=2), 10.0)
    assert status.epoch(10.0) == 2


def test_progress_moves_the_rest_of_the_prediction() -> None:
    status = twin()
    status.started(StartReport(1, 10.0), 10.0)
    status.progressed(ProgressReport(1, 1, 10.15), 10.16)
    assert [status.epoch(10.0 + s) for s in (0.17, 0.24, 0.26)] == [1, 1, 2]
    assert status.field("epoch").error == 0.0


def test_progress_of_a_task_whose_start_was_missed_is_that_of_a_fresh_one() -> None:
    status = twin()
    status.started(StartReport(1, 10.0, first_epoch=2), 10.0)
    status.progressed(ProgressReport(2, 1, 10.5), 10.5)
    assert status.task is not None
    assert status.task.reached_at_s(2) == pytest.approx(10.6)


def test_a_start_that_is_repeated_does_not_forget_progress() -> None:
    status = twin()
    status.started(StartReport(1, 10.0), 10.0)
    status.progressed(ProgressReport(1, 1, 10.15), 10.16)
    status.started(StartReport(1, 10.0), 10.18)
    assert status.epoch(10.22) == 1


def test_a_reported_profile_counts_from_the_next_task_on() -> None:
    status = twin()
    status.state(state(segment_s=(0.2, 0.2, 0.2)), 1.0)
    status.started(StartReport(1, 10.0), 10.0)
    assert status.epoch(10.15) == 0
    assert status.segment_s == (0.2, 0.2, 0.2)
    assert status.exit_s == (0.01,)


def test_the_queue_is_expected_to_grow_while_a_task_is_in_service() -> None:
    status = twin()
    for k in range(1, 41):
        status.state(state(entered=k), k * 0.5)
    status.queue(1, 20.0)
    assert status.queue_expected(20.5) == 1.0
    status.started(StartReport(1, 20.0), 20.0)
    assert status.queue_expected(20.5) == pytest.approx(2.0, abs=0.1)


def test_the_task_rate_follows_the_count_of_entered_tasks() -> None:
    status = twin()
    status.state(state(entered=1000), 0.0)
    for k in range(1, 21):
        status.state(state(entered=1000 + 3 * k), float(k))
    assert status.task_rate_per_s(20.0) == pytest.approx(3.0, rel=0.05)


def test_a_device_that_starts_anew_counts_anew() -> None:
    status = twin()
    status.state(state(entered=1000), 1.0)
    status.state(state(entered=2), 2.0)
    status.state(state(entered=3), 3.0)
    assert status.task_rate_per_s(3.0) == pytest.approx(1 / 3.0, rel=0.2)


def test_busy_share_and_uplink_wait_come_from_ended_tasks() -> None:
    status = twin()
    for k in range(1, 21):
        task = ended_task(k, k - 0.5, outcome=Outcome.EDGE, ended_at_s=float(k))
        status.ended([replace(task, stages=Stages(encode=0.19, upload=0.5))], float(k))
    assert status.busy_share(20.0) == pytest.approx(0.5, rel=0.05)
    assert status.uplink_busy_share(20.0) == pytest.approx(0.5, rel=0.05)
    assert status.uplink_busy_s(20.0) == pytest.approx(0.5 * 0.25 / 0.5, rel=0.1)


def test_uploads_that_wait_for_one_another_are_not_counted_twice() -> None:
    """A FIFO of Poisson arrivals with a fixed size: what the twin makes of the reports against its true mean wait."""
    goodput, wire_bytes, rate = 20_000.0, 2_000, 7.0
    draw, status = random.Random(1), twin()
    status.state(state(goodput_bytes_per_s=goodput), 0.0)
    now_s = free_s = 0.0
    waits_s = []
    for task_id in range(1, 2001):
        now_s += draw.expovariate(rate)
        begins_s = max(now_s, free_s)
        free_s = begins_s + wire_bytes / goodput
        waits_s.append(begins_s - now_s)
        task = ended_task(task_id, now_s, outcome=Outcome.EDGE, ended_at_s=free_s)
        status.ended([replace(task, wire_bytes=wire_bytes, stages=Stages(encode=0.0, upload=free_s - now_s))], free_s)
    assert statistics.fmean(waits_s) == pytest.approx(0.5 * rate * 0.1**2 / (1.0 - rate * 0.1), rel=0.15)
    assert status.uplink_busy_s(free_s) == pytest.approx(statistics.fmean(waits_s), rel=0.35)


def test_an_overloaded_uplink_has_a_bounded_wait() -> None:
    status = twin()
    for k in range(1, 21):
        task = ended_task(k, float(k), outcome=Outcome.EDGE, ended_at_s=k + 1.0)
        status.ended([replace(task, stages=Stages(encode=0.0, upload=3.0))], float(k))
    assert status.uplink_busy_s(20.0) < 100.0


def test_each_task_judges_the_profile_of_its_segments() -> None:
    status = twin()
    status.plan_stands((True,), 0.0)
    slow = replace(ended_task(1, 10.0), epoch_times_s=(10.0, 10.11, 10.26, 10.36))
    status.ended([slow], 10.4)
    errors = [status.field(f"segment_{k}_s").error for k in (1, 2, 3)]
    assert errors == pytest.approx([0.0, 0.05, 0.0])


def test_a_field_says_what_is_known_how_old_it_is_and_where_it_comes_from() -> None:
    status = twin()
    status.state(state(goodput_bytes_per_s=2e6), 5.0)
    goodput = view(status, "goodput_bytes_per_s", 7.0)
    assert (goodput.reported, goodput.predicted, goodput.age_s) == (2e6, 2e6, 2.0)
    assert goodput.error == 1e6
    assert goodput.source is Source.REPORTED
    status.queue(3, 8.0, is_live=True)
    assert view(status, "queue_length", 8.0).source is Source.LIVE
    status.started(StartReport(1, 8.0), 8.0)
    epoch = view(status, "epoch", 8.15)
    assert (epoch.reported, epoch.predicted, epoch.source) == (0, 1, Source.PREDICTED)


def test_an_idle_device_has_no_epoch() -> None:
    status = twin()
    status.started(StartReport(1, 8.0), 8.0)
    status.idle(9.0)
    epoch = view(status, "epoch", 9.0)
    assert (epoch.reported, epoch.predicted) == (None, None)


def test_what_is_desired_is_shown_beside_what_is() -> None:
    desired = next(view for view in twin().views(0.0, {"alpha_s": 1.5}) if view.name == "alpha_s")
    assert (desired.desired, desired.reported) == (1.5, None)


def test_a_profile_that_does_not_fit_the_manifest_is_refused() -> None:
    with pytest.raises(BadMessageError, match="segment_s"):
        twin(segment_s=(0.1,))
    with pytest.raises(BadMessageError, match="exit_s"):
        twin(exit_s=())
    status = twin()
    with pytest.raises(BadMessageError, match="exit_s"):
        status.check_state(state(exit_s=(0.1, 0.2)))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"stop_epoch": 4}, "epoch"),
        ({"evidence": 3}, "evidence"),
        ({"exit_index": 1}, "exit_index"),
        ({"epoch_times_s": (0.0,) * 9}, "epoch_s"),
    ],
)
def test_a_task_that_the_model_cannot_have_is_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(BadMessageError, match=named):
        twin().check_task(replace(ended_task(1, 0.0), **changes))


def test_service_ends_with_the_answer_or_with_the_payload_encoded() -> None:
    assert service_on_device_s(ended_task(1, 5.0)) == pytest.approx(0.31)
    offloaded = ended_task(1, 5.0, outcome=Outcome.EDGE, epochs=1, ended_at_s=9.0)
    assert service_on_device_s(offloaded) == pytest.approx(0.111)
    at_once = ended_task(1, 5.0, outcome=Outcome.EDGE, epochs=0, ended_at_s=9.0)
    assert service_on_device_s(at_once) == pytest.approx(0.001)


def test_a_service_that_cannot_be_known_is_not_judged() -> None:
    assert service_on_device_s(replace(ended_task(1, 5.0), started_at_s=None)) is None
    resumed = replace(ended_task(1, 5.0), payload=Payload.TENSOR)
    assert service_on_device_s(resumed) is None


def test_without_a_manifest_nothing_is_predicted_and_nothing_breaks() -> None:
    status = StatusTwin(device_hello(), None, 0.0)
    status.started(StartReport(1, 10.0), 10.0)
    status.progressed(ProgressReport(1, 2, 10.2), 10.2)
    assert status.epoch(10.5) == 0
    status.manifest_known(MANIFEST)
    status.started(StartReport(2, 11.0), 11.0)
    assert status.epoch(11.0 + sum(SEGMENT_S[:1]) + 0.01) == 1
    assert math.isclose(status.task.reached_at_s(3), 11.3) if status.task else False


def test_tasks_of_the_time_before_it_attached_judge_nothing() -> None:
    status = StatusTwin(device_hello(), MANIFEST, 100.0)
    status.ended([ended_task(k, 50.0 + k) for k in range(40)], 101.0)
    assert status.busy_share(101.0) == 0.0
    assert status.mirror.accuracy is None
    assert view(status, "energy_joules", 101.0).reported == 0.9


def test_a_device_without_its_edge_or_its_plan_says_so() -> None:
    status = twin()
    status.state(state(is_edge_reachable=False, is_degraded=True), 1.0)
    assert view(status, "is_edge_reachable", 1.0).reported == 0.0
    assert view(status, "is_degraded", 1.0).reported == 1.0
    assert (status.is_edge_reachable, status.is_degraded) == (False, True)
