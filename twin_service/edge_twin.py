"""The twin of one edge: its backlog between reports, what arrives there, how fast it is (design section 6)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from twin_service.fields import FieldView, MirroredField
from twin_service.messages import BacklogReport, EdgeHello
from twinsplit.reckoning import BACKLOG_MEAN_HORIZON_S, BacklogState, DecayingRate, predicted_backlog_s

_KEPT_READINGS = 64
_SPEED_FACTOR_RANGE = (0.05, 20.0)
"""Beyond this a speed factor is a broken clock or a stalled machine, and planning goes on with the bound."""
HORIZON_NAMES = ("arrived_work_0_25s", "arrived_work_1s", "arrived_work_4s")


class EdgeTwin:
    """What is known and believed of one edge. Instants are on the twin's monotonic clock."""

    def __init__(self, hello: EdgeHello, now_s: float, stream: int = 0) -> None:
        self.edge_id = hello.edge_id
        self.stream = stream
        """Number of the stream that speaks for the edge."""
        self.address = hello.advertise_address
        self.addresses = frozenset({hello.advertise_address, *hello.other_addresses})
        """All under which a device may have been told it."""
        self.models: Mapping[str, tuple[float, ...]] = dict(hello.models)
        self.version = hello.version
        self.is_attached = True
        self.speed_factor = 1.0
        self.busy_share = 0.0
        """Share of the time that it was busy, over as long as the mean of its backlog is taken."""
        self.told_ceiling_s: float | None = None
        """Backlog above which the edge knows that hardly any decision depends on it; ``None``: it was told none."""
        self.arrived_work_s: tuple[float, ...] = (0.0,) * len(HORIZON_NAMES)
        """Work that arrived within the last 0.25, 1 and 4 s as last reported, seconds of service."""
        self._tails_s: dict[str, tuple[float, ...]] = {}
        """By model, at the speed of now: asked for with every report of a device."""
        self.reading = BacklogState(0.0, now_s)
        """Newest reading of the backlog."""
        self._readings = deque([self.reading], maxlen=_KEPT_READINGS)
        self._reports = DecayingRate(now_s)
        self._busy_at_s = -math.inf
        names = ("backlog_s", "speed_factor", "queue_length", "busy_share", *HORIZON_NAMES)
        self._fields = {name: MirroredField() for name in names}
        if hello.backlog is not None:
            self.report(hello.backlog, now_s)

    def backlog_s(self, now_s: float) -> float:
        """Backlog expected at ``now_s``, seconds of service."""
        return predicted_backlog_s(self.reading, now_s)

    def expected_backlog_s(self, now_s: float, horizon_s: float, mean_s: float) -> float:
        """Mean of the backlog expected over the next ``horizon_s``, if its long-run mean is ``mean_s`` from now on,
        seconds of service."""
        share = self.reading.time_constant_s / horizon_s
        excess_s = self.backlog_s(now_s) - mean_s
        return max(0.0, mean_s + excess_s * share * -math.expm1(-1.0 / share))

    def backlog_field(self) -> MirroredField:
        """The backlog with the running error of its prediction."""
        return self._fields["backlog_s"]

    def reading_at(self, then_s: float) -> BacklogState:
        """What a device was told that heard from the edge itself at ``then_s``: our own belief of that instant."""
        known = self._readings[0]
        for reading in reversed(self._readings):
            if reading.at_s <= then_s:
                known = reading
                break
        return BacklogState(predicted_backlog_s(known, then_s), then_s, known.mean_s, known.time_constant_s)

    def report(self, report: BacklogReport, now_s: float) -> None:
        """The edge says how it stands. A reading older than the newest one changes nothing but the statistics."""
        backlog = report.backlog
        fields = self._fields
        fields["backlog_s"].report(backlog.backlog_s, backlog.at_s, expected=self.backlog_s(backlog.at_s))
        slowest, fastest = _SPEED_FACTOR_RANGE
        fields["speed_factor"].report(report.speed_factor, now_s, expected=self.speed_factor)
        speed_factor = min(max(report.speed_factor, slowest), fastest)
        if speed_factor != self.speed_factor:
            self._tails_s.clear()
        self.speed_factor = speed_factor
        fields["queue_length"].report(report.queue_length, now_s)
        fields["busy_share"].report(report.busy_share, now_s)
        kept = math.exp(-max(now_s - self._busy_at_s, 0.0) / BACKLOG_MEAN_HORIZON_S)
        self.busy_share = kept * self.busy_share + (1.0 - kept) * min(report.busy_share, 1.0)
        self._busy_at_s = now_s
        for name, work_s in zip(HORIZON_NAMES, report.arrived_work_s, strict=False):
            fields[name].report(work_s, now_s)
        self.arrived_work_s = tuple(fields[name].reported or 0.0 for name in HORIZON_NAMES)
        self._reports.add(1.0, now_s)
        if backlog.at_s >= self.reading.at_s:
            self.reading = backlog
            self._readings.append(backlog)

    def time_to_next_report_s(self, now_s: float) -> float:
        """Expected time until the edge reports again, seconds; ``inf`` before the first report."""
        rate = self._reports.per_second(now_s)
        return 1.0 / rate if rate > 0.0 else math.inf

    def tail_s(self, model_digest: str) -> tuple[float, ...] | None:
        """Service time of the tail after cut 0, 1, ... m-1 as measured lately; ``None``: not a model of this edge."""
        tail_s = self._tails_s.get(model_digest)
        if tail_s is None and (predicted := self.models.get(model_digest)) is not None:
            tail_s = self._tails_s[model_digest] = tuple(z * self.speed_factor for z in predicted)
        return tail_s

    def views(self, now_s: float) -> tuple[FieldView, ...]:
        """All fields as a reader sees them at ``now_s``."""
        return tuple(
            field.view(name, now_s, predicted=self.backlog_s(now_s) if name == "backlog_s" else None)
            for name, field in self._fields.items()
        )


def backlog_needed_s(reading: BacklogState, later_backlog_s: float, elapsed_s: float) -> float:
    """Least backlog now from which the predictor expects ``later_backlog_s`` (> 0) after ``elapsed_s``, seconds.

    The inverse of :func:`twinsplit.reckoning.predicted_backlog_s` for the mean and time constant of ``reading``; it may
    be negative: then every backlog gets there.
    """
    drained_s = later_backlog_s + elapsed_s
    growth = math.exp(min(elapsed_s / reading.time_constant_s, 700.0))
    reverted_s = reading.mean_s + (later_backlog_s - reading.mean_s) * growth
    return min(drained_s, reverted_s)


def crossing_s(reading: BacklogState, level_s: float) -> float:
    """Instant at which the predicted backlog comes to ``level_s``; ``inf`` if it never does or starts there."""
    start_s, mean_s = reading.backlog_s, reading.mean_s
    if not min(start_s, mean_s) < level_s < max(start_s, mean_s):
        return math.inf
    reverted_s = reading.time_constant_s * math.log((start_s - mean_s) / (level_s - mean_s))
    drained_s = start_s - level_s if start_s > level_s else 0.0
    return reading.at_s + max(drained_s, reverted_s)
