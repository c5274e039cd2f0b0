import math

from twin_service.epoch_mirror import EpochMirror
from twinsplit.reckoning import ProgressModel, believed_epoch

BOUNDARIES = (0.1, 0.2, 0.3)


def model(started_at_s: float, task_id: int = 1) -> ProgressModel:
    return ProgressModel(task_id, started_at_s, BOUNDARIES)


def test_a_belief_that_holds_is_right_all_the_time() -> None:
    mirror = EpochMirror()
    mirror.believe(0.0, model(0.0))
    assert mirror.judge(1, 0.0, BOUNDARIES, 0.3) == 1.0
    assert mirror.accuracy == 1.0


def test_a_belief_that_runs_ahead_is_wrong_around_each_boundary() -> None:
    mirror = EpochMirror()
    mirror.believe(0.0, model(0.0))
    # Each segment took 0.11 s: wrong for 0.01, then 0.02 s; past the last boundary the belief stays at epoch 2.
    assert math.isclose(mirror.judge(1, 0.0, (0.11, 0.22, 0.33), 0.33), 1.0 - 0.03 / 0.33)


def test_what_was_believed_then_counts_not_what_is_known_later() -> None:
    mirror = EpochMirror()
    mirror.believe(0.0, None)
    mirror.believe(0.15, model(0.0))
    assert math.isclose(mirror.judge(1, 0.0, BOUNDARIES, 0.3), 0.5)


def test_another_task_is_not_right_by_luck() -> None:
    mirror = EpochMirror()
    mirror.believe(0.0, model(0.0, task_id=7))
    assert mirror.judge(1, 0.0, BOUNDARIES, 0.3) == 0.0


def test_a_task_that_left_early_is_judged_up_to_its_stop() -> None:
    mirror = EpochMirror()
    mirror.believe(0.0, model(0.0))
    mirror.believe(0.12, None)
    assert mirror.judge(1, 0.0, (0.1,), 0.12) == 1.0


def test_reports_that_come_out_of_order_are_judged_by_their_own_time() -> None:
    mirror = EpochMirror()
    mirror.believe(0.0, model(0.0, task_id=1))
    mirror.believe(0.1, model(0.1, task_id=2))
    mirror.believe(0.4, None)
    assert math.isclose(mirror.judge(2, 0.1, BOUNDARIES, 0.3), 1.0)
    assert math.isclose(mirror.judge(1, 0.0, (0.1,), 0.1), 1.0)


def test_the_share_is_one_of_time_over_all_tasks() -> None:
    mirror = EpochMirror()
    mirror.believe(0.0, model(0.0))
    mirror.judge(1, 0.0, BOUNDARIES, 0.3)
    mirror.judge(2, 0.0, (), 0.1)
    assert mirror.accuracy is not None
    assert math.isclose(mirror.accuracy, 0.75)


def test_a_task_in_service_has_not_passed_its_last_boundary() -> None:
    assert believed_epoch(model(0.0), 9.0) == 2
    assert believed_epoch(ProgressModel(1, 0.0, ()), 9.0) == 0


def test_a_task_that_took_no_time_judges_nothing() -> None:
    mirror = EpochMirror()
    assert mirror.judge(1, 0.0, (), 0.0) == 1.0
    assert mirror.accuracy is None
