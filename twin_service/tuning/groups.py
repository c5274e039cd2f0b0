"""Situations that recorded tasks met, few enough for each to be evaluated under many weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from twin_service.decision.situation import MAX_BUSY_SHARE, Situation
from twin_service.workload.conditions import Conditions
from twin_service.workload.replayed import Replayed
from twinsplit.model.manifest import Manifest

MAX_GROUPS = 24
"""Situations told apart at most, beside the device's busy share; an evaluation of the rule takes some milliseconds."""
_SHARES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Neighbouring values of a number differ by so much; the first that gives few enough groups is taken."""
_STATISTICS_COARSER = 8.0
"""Task rate and statistics of the backlog count for little within one task, and are rounded so much more coarsely."""
BUSY_STEP = 0.25
"""Neighbouring idle shares of a device differ by so much."""


class Weighting(NamedTuple):
    """alpha and beta."""

    alpha_s: float
    beta_s_per_joule: float


class Sending(NamedTuple):
    """One payload of one epoch in a representation."""

    encode_s: float
    upload_s: float
    """On the wire, alone."""
    loss: float
    """Accuracy that the representation costs."""


@dataclass(slots=True)
class Group:
    """Tasks met in about the same situation."""

    conditions: Conditions
    compute_watts: float
    task_rate_per_s: float
    _sendings: dict[tuple[int, int], Sending] = field(default_factory=dict)

    def situation(self, manifest: Manifest, weighting: Weighting, busy_share: float) -> Situation:
        """The situation under these weights."""
        return self.conditions.situation(
            manifest,
            alpha_s=weighting.alpha_s,
            beta_s_per_joule=weighting.beta_s_per_joule,
            compute_watts=self.compute_watts,
            task_rate_per_s=self.task_rate_per_s,
            busy_share=busy_share,
        )

    def sending(self, manifest: Manifest, cut: int, position: int) -> Sending:
        """The tensor of ``cut`` in the representation at ``position``."""
        found = self._sendings.get((cut, position))
        if found is None:
            entry = manifest.cuts[cut].representations[position]
            encode_s = self.conditions.encode_s.get((cut, position), entry.encode_s)
            found = Sending(encode_s, entry.mean_bytes / self.conditions.goodput_bytes_per_s, entry.loss)
            self._sendings[cut, position] = found
        return found


def grouped(tasks: Sequence[Replayed], conditions: Sequence[Conditions]) -> tuple[list[Group], list[int]]:
    """Groups, and the number of its group for every task; as fine as leaves :data:`MAX_GROUPS` of them."""
    for share in _SHARES:
        numbers: dict[tuple[object, ...], int] = {}
        group_of = [
            numbers.setdefault(_key(task, met, share), len(numbers))
            for task, met in zip(tasks, conditions, strict=True)
        ]
        if len(numbers) <= MAX_GROUPS:
            break
    members: list[list[int]] = [[] for _ in numbers]
    for index, number in enumerate(group_of):
        members[number].append(index)
    # One of the middle stands for all.
    return [_group(tasks[each[len(each) // 2]]) for each in members], group_of


def _group(task: Replayed) -> Group:
    assert task.conditions is not None, "checked before"
    return Group(task.conditions, task.compute_watts, task.task_rate_per_s)


def _key(task: Replayed, met: Conditions, share: float) -> tuple[object, ...]:
    coarse = _STATISTICS_COARSER * share
    return (
        met.tail_s is None,
        met.is_tensors_only,
        met.is_waiting_priced_up,
        _rounded(sum(met.segment_s), share),
        _rounded(sum(met.tail_s or ()), share),
        _rounded(sum(met.encode_s.values()), share),
        _rounded(met.goodput_bytes_per_s, share),
        _rounded(met.overhead_s + 0.01, share),
        _rounded(task.compute_watts, share),
        _rounded(met.transmit_watts, share),
        _rounded(task.task_rate_per_s + 0.1, coarse),
        _rounded(met.backlog_mean_s + 0.02, coarse),
        _rounded(met.backlog_time_constant_s, coarse),
    )


def _rounded(value: float, share: float) -> int:
    return round(math.log(max(value, 1e-6)) / math.log1p(share))


def busy_level(busy_share: float) -> int:
    """Number of the grid point next to a busy share; see :func:`level_share`."""
    idle = 1.0 - min(max(busy_share, 0.0), MAX_BUSY_SHARE)
    return round(-math.log(idle) / math.log1p(BUSY_STEP))


def level_share(level: int) -> float:
    """Busy share of a grid point."""
    return min(1.0 - (1.0 + BUSY_STEP) ** -level, MAX_BUSY_SHARE)
