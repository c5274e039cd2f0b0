"""The twin service's metrics, read from its state at scrape (design section 9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from twin_service.exchange import Exchange
from twin_service.fields import MirroredField
from twin_service.learning.learner import Result
from twin_service.planner import Cause
from twin_service.store.interface import Store
from twinsplit.telemetry.exposition import Sample
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.transport.calls import CallCount
from twinsplit.types import Outcome

JUDGED_FIELDS = ("epoch", "queue_length", "goodput_bytes_per_s", "round_trip_s")
"""Fields of devices whose prediction error is shown, beside their segments' times; an edge adds its backlog."""


class TwinMetrics:
    """Everything that ``/metrics`` shows of the twin service apart from its process."""

    def __init__(
        self,
        exchange: Exchange,
        signalling: SignallingCount,
        calls: CallCount,
        store: Store,
        learning_share: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._exchange = exchange
        self._core = exchange.core
        self._signalling = signalling
        self._calls = calls
        self._store = store
        self._learning_share = learning_share

    def samples(self) -> Iterator[Sample]:
        """Read now."""
        yield from self._twin_samples()
        outcomes: Counter[str] = Counter()
        # Those that never were, too: what a rate over a series begins with is lost.
        revisions: Counter[str] = Counter({cause.value: 0 for cause in Cause})
        for document in self._core.archive:
            outcomes.update(document.outcomes)
            revisions.update(document.plan_revisions)
        outcomes.subtract(self._core.archive.inherited["outcomes"])
        revisions.subtract(self._core.archive.inherited["plan_revisions"])
        for outcome in Outcome:
            yield "twinsplit_tasks_reported_total", {"outcome": outcome.value}, outcomes[outcome.value]
        for reason, count in revisions.items():
            yield "twinsplit_plan_revisions_total", {"reason": reason}, count
        yield "twinsplit_planning_seconds", {}, self._exchange.planning_s
        yield "twinsplit_candidate_pairs_total", {}, self._core.planner.considered_pairs
        yield "twinsplit_pruned_pairs_total", {}, self._core.planner.pruned_pairs
        yield "twinsplit_rule_failures_total", {}, self._core.planner.rule_failures
        yield from self._account_samples()
        yield from self._workload_samples()
        yield from self._learner_samples()
        yield "twinsplit_heard_messages_total", {}, self._exchange.heard
        yield "twinsplit_devices_released_total", {}, self._core.released
        yield "twinsplit_state_bytes", {}, self._store.size_bytes
        yield "twinsplit_store_errors_total", {}, self._store.errors
        yield "twinsplit_store_degraded", {}, float(self._store.is_degraded)
        for code, refused in self._exchange.refusals.items():
            yield "twinsplit_refused_messages_total", {"code": code.value}, refused
        yield from self._signalling.samples()
        yield from self._calls.samples()

    def _account_samples(self) -> Iterator[Sample]:
        accounts = self._core.ended_tasks.accounts
        for part, cost_s in accounts.cost_s.items():
            yield "twinsplit_cost_seconds_total", {"part": part.value}, cost_s
        yield "twinsplit_whole_network_cost_seconds_total", {}, accounts.whole_network_s
        yield "twinsplit_costed_tasks_total", {}, accounts.costed
        yield "twinsplit_regret_seconds", {}, accounts.regret_s
        yield "twinsplit_open_loop_gain_seconds", {}, accounts.open_loop_gain_s

    def _workload_samples(self) -> Iterator[Sample]:
        workload = self._core.workload
        if workload is None:
            return
        yield "twinsplit_tasks_replayed_total", {}, workload.replayed
        for reason, count in workload.left_out.items():
            yield "twinsplit_tasks_not_replayed_total", {"reason": reason}, count
        yield "twinsplit_replays_waiting", {}, workload.waiting
        yield "twinsplit_replay_core_share", {}, workload.share(self._exchange.now_s())
        yield "twinsplit_calibration_drift", {}, self._core.manifests.recalibration.drift
        yield "twinsplit_trace_records_lost_total", {}, workload.traces.lost

    def _learner_samples(self) -> Iterator[Sample]:
        learner = self._core.learner
        if learner is None:
            return
        yield "twinsplit_lessons_total", {}, learner.lessons
        for result in Result:
            yield "twinsplit_weights_results_total", {"result": result.value}, learner.results[result]
        for model_digest, version in learner.serving_versions.items():
            yield "twinsplit_weights_version", {"model": model_digest[:12]}, version
        report = learner.last_report
        yield "twinsplit_training_loss", {}, None if report is None else report.loss
        yield (
            "twinsplit_held_out_gain",
            {},
            None if report is None or report.scores is None else report.scores.held_out_gain,
        )
        yield "twinsplit_learning_core_share", {}, self._learning_share()
        yield "twinsplit_is_learner", {}, float(learner.is_elected and self._learning_share() is not None)

    def _twin_samples(self) -> Iterator[Sample]:
        devices, edges = self._core.devices.values(), self._core.edges.values()
        attached = [device.status for device in devices if device.is_attached]
        edges_attached = [edge for edge in edges if edge.is_attached]
        for kind, known, open_streams in (
            ("device", len(self._core.archive), len(attached)),
            ("edge", len(edges), len(edges_attached)),
        ):
            yield "twinsplit_twins", {"kind": kind, "state": "attached"}, open_streams
            yield "twinsplit_twins", {"kind": kind, "state": "detached"}, known - open_streams
        now_s = self._exchange.now_s()
        ages_s = (now_s - status.reported_at_s for status in attached)
        yield "twinsplit_report_age_seconds", {}, max(ages_s, default=None)
        for name in JUDGED_FIELDS:
            yield "twinsplit_prediction_error", {"field": name}, _mean_error(status.field(name) for status in attached)
        segments = (field for status in attached for field in status.segment_fields)
        yield "twinsplit_prediction_error", {"field": "segment_s"}, _mean_error(segments)
        backlogs = (edge.backlog_field() for edge in edges_attached)
        yield "twinsplit_prediction_error", {"field": "backlog_s"}, _mean_error(backlogs)
        mirrors = [self._core.mirror_forgotten, *(device.status.mirror for device in devices)]
        judged_s = sum(mirror.judged_s for mirror in mirrors)
        right_s = sum(mirror.right_s for mirror in mirrors)
        yield "twinsplit_mirror_accuracy", {}, right_s / judged_s if judged_s > 0.0 else None
        yield "twinsplit_mirror_judged_seconds_total", {}, judged_s
        yield "twinsplit_mirror_right_seconds_total", {}, right_s


def _mean_error(fields: Iterator[MirroredField]) -> float | None:
    errors = [field.error for field in fields if field.error is not None]
    return sum(errors) / len(errors) if errors else None
