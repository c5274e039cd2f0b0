"""What a device does without a lease: made from manifest and weights, for an edge of which only the mean is known."""

from __future__ import annotations

from twin_service.decision.situation import Situation
from twin_service.decision.tables import PlanTable
from twinsplit.model.manifest import Exit, RepresentationEntry
from twinsplit.plan import NO_REPRESENTATION, Contingency

NEVER_LEAVE = 1.01
"""A threshold that no probability reaches."""


def contingency_of(situation: Situation, table: PlanTable) -> Contingency:
    """Exit thresholds against finishing on the device, and the cut that is best at the edge's mean backlog."""
    return Contingency(
        tuple(_exit_threshold(e, situation) for e in situation.manifest.exits),
        _best_cut(situation, table),
    )


def _second_s(situation: Situation) -> float:
    """Utility that a second of computing costs."""
    return 1.0 + situation.weights.beta_s_per_joule * situation.weights.compute_watts


def _exit_threshold(e: Exit, situation: Situation) -> float:
    """Least P(right) from which on every bin answers better here than by going on alone."""
    manifest, alpha_s = situation.manifest, situation.weights.alpha_s
    held = [other for other in manifest.exits if other.after_segment <= manifest.held_segments]
    if e not in held:
        return NEVER_LEAVE
    if manifest.held_segments == manifest.segment_count:
        later_right = e.p_whole_right
        rest_s = sum(situation.segment_s[e.after_segment :])
    elif e is held[-1]:  # nothing better can follow on a device that holds only the head
        return 0.0
    else:
        later_right = (held[-1].accuracy,) * len(e.p_right)
        rest_s = sum(situation.segment_s[e.after_segment : held[-1].after_segment])
    threshold = NEVER_LEAVE
    for p_right, p_later in sorted(zip(e.p_right, later_right, strict=True), reverse=True):
        if alpha_s * p_right < alpha_s * p_later - _second_s(situation) * rest_s:
            break
        threshold = p_right
    return threshold


def _best_cut(situation: Situation, table: PlanTable) -> int | None:
    """Cut whose offload costs least and less than finishing here; ``None``: stay."""
    manifest = situation.manifest
    if situation.tail_s is None:
        return None
    whole_s = _second_s(situation) * sum(situation.segment_s)
    least_s = whole_s if manifest.held_segments == manifest.segment_count else float("inf")
    best = None
    for cut in range(min(manifest.held_segments + 1, manifest.segment_count)):
        position = (table.tensor_representations if cut else table.input_representations)[cut]
        if position == NO_REPRESENTATION:
            continue
        cost_s = _offload_cost_s(situation, cut, position, manifest.cuts[cut].representations[position])
        if cost_s < least_s:
            best, least_s = cut, cost_s
    return best


def _offload_cost_s(situation: Situation, cut: int, position: int, entry: RepresentationEntry) -> float:
    assert situation.tail_s is not None
    weights = situation.weights
    encode_s = situation.encode_s.get((cut, position), entry.encode_s)
    upload_s = entry.mean_bytes / situation.goodput_bytes_per_s
    return (
        _second_s(situation) * (sum(situation.segment_s[:cut]) + encode_s)
        + upload_s * (1.0 + weights.beta_s_per_joule * weights.transmit_watts)
        + situation.overhead_s
        + situation.backlog_mean_s
        + situation.tail_s[cut]
        + weights.alpha_s * entry.loss
    )
