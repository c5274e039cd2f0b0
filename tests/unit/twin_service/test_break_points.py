import math
import random

import numpy as np

from tests.unit.twin_service.made_up_twins import DIGEST, MANIFEST
from twin_service.break_points import PlanBreakPoints, SortedIntervals
from twinsplit.plan import QUEUE_LEVELS, Contingency, Observation, Plan
from twinsplit.types import Decision


def plan_of(table: np.ndarray, edges_s: tuple[float, ...], **changes: object) -> Plan:
    values = {
        "plan_id": 1,
        "model_digest": DIGEST,
        "rule": "made-up",
        "edge_id": "edge",
        "edge_address": "127.0.0.1:1",
        "exits_run": (True,),
        "band_edges_s": edges_s,
        "table": table,
        "tensor_representations": (0, 0, 0, -1),
        "input_representations": (-1,) * 4,
        "lease_s": 10.0,
        "contingency": Contingency((1.01,)),
    }
    return Plan(**{**values, **changes})


def table_of(bands: int) -> np.ndarray:
    return np.full((4, 3, QUEUE_LEVELS, bands), Decision.CONTINUE, dtype=np.uint8)


def test_only_band_edges_at_which_a_decision_changes_are_break_points() -> None:
    table = table_of(3)
    table[1, :, 0, 0] = Decision.OFFLOAD_TENSOR
    points = PlanBreakPoints(plan_of(table, (0.1, 0.3)), MANIFEST, least_share=0.05)
    assert points.at(1, 0) == (0.1,)
    assert points.at(1, 1) == ()
    assert points.at(2, 0) == ()
    assert points.is_changed(1, 0, 0.05, 0.2)
    assert not points.is_changed(1, 0, 0.2, 0.4)


def test_with_a_deadline_a_break_point_of_any_age_counts() -> None:
    table = np.repeat(table_of(3)[..., None], 2, axis=-1)
    table[1, :, 0, 0, 0] = Decision.OFFLOAD_TENSOR
    table[1, :, 0, :2, 1] = Decision.OFFLOAD_TENSOR
    points = PlanBreakPoints(plan_of(table, (0.1, 0.3), age_edges_s=(0.2,)), MANIFEST, least_share=0.05)
    assert points.at(1, 0) == (0.1, 0.3)
    assert points.at(2, 0) == ()
    assert points.share_going_on(1, 0, 0.2) == 1.0, "the younger ones go on there"


def test_evidence_that_hardly_occurs_makes_no_break_point() -> None:
    table = table_of(2)
    table[1, 2, :, 0] = Decision.OFFLOAD_TENSOR  # 40 % of the samples have this evidence
    plan = plan_of(table, (0.1,))
    assert PlanBreakPoints(plan, MANIFEST, least_share=0.3).at(1, 0) == (0.1,)
    assert PlanBreakPoints(plan, MANIFEST, least_share=0.5).at(1, 0) == ()


def test_evidence_counts_from_the_epoch_of_its_exit() -> None:
    table = table_of(2)
    table[0, 1:, :, 0] = Decision.OFFLOAD_TENSOR  # nobody has evidence at epoch 0
    table[2, 0, :, 0] = Decision.OFFLOAD_TENSOR  # everybody has by epoch 2
    points = PlanBreakPoints(plan_of(table, (0.1,)), MANIFEST, least_share=0.01)
    assert points.at(0, 0) == points.at(2, 0) == ()


def test_a_rule_that_decides_at_service_start_has_all_its_break_points_there() -> None:
    table = table_of(2)
    table[2, :, :, 0] = Decision.OFFLOAD_TENSOR
    plan = plan_of(table, (0.1,), observation=Observation.SERVICE_START)
    points = PlanBreakPoints(plan, MANIFEST, least_share=0.05)
    assert points.at(0, 0) == (0.1,)
    assert points.at(2, 0) == ()


def test_at_service_start_a_change_counts_only_as_far_as_a_task_gets() -> None:
    table = table_of(2)
    table[0] = Decision.OFFLOAD_TENSOR  # nobody ever gets to epoch 2
    table[2, :, :, 0] = Decision.OFFLOAD_TENSOR
    plan = plan_of(table, (0.1,), observation=Observation.SERVICE_START)
    assert PlanBreakPoints(plan, MANIFEST, least_share=0.05).at(0, 0) == ()


def test_queues_of_three_and_more_share_their_break_points() -> None:
    table = table_of(2)
    table[1, :, 3, 0] = Decision.OFFLOAD_TENSOR
    points = PlanBreakPoints(plan_of(table, (0.1,)), MANIFEST, least_share=0.05)
    assert points.at(1, 3) == points.at(1, 9) == (0.1,)
    assert points.at(1, 2) == ()


def test_neighbours_hold_every_backlog_that_decides_alike() -> None:
    table = table_of(3)
    table[1, :, :, 0] = Decision.OFFLOAD_TENSOR
    table[1, :, :, 2] = Decision.EXIT
    points = PlanBreakPoints(plan_of(table, (0.1, 0.3)), MANIFEST, least_share=0.05)
    assert points.around(1, 0, 0.05) == (-math.inf, 0.1)
    assert points.around(1, 0, 0.1) == (0.1, 0.3)
    assert points.around(1, 0, 0.9) == (0.3, math.inf)


def test_the_share_that_goes_on_weighs_evidence() -> None:
    table = table_of(1)
    table[1, 2] = Decision.EXIT
    points = PlanBreakPoints(plan_of(table, ()), MANIFEST, least_share=0.05)
    assert points.share_going_on(0, 0, 0.0) == 1.0
    assert math.isclose(points.share_going_on(1, 0, 0.0), 0.6)


def test_a_value_finds_just_the_intervals_that_do_not_hold_it() -> None:
    rng = random.Random(1)
    intervals = SortedIntervals()
    truth: dict[str, tuple[float, float]] = {}
    for _ in range(2000):
        device_id = f"d{rng.randrange(60)}"
        if rng.random() < 0.2:
            intervals.discard(device_id)
            truth.pop(device_id, None)
        else:
            low = -math.inf if rng.random() < 0.2 else rng.randrange(10) / 10
            high = math.inf if rng.random() < 0.2 else rng.randrange(10) / 10 + 1e-9
            intervals.put(device_id, low, high)
            truth[device_id] = (low, high)
        value = rng.randrange(10) / 10
        outside = sorted(d for d, (low, high) in truth.items() if not low <= value < high)
        assert sorted(set(intervals.left_by(value))) == outside
    assert len(intervals) == len([1 for low, high in truth.values() if (low, high) != (-math.inf, math.inf)])
