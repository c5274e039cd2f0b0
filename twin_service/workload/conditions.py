"""What a task met beside its own course: times of device and edge, link, statistics; and how that is kept with it.

Rules are evaluated again on recorded tasks for other weights (``twinsplit twin tune``): this is what such an evaluation
takes. Bytes are a header of fixed fields, then the numbers, little-endian.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from twin_service.decision.situation import Situation, Weights
from twinsplit.errors import ReplayError
from twinsplit.model.manifest import Manifest

_HEADER = struct.Struct("<5HB6f")
_ENTRY = struct.Struct("<HHf")
_LARGEST_SINGLE = float(np.finfo(np.float32).max)
_HAS_EDGE, _TENSORS_ONLY, _PRICED_UP = 1, 2, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """A :class:`~twin_service.decision.situation.Situation` without what the task's record has itself or the manifest
    says. Times in seconds, as single-precision numbers once they were kept."""

    exits_run: tuple[bool, ...]
    """Exits that the device's plan has it run."""
    segment_s: tuple[float, ...]
    exit_s: tuple[float, ...]
    """Time of every exit."""
    tail_s: tuple[float, ...] | None
    """``None``: no edge held the model."""
    encode_s: Mapping[tuple[int, int], float]
    goodput_bytes_per_s: float
    overhead_s: float
    backlog_mean_s: float
    backlog_time_constant_s: float
    transmit_watts: float
    deadline_s: float | None
    is_tensors_only: bool
    is_waiting_priced_up: bool

    @classmethod
    def of(cls, situation: Situation, exits_run: tuple[bool, ...]) -> Conditions:
        """Those of ``situation``."""
        weights = situation.weights
        return cls(
            exits_run=exits_run,
            segment_s=situation.segment_s,
            exit_s=situation.exit_s,
            tail_s=situation.tail_s,
            encode_s=situation.encode_s,
            goodput_bytes_per_s=situation.goodput_bytes_per_s,
            overhead_s=situation.overhead_s,
            backlog_mean_s=situation.backlog_mean_s,
            backlog_time_constant_s=situation.backlog_time_constant_s,
            transmit_watts=weights.transmit_watts,
            deadline_s=weights.deadline_s,
            is_tensors_only=situation.is_tensors_only,
            is_waiting_priced_up=weights.is_waiting_priced_up,
        )

    def situation(
        self,
        manifest: Manifest,
        *,
        alpha_s: float,
        beta_s_per_joule: float,
        compute_watts: float,
        task_rate_per_s: float,
        busy_share: float,
    ) -> Situation:
        """The situation with these weights, rate and busy share."""
        weights = Weights(
            alpha_s=alpha_s,
            beta_s_per_joule=beta_s_per_joule,
            compute_watts=compute_watts,
            transmit_watts=self.transmit_watts,
            deadline_s=self.deadline_s,
            is_waiting_priced_up=self.is_waiting_priced_up,
        )
        return Situation(
            manifest=manifest,
            weights=weights,
            segment_s=self.segment_s,
            exit_s=self.exit_s,
            encode_s=self.encode_s,
            tail_s=self.tail_s,
            goodput_bytes_per_s=self.goodput_bytes_per_s,
            overhead_s=self.overhead_s,
            task_rate_per_s=task_rate_per_s,
            busy_share=busy_share,
            is_tensors_only=self.is_tensors_only,
            backlog_mean_s=self.backlog_mean_s,
            backlog_time_constant_s=self.backlog_time_constant_s,
        )

    def to_bytes(self) -> bytes:
        """The conditions as they are kept behind a record."""
        tail_s = () if self.tail_s is None else self.tail_s
        flags = (
            _HAS_EDGE * (self.tail_s is not None)
            + _TENSORS_ONLY * self.is_tensors_only
            + _PRICED_UP * self.is_waiting_priced_up
        )
        header = _HEADER.pack(
            len(self.exits_run),
            len(self.segment_s),
            len(self.exit_s),
            len(tail_s),
            len(self.encode_s),
            flags,
            *map(_single, (self.goodput_bytes_per_s, self.overhead_s, self.backlog_mean_s)),
            *map(_single, (self.backlog_time_constant_s, self.transmit_watts)),
            math.nan if self.deadline_s is None else _single(self.deadline_s),
        )
        times = np.array(
            [_single(time_s) for time_s in (*self.segment_s, *self.exit_s, *tail_s)], dtype="<f4"
        ).tobytes()
        entries = b"".join(_ENTRY.pack(*key, _single(encode_s)) for key, encode_s in self.encode_s.items())
        return header + bytes(self.exits_run) + times + entries

    @classmethod
    def from_bytes(cls, data: bytes) -> Conditions:
        """The conditions that :meth:`to_bytes` wrote.

        Raises:
            ReplayError: they do not fit their own header.
        """
        if len(data) < _HEADER.size:
            raise ReplayError(_UNFIT)
        exits_run, segments, exits, tails, entries, flags, *numbers = _HEADER.unpack_from(data)
        times_at = _HEADER.size + exits_run
        entries_at = times_at + 4 * (segments + exits + tails)
        if len(data) != entries_at + _ENTRY.size * entries:
            raise ReplayError(_UNFIT)
        times = np.frombuffer(data[times_at:entries_at], dtype="<f4").tolist()
        goodput, overhead_s, mean_s, time_constant_s, transmit_watts, deadline_s = numbers
        return cls(
            exits_run=tuple(bool(is_run) for is_run in data[_HEADER.size : times_at]),
            segment_s=tuple(times[:segments]),
            exit_s=tuple(times[segments : segments + exits]),
            tail_s=tuple(times[segments + exits :]) if flags & _HAS_EDGE else None,
            encode_s={(cut, position): each_s for cut, position, each_s in _ENTRY.iter_unpack(data[entries_at:])},
            goodput_bytes_per_s=goodput,
            overhead_s=overhead_s,
            backlog_mean_s=mean_s,
            backlog_time_constant_s=time_constant_s,
            transmit_watts=transmit_watts,
            deadline_s=None if math.isnan(deadline_s) else deadline_s,
            is_tensors_only=bool(flags & _TENSORS_ONLY),
            is_waiting_priced_up=bool(flags & _PRICED_UP),
        )


def _single(value: float) -> float:
    """The nearest number that single precision has."""
    return min(max(value, -_LARGEST_SINGLE), _LARGEST_SINGLE)


_UNFIT = "the conditions of a replayed task do not fit their own header; it is left out and nothing else is lost"
