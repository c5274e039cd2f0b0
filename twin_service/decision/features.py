"""What the learned corrections are made of (design section 5), at fixed scales.

Times and counts enter as ``log1p(value / unit)``: what is far beyond the unit still differs, and no burst drives the
net where it was never trained. A change here is a change of :data:`FEATURE_NAMES`, which weights are bound to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEATURE_NAMES = (
    "epoch_share",
    "p_exit_right",
    "p_whole_right",
    "has_evidence",
    "queue_log1p",
    "backlog_log1p",
    "uplink_busy_log1p",
    "arrived_0_25s_log1p",
    "arrived_1s_log1p",
    "arrived_4s_log1p",
    "task_rate_log1p",
    "busy_share",
    "lead_s",
)
FEATURE_COUNT = len(FEATURE_NAMES)
STALE_IN_PLANS = ("uplink_busy_log1p", "arrived_0_25s_log1p", "arrived_1s_log1p", "arrived_4s_log1p")
"""What changes within the life of a plan and what a net that serves by plans does not see afresh: of the uplink a plan
tells at most two waits apart, of arrived work nothing since it was made."""
TIME_UNIT_S = 0.2
"""Unit of backlog, busy uplink and arrived work."""
MAX_LEAD_S = 3.0
"""Best P0 less C0 is cut off here on both sides: beyond, nothing is to decide (and what is impossible is no number)."""


@dataclass(frozen=True, slots=True)
class Points:
    """Points of decision as arrays that broadcast; times in seconds."""

    epoch_share: ArrayLike
    """Epoch over the last one that the device can reach."""
    evidence: NDArray[np.int64]
    p_exit_right: NDArray[np.float64]
    """By evidence state."""
    p_whole_right: NDArray[np.float64]
    """Likewise."""
    queue: ArrayLike
    backlog_s: ArrayLike
    uplink_busy_s: ArrayLike
    arrived_work_s: Sequence[ArrayLike]
    """In the last 0.25, 1 and 4 s."""
    task_rate_per_s: ArrayLike
    busy_share: ArrayLike
    lead_s: ArrayLike
    """Best P0 less C0."""


def features(points: Points) -> NDArray[np.float32]:
    """One row per point.  # (..., FEATURE_COUNT) float32"""
    quarter_s, one_s, four_s = points.arrived_work_s
    columns = (
        points.epoch_share,
        points.p_exit_right[points.evidence],
        points.p_whole_right[points.evidence],
        points.evidence > 0,
        np.log1p(points.queue),
        np.log1p(np.asarray(points.backlog_s) / TIME_UNIT_S),
        np.log1p(np.asarray(points.uplink_busy_s) / TIME_UNIT_S),
        np.log1p(np.asarray(quarter_s) / TIME_UNIT_S),
        np.log1p(np.asarray(one_s) / TIME_UNIT_S),
        np.log1p(np.asarray(four_s) / TIME_UNIT_S),
        np.log1p(points.task_rate_per_s),
        points.busy_share,
        np.clip(points.lead_s, -MAX_LEAD_S, MAX_LEAD_S),
    )
    found = np.empty((*np.broadcast_shapes(*(np.shape(column) for column in columns)), FEATURE_COUNT), np.float32)
    for index, column in enumerate(columns):
        found[..., index] = column
    return found


def point_features(
    epoch_share: float,
    p_exit_right: float,
    p_whole_right: float,
    has_evidence: bool,
    queue: float,
    backlog_s: float,
    uplink_busy_s: float,
    arrived_work_s: tuple[float, ...],
    task_rate_per_s: float,
    busy_share: float,
    lead_s: float,
) -> NDArray[np.float32]:
    """The row of one point, as :func:`features` has it, without arrays on the way.  # (FEATURE_COUNT,) float32"""
    log1p = math.log1p
    return np.array(
        (
            epoch_share,
            p_exit_right,
            p_whole_right,
            has_evidence,
            log1p(queue),
            log1p(backlog_s / TIME_UNIT_S),
            log1p(uplink_busy_s / TIME_UNIT_S),
            log1p(arrived_work_s[0] / TIME_UNIT_S),
            log1p(arrived_work_s[1] / TIME_UNIT_S),
            log1p(arrived_work_s[2] / TIME_UNIT_S),
            log1p(task_rate_per_s),
            busy_share,
            min(max(lead_s, -MAX_LEAD_S), MAX_LEAD_S),
        ),
        dtype=np.float32,
    )
