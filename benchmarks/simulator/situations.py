"""What a rule is told about a simulated device: what the scenario states, and tracked numbers on a coarse grid.

An evaluation of a rule takes milliseconds and a task a fraction of one, so situations must recur. Tracked numbers are
rounded to a logarithmic grid, as fine as the decisions are sensitive to them; queue and backlog are never rounded.
"""

from __future__ import annotations

import math

from benchmarks.scenario import Scenario
from benchmarks.simulator.speeds import Speeds
from twin_service.decision.situation import MAX_BUSY_SHARE, Situation
from twinsplit.model.manifest import Manifest
from twinsplit.types import Payloads

RATE_SHARE = 0.25
"""Neighbours on the grid of task rates, and of idle shares of the device, differ by so much."""
STATISTICS_SHARE = 0.8
"""Mean and time constant of the backlog, which count for little within one task. (With all shares at 3-5 % twenty times
as many evaluations changed the cost of open-loop and one-time by 0.1 % at most in two scenarios.)"""
UPLINK_SHARE = 0.3
"""Time for which the uplink is busy."""
GOODPUT_SHARE = 0.05
"""Goodput, where it can take any value."""
_LEAST_S = 0.005
"""Less is as good as nothing."""
_LEAST_RATE = 0.01


class SituationGrid:
    """Situations of the devices of one kind, each made once."""

    def __init__(self, scenario: Scenario, manifest: Manifest, speeds: Speeds) -> None:
        self._scenario = scenario
        self._manifest = manifest
        self._speeds = speeds
        self._is_goodput_rounded = scenario.uplink == "trace"
        self._found: dict[tuple[float, ...], Situation] = {}

    def __len__(self) -> int:
        return len(self._found)

    def key(
        self,
        *,
        task_rate_per_s: float,
        busy_share: float,
        backlog_mean_s: float,
        backlog_time_constant_s: float,
    ) -> tuple[float, float, float, float]:
        """Nearest point of the grid for what is tracked over many tasks."""
        return (
            _rounded(max(task_rate_per_s, _LEAST_RATE), RATE_SHARE),
            1.0 - min(_rounded(1.0 - min(max(busy_share, 0.0), MAX_BUSY_SHARE), RATE_SHARE), 1.0),
            0.0 if backlog_mean_s < _LEAST_S else _rounded(backlog_mean_s, STATISTICS_SHARE),
            _rounded(backlog_time_constant_s, STATISTICS_SHARE),
        )

    def at(
        self, key: tuple[float, float, float, float], *, goodput_bytes_per_s: float, uplink_busy_s: float
    ) -> Situation:
        """The situation there with the uplink as it is; the same object for the same point of the grid."""
        goodput = _rounded(goodput_bytes_per_s, GOODPUT_SHARE) if self._is_goodput_rounded else goodput_bytes_per_s
        busy_s = 0.0 if uplink_busy_s < _LEAST_S else _rounded(uplink_busy_s, UPLINK_SHARE)
        found = self._found.get((*key, goodput, busy_s))
        if found is None:
            found = self._found[(*key, goodput, busy_s)] = self._situation(*key, goodput, busy_s)
        return found

    def _situation(
        self, rate: float, busy_share: float, mean_s: float, time_constant_s: float, goodput: float, uplink_s: float
    ) -> Situation:
        scenario, speeds = self._scenario, self._speeds
        return Situation(
            manifest=self._manifest,
            weights=scenario.weights,
            segment_s=speeds.segment_s,
            exit_s=speeds.exit_s,
            encode_s=speeds.encode_s,
            tail_s=speeds.tail_s,
            goodput_bytes_per_s=goodput,
            overhead_s=2.0 * scenario.uplink_delay_s + scenario.uplink_jitter_s,
            task_rate_per_s=rate,
            busy_share=busy_share,
            uplink_busy_s=uplink_s,
            is_tensors_only=scenario.payloads is Payloads.TENSORS_ONLY,
            backlog_mean_s=mean_s,
            backlog_time_constant_s=time_constant_s,
        )


def _rounded(value: float, share: float) -> float:
    """Nearest point of a logarithmic grid whose neighbours differ by ``share``."""
    step = math.log1p(share)
    return math.exp(step * round(math.log(value) / step))
