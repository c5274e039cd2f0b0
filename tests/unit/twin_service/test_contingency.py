from dataclasses import replace

import pytest

from tests.unit.twin_service.made_up_twins import EXIT_S, MANIFEST, SEGMENT_S, StepRule, manifest_bytes
from twin_service.contingency import NEVER_LEAVE, contingency_of
from twin_service.decision.situation import Situation, Weights
from twinsplit.model.manifest import parse_manifest


def situation(**changes: object) -> Situation:
    base = Situation(
        MANIFEST,
        Weights(alpha_s=2.5, beta_s_per_joule=0.0),
        SEGMENT_S,
        EXIT_S,
        {},
        (0.03, 0.02, 0.01),
        goodput_bytes_per_s=1e6,
        overhead_s=0.002,
        task_rate_per_s=1.0,
        busy_share=0.2,
    )
    return replace(base, **changes)


def test_the_threshold_is_the_least_bin_that_is_not_worth_going_on_from() -> None:
    # Going on costs 0.2 s. It gains 2.5 * (0.8 - 0.6) = 0.5 s in the poor bin, 2.5 * 0.02 = 0.05 s in the good one.
    assert contingency_of(situation(), StepRule().table(situation())).exit_thresholds == (0.95,)


def test_where_accuracy_is_cheap_every_bin_leaves_and_where_time_is_none_does() -> None:
    hasty = situation(weights=Weights(alpha_s=0.1, beta_s_per_joule=0.0))
    assert contingency_of(hasty, StepRule().table(hasty)).exit_thresholds == (0.6,)
    patient = situation(weights=Weights(alpha_s=100.0, beta_s_per_joule=0.0))
    assert contingency_of(patient, StepRule().table(patient)).exit_thresholds == (NEVER_LEAVE,)


def test_the_cut_is_the_cheapest_at_the_mean_backlog() -> None:
    near = situation()
    table = replace(StepRule().table(near), input_representations=(0, -1, -1, -1))
    assert contingency_of(near, table).cut == 0
    assert contingency_of(near, StepRule().table(near)).cut == 1, "no input may be sent, so the first inner cut"
    far = situation(backlog_mean_s=5.0)
    assert contingency_of(far, table).cut is None


def test_without_an_edge_there_is_no_cut() -> None:
    alone = situation(tail_s=None)
    assert contingency_of(alone, StepRule().table(alone)).cut is None


def test_a_device_with_only_the_head_offloads_whatever_it_costs_or_answers_by_its_last_exit() -> None:
    head_only = situation(
        manifest=parse_manifest(manifest_bytes(device_segments=2)), segment_s=SEGMENT_S[:2], backlog_mean_s=50.0
    )
    contingency = contingency_of(head_only, StepRule().table(head_only))
    assert contingency.cut is not None
    assert contingency.exit_thresholds == (0.0,)


def test_an_exit_beyond_the_head_never_answers() -> None:
    head_only = situation(manifest=parse_manifest(manifest_bytes(device_segments=1)), segment_s=SEGMENT_S[:1])
    late_exit = head_only.manifest.exits[0].model_copy(update={"after_segment": 2})
    head_only = replace(head_only, manifest=head_only.manifest.model_copy(update={"exits": (late_exit,)}))
    assert contingency_of(head_only, StepRule().table(head_only)).exit_thresholds == (NEVER_LEAVE,)


def test_energy_counts() -> None:
    thrifty = situation(weights=Weights(alpha_s=2.5, beta_s_per_joule=1.0, compute_watts=10.0))
    assert contingency_of(thrifty, StepRule().table(thrifty)).exit_thresholds == (pytest.approx(0.6),)
