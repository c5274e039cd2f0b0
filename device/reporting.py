"""Which report is due to the twin, and when. Sans-IO.

The device knows what the twin believes, since both run ``twinsplit.reckoning`` on the same numbers. One report per
ended task also tells what started; a task that starts without such a report to carry it is announced at once, unless
it leaves the device again at once, too; a task in service is mentioned again only when it leaves the report threshold;
a heartbeat fills silence (design sections 4 and 6). What the edge answers while another task is in service changes
nothing in what the device does: the record waits for the next report. It does not wait on an idle device, for whose
next task the twin must know what backlog the device heard of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from device.health import Health
from device.reports import DeviceState, Heartbeat, ProgressReport, Report, Started, StartReport, TaskReport
from device.self_mirror import FieldLayers, SelfMirror, Truth
from device.tracking import Tracker
from twinsplit.edge_list import EdgeLink
from twinsplit.model.manifest import Manifest
from twinsplit.reckoning import LEAST_MIRRORED_SHARE, ProgressModel, task_boundaries_s
from twinsplit.types import Outcome, TaskRecord

_LINK_SHARE = 0.1
"""A way to an edge is told again when a number of it has moved by more than this share."""
_PROFILE_SHARE = 0.1
"""A tracked profile is sent again when it has moved by more than this share of the report threshold."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What the pipeline adds to a report that is due."""

    queue_length: int
    is_edge_reachable: bool
    is_degraded: bool
    entered: int
    lost: int
    links: tuple[EdgeLink, ...] = ()
    """Ways to the edges of the twin's list."""


class Reporter:
    """Is told what happens and says which report is due."""

    def __init__(
        self,
        manifest: Manifest,
        tracker: Tracker,
        *,
        report_threshold_s: float = 0.01,
        heartbeat_s: float = 5.0,
    ) -> None:
        """
        Args:
            tracker: its times are what the twin is told at attachment (see :meth:`profile_reported`).
            report_threshold_s: truth and prediction may differ by so much, seconds.
        """
        self.report_threshold_s = report_threshold_s
        self.heartbeat_s = heartbeat_s
        self._exit_after = manifest.exit_after
        self._tracker = tracker
        self._segment_s: tuple[float, ...] = ()
        self._exit_s: tuple[float, ...] = ()
        self._exits_run = (False,) * len(manifest.exits)
        self._boundaries: dict[int, tuple[float, ...]] = {}
        self._serving: Started | None = None
        self._does_stay = False
        self._told: Started | None = None
        self._believed: ProgressModel | None = None
        self._epoch_told = 0
        self._mirror = SelfMirror()
        self._late_at: tuple[int, float] | None = None
        self._ended: list[TaskRecord] = []
        self._is_ended_due = False
        self._is_speed_due = False
        self.health = Health()
        """As last seen."""
        self._links_told: dict[str, EdgeLink] = {}
        # No heartbeat before a twin has attached.
        self._last_sent_s = float("inf")
        self.profile_reported()

    @property
    def serving(self) -> Started | None:
        """The task in service; ``None``: idle."""
        return self._serving

    def profile_reported(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The tracked (segment, exit) times, which the twin is told now."""
        self._segment_s = tuple(self._tracker.segment_s)
        self._exit_s = tuple(self._tracker.exit_s)
        self._boundaries.clear()
        return self._segment_s, self._exit_s

    def forgotten(self) -> None:
        """The twin has attached anew and believes nothing yet: a heartbeat is due, which tells it all."""
        self._told = self._believed = None
        self._late_at = None
        self._last_sent_s = float("-inf")
        self._mirror.forgotten()
        self._links_told.clear()

    def plan_stands(self, exits_run: tuple[bool, ...], now_s: float) -> None:
        """A plan has arrived by which these exits are run; the twin reckons with them from now on, too."""
        if exits_run == self._exits_run:
            return
        self._exits_run = exits_run
        self._boundaries.clear()
        if self._believed is not None:
            epoch = min(self._believed.epoch_at(now_s), len(self._segment_s) - 1)
            self._anchor(epoch, self._believed.reached_at_s(epoch))

    def service_started(self, task_id: int, now_s: float, first_epoch: int) -> None:
        """A task entered service, having done ``first_epoch`` segments before."""
        self._serving = Started(task_id, now_s, first_epoch)
        self._does_stay = False

    def service_lasts(self, seconds: float) -> None:
        """The task in service will not leave the device before so long."""
        self._does_stay |= seconds > LEAST_MIRRORED_SHARE * self.report_threshold_s

    def epoch_reached(self, epoch: int, now_s: float) -> None:
        """The task in service reached decision epoch ``epoch``."""
        believed = self._believed
        if believed is None or self._told != self._serving:
            return
        if abs(believed.deviation_s(epoch, now_s)) > self.report_threshold_s:
            self._late_at = (epoch, now_s)

    def service_ended(self) -> None:
        """The device works on the task no longer; its end may still be open."""
        self._serving = None
        self._late_at = None

    def task_ended(self, record: TaskRecord) -> None:
        """A task has its outcome."""
        self._ended.append(record)
        self._is_ended_due |= record.outcome is not Outcome.EDGE

    def health_seen(self, health: Health) -> None:
        """The machine was looked at. Another speed is told at once: every plan ahead was made for the old one."""
        if health.speed_share is not None:
            self._is_speed_due |= self._tracker.speed_seen(health.speed_share)
            health = replace(health, speed_share=self._tracker.speed_share)
        self.health = health

    def is_due(self, now_s: float) -> bool:
        """Whether something is to be told now."""
        return (
            self._does_end_count
            or self._is_speed_due
            or self._late_at is not None
            or (self._serving is not None and self._told != self._serving and self._does_stay)
            or now_s >= self.next_heartbeat_s
        )

    def due(self, now_s: float, condition: Condition) -> Report:
        """The report that :meth:`is_due` spoke of; it counts as sent. Of several, the one that tells most."""
        report = self._due(now_s, condition)
        state = report.state if isinstance(report, TaskReport | Heartbeat) else None
        self._mirror.told(condition.queue_length, state, now_s)
        return report

    def asked(self, now_s: float, condition: Condition) -> DeviceState:
        """The twin has asked for the state, and gets it."""
        state = self.state(condition)
        self._mirror.told(condition.queue_length, state, now_s)
        return state

    def report_age_s(self, now_s: float) -> float | None:
        """Age of what the twin was told last, seconds; ``None``: nothing since it attached."""
        return self._mirror.report_age_s(now_s)

    def layers(self, truth: Truth, now_s: float) -> Iterator[FieldLayers]:
        """Mirrored fields as the twin was told, as it predicts them, and as they are."""
        return self._mirror.layers(truth, self._believed, self._epoch_told, sum(self._segment_s), now_s)

    def _due(self, now_s: float, condition: Condition) -> Report:
        is_silent = now_s >= self.next_heartbeat_s
        self._last_sent_s = now_s
        serving = self._serving
        is_new = serving is not None and self._told != serving
        if is_silent or self._is_speed_due or self._does_end_count or (is_new and self._ended):
            state = self.state(condition)
            self._tell(serving)
            if not self._ended:
                return Heartbeat(serving, condition.queue_length, state)
            ended, self._ended, self._is_ended_due = tuple(self._ended), [], False
            return TaskReport(ended, serving, condition.queue_length, state)
        assert serving is not None, "what else is due concerns the task in service"
        if is_new:
            self._tell(serving)
            return StartReport(serving, condition.queue_length)
        assert self._late_at is not None, "nothing else is left"
        (epoch, reached_at_s), self._late_at = self._late_at, None
        self._epoch_told = epoch
        self._anchor(epoch, reached_at_s)
        return ProgressReport(serving.task_id, epoch, reached_at_s, condition.queue_length)

    def state(self, condition: Condition) -> DeviceState:
        """How the device does; tracked times are part of it where they have moved since they were last told."""
        tracker = self._tracker
        moved_s = sum(
            abs(now - told)
            for now, told in zip((*tracker.segment_s, *tracker.exit_s), (*self._segment_s, *self._exit_s), strict=True)
        )
        segment_s: tuple[float, ...] = ()
        exit_s: tuple[float, ...] = ()
        if moved_s > _PROFILE_SHARE * self.report_threshold_s:
            segment_s, exit_s = self.profile_reported()
        self._is_speed_due = False
        return DeviceState(
            goodput_bytes_per_s=tracker.goodput_bytes_per_s,
            round_trip_s=tracker.round_trip_s,
            segment_s=segment_s,
            exit_s=exit_s,
            is_edge_reachable=condition.is_edge_reachable,
            is_degraded=condition.is_degraded,
            entered=condition.entered,
            lost=condition.lost,
            health=self.health,
            links=self._moved(condition.links),
        )

    def _moved(self, links: tuple[EdgeLink, ...]) -> tuple[EdgeLink, ...]:
        """Those of ``links`` that have moved since they were last told; they count as told."""
        moved = tuple(link for link in links if _has_moved(self._links_told.get(link.edge_id), link))
        self._links_told = {link.edge_id: self._links_told.get(link.edge_id, link) for link in links}
        self._links_told.update({link.edge_id: link for link in moved})
        return moved

    @property
    def next_heartbeat_s(self) -> float:
        """Instant at which a heartbeat is due unless something else is sent before."""
        return self._last_sent_s + self.heartbeat_s

    @property
    def _does_end_count(self) -> bool:
        return self._is_ended_due or (bool(self._ended) and self._serving is None)

    def _tell(self, serving: Started | None) -> None:
        """The twin hears what is in service; of a task that it knows already it keeps what it knows of its progress."""
        if serving is None:
            self._told = self._believed = None
        elif self._told != serving:
            self._told = serving
            self._late_at = None
            self._epoch_told = serving.first_epoch
            self._believed = ProgressModel(serving.task_id, serving.at_s, self._boundaries_s(serving.first_epoch))

    def _anchor(self, epoch: int, reached_at_s: float) -> None:
        """The twin believes that the task reached ``epoch`` at ``reached_at_s`` and goes on by the profile."""
        if self._told is not None:
            boundaries_s = self._boundaries_s(self._told.first_epoch)
            elapsed_s = boundaries_s[epoch - 1] if epoch else 0.0
            self._believed = ProgressModel(self._told.task_id, reached_at_s - elapsed_s, boundaries_s)

    def _boundaries_s(self, first_epoch: int) -> tuple[float, ...]:
        boundaries_s = self._boundaries.get(first_epoch)
        if boundaries_s is None:
            boundaries_s = task_boundaries_s(
                self._segment_s, self._exit_s, self._exit_after, self._exits_run, first_epoch
            )
            self._boundaries[first_epoch] = boundaries_s
        return boundaries_s


def _has_moved(told: EdgeLink | None, now: EdgeLink) -> bool:
    if told is None or told.is_reachable != now.is_reachable:
        return True
    pairs = ((told.goodput_bytes_per_s, now.goodput_bytes_per_s), (told.round_trip_s, now.round_trip_s))
    return any(
        (before is None) != (after is None) or abs((after or 0.0) - (before or 0.0)) > _LINK_SHARE * (before or 0.0)
        for before, after in pairs
    )
