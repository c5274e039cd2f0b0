"""The books: what a run of tasks was worth, by one account for demo, testbed and simulator (design section 2).

Accuracy, energy and cost are means over every task that *entered*. Cost books accuracy as its calibrated expectation,
since the hits of a few thousand tasks are noisier than the differences between good rules; ``accuracy`` is what was
really right, where labels are known. A task that was dropped or failed counts accuracy 0, its time and energy until
it was given up, and a penalty. Percentiles of latency are over answered tasks and stand beside the share answered.

A_whole, too, is booked as an expectation, given the same evidence as A: averaged over tasks that is the accuracy of the
whole network, whatever rule decided when to stop looking, but a run that meets many hard frames is not charged for them
(half the standard error in runs of the demo). ``plain_cost_s`` has one A_whole for all tasks instead.

With a deadline among the weights an answer that is late counts as wrong in costs and in ``accuracy_in_time``; A_whole
stays, so that a deadline adds to cost what it takes. ``booked_accuracy`` and ``accuracy`` count late answers, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.situation import Weights
from twinsplit.errors import TwinsplitError
from twinsplit.model.manifest import Manifest
from twinsplit.types import NO_EVIDENCE, Outcome, Payload, TaskRecord

MODEL_ENERGY = "model"
"""Source of an energy that is power times time."""


class BooksError(TwinsplitError):
    """Outcomes that do not add up: a task without one, with two, or that never entered."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One task in the books."""

    task_id: int
    outcome: Outcome
    reason: str
    latency_s: float
    """Generation to answer, or to being given up."""
    accuracy: float
    """Calibrated expectation that the answer is right; 0: none was given."""
    whole_accuracy: float
    """Calibrated expectation that the whole network is right, given the same evidence."""
    is_right: bool | None
    """Whether it really was; ``None``: no label is known."""
    energy_joules: float
    energy_source: str
    stop_epoch: int | None
    exit_index: int | None
    payload: Payload | None
    """What was sent, also when the edge then failed."""
    is_degraded: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """The books of one run closed. Means are per task that entered; ``None``: not known."""

    tasks: int
    outcomes: dict[str, int]
    """Every outcome of :class:`~twinsplit.types.Outcome`; they add up to ``tasks``."""
    payloads: dict[str, int]
    """Tasks answered by the edge, by what was sent; they add up to its outcome."""
    ends: dict[str, int]
    """Where tasks ended in words, such as ``exit 1`` or ``edge, tensor of cut 2``; they add up to ``tasks``."""
    reasons: dict[str, int]
    degraded: int
    accuracy: float | None
    booked_accuracy: float
    share_answered: float
    latency_p50_s: float | None
    """``None``: no task was answered."""
    latency_p95_s: float | None
    mean_time_s: float
    """Until the answer or until it was given up."""
    energy_joules: float
    energy_source: str
    cost_s: float
    cost_error_s: float
    """Standard error of ``cost_s`` over tasks."""
    plain_cost_s: float
    """The same with one A_whole for all tasks."""
    share_in_time: float | None = None
    """Tasks answered within the deadline; ``None``: there is none."""
    accuracy_in_time: float | None = None
    """``booked_accuracy`` with late answers as wrong ones; ``None``: there is no deadline."""


class Books:
    """Takes one entry per task and closes to a summary.

    Args:
        weights: what accuracy, time and energy are worth.
        whole_accuracy: accuracy of the whole network over all tasks, for ``plain_cost_s``.
    """

    def __init__(self, weights: Weights, whole_accuracy: float) -> None:
        self._weights = weights
        self._whole_accuracy = whole_accuracy
        self._entries: dict[int, Entry] = {}

    @property
    def entries(self) -> Mapping[int, Entry]:
        """By task id."""
        return self._entries

    def enter(self, entry: Entry) -> None:
        """Book one ended task.

        Raises:
            BooksError: the task has an outcome already.
        """
        earlier = self._entries.setdefault(entry.task_id, entry)
        if earlier is not entry:
            raise BooksError(
                f"task {entry.task_id} ended twice: {earlier.outcome.value} ({earlier.reason}), then "
                f"{entry.outcome.value} ({entry.reason})"
            )

    def cost_s(self, entry: Entry) -> float:
        """Cost of one task: ``alpha * (A_whole - A) + T + beta * E``, and the penalty if it was not answered. After
        the deadline A is 0."""
        weights = self._weights
        accuracy = entry.accuracy if self.is_in_time(entry) else 0.0
        cost = (
            weights.alpha_s * (entry.whole_accuracy - accuracy)
            + entry.latency_s
            + weights.beta_s_per_joule * entry.energy_joules
        )
        return cost if entry.outcome.is_answered else cost + weights.loss_penalty_s

    def ordered(self) -> tuple[Entry, ...]:
        """All entries by task id."""
        return tuple(self._entries[task_id] for task_id in sorted(self._entries))

    def is_in_time(self, entry: Entry) -> bool:
        """Whether the task was answered, and within the deadline if there is one."""
        deadline_s = self._weights.deadline_s
        return entry.outcome.is_answered and (deadline_s is None or entry.latency_s <= deadline_s)

    def costs_s(self) -> NDArray[np.float64]:
        """Costs in the order of task ids, for paired comparisons.  # (tasks,)"""
        return np.array([self.cost_s(entry) for entry in self.ordered()], dtype=np.float64)

    def close(self, entered: int | None = None) -> Summary:
        """Sum up.

        Args:
            entered: how many tasks entered; ``None``: as many as have an outcome.

        Raises:
            BooksError: nothing was booked, or a task that entered has no outcome.
        """
        entries = list(self._entries.values())
        if entered is not None and len(entries) != entered:
            missing = sorted(set(range(1, entered + 1)) - set(self._entries))[:5]
            raise BooksError(f"{entered} tasks entered but {len(entries)} have an outcome (first without: {missing})")
        if not entries:
            raise BooksError("no task entered; let the run last longer or raise the task rate")
        outcomes = Counter(entry.outcome for entry in entries)
        at_edge = [entry for entry in entries if entry.outcome is Outcome.EDGE]
        latencies = [entry.latency_s for entry in entries if entry.outcome.is_answered]
        costs = self.costs_s()
        luck = _mean(entry.whole_accuracy for entry in entries) - self._whole_accuracy
        in_time = None if self._weights.deadline_s is None else [e for e in entries if self.is_in_time(e)]
        hits = [entry.is_right for entry in entries if entry.is_right is not None]
        return Summary(
            tasks=len(entries),
            outcomes={outcome.value: outcomes[outcome] for outcome in Outcome},
            payloads={payload.value: sum(entry.payload is payload for entry in at_edge) for payload in Payload},
            ends=dict(sorted(Counter(map(end_of, entries)).items())),
            reasons=dict(sorted(Counter(entry.reason for entry in entries).items())),
            degraded=sum(entry.is_degraded for entry in entries),
            accuracy=sum(hits) / len(hits) if hits and len(hits) == len(entries) else None,
            booked_accuracy=_mean(entry.accuracy for entry in entries),
            share_answered=len(latencies) / len(entries),
            latency_p50_s=percentile(latencies, 50),
            latency_p95_s=percentile(latencies, 95),
            mean_time_s=_mean(entry.latency_s for entry in entries),
            energy_joules=_mean(entry.energy_joules for entry in entries),
            energy_source=_source(entries),
            cost_s=float(costs.mean()),
            cost_error_s=float(costs.std(ddof=1) / math.sqrt(len(costs))) if len(costs) > 1 else 0.0,
            plain_cost_s=float(costs.mean()) - self._weights.alpha_s * luck,
            share_in_time=None if in_time is None else len(in_time) / len(entries),
            accuracy_in_time=None if in_time is None else sum(e.accuracy for e in in_time) / len(entries),
        )


def entry_of_record(
    record: TaskRecord, manifest: Manifest, weights: Weights, label: int | None = None, *, number: int | None = None
) -> Entry:
    """A task as the pipeline ends it (simulator).

    Args:
        label: index of the class that is right; ``None``: not known.
        number: of the task in these books, where it is not that at its device.
    """
    loss = 0.0
    if record.outcome is Outcome.EDGE and record.representation_index is not None:
        cut = record.stop_epoch if record.payload is Payload.TENSOR and record.stop_epoch is not None else 0
        loss = manifest.cuts[cut].representations[record.representation_index].loss
    energy_joules, energy_source = _energy(
        record.energy_joules, record.energy_source, record.stages.compute, record.stages.upload, weights
    )
    return Entry(
        task_id=record.task_id if number is None else number,
        outcome=record.outcome,
        reason=record.reason.value,
        latency_s=record.latency_s,
        accuracy=booked_accuracy(manifest, record.outcome, record.evidence, loss),
        whole_accuracy=manifest.p_whole_right(record.evidence),
        is_right=_is_right(record.outcome, record.label_index, label),
        energy_joules=energy_joules,
        energy_source=energy_source,
        stop_epoch=record.stop_epoch,
        exit_index=record.exit_index,
        payload=record.payload,
        is_degraded=record.degraded,
    )


def booked_accuracy(manifest: Manifest, outcome: Outcome, evidence: int, loss: float = 0.0) -> float:
    """Calibrated expectation that the answer is right: an exit's P(exit right | evidence), else P(whole network right |
    evidence) less the loss of the representation that was sent; 0 without an answer."""
    if not outcome.is_answered:
        return 0.0
    if outcome is Outcome.EXIT:
        return manifest.p_exit_right(evidence)
    return max(0.0, manifest.p_whole_right(evidence) - loss)


def entry_of_line(
    line: Mapping[str, Any], manifest: Manifest, weights: Weights, labels: Mapping[str, str] | None = None
) -> Entry:
    """A task as a device's JSON-lines sink writes it; its ``confidence`` is the calibrated expectation.

    Args:
        line: one object of the sink.
        manifest: of the device's model.
        weights: powers for a device that knows no energy.
        labels: name of the frame to the label that is right; ``None``: unknown.

    Raises:
        BooksError: not a line of the sink, or a frame without a label.
    """
    try:
        outcome = Outcome(line["outcome"])
        stages = line["stages_s"]
        whole_accuracy = manifest.p_whole_right(line["evidence"])
        confidence = line["confidence"] if line["confidence"] is not None else whole_accuracy
        energy_joules, energy_source = _energy(
            line["energy_joules"], line["energy_source"], stages.get("compute"), stages.get("upload"), weights
        )
        is_right = None if labels is None else outcome.is_answered and line["label"] == labels[line["frame"]]
        return Entry(
            task_id=line["task_id"],
            outcome=outcome,
            reason=line["reason"],
            latency_s=line["latency_s"],
            accuracy=confidence if outcome.is_answered else 0.0,
            whole_accuracy=whole_accuracy,
            is_right=is_right,
            energy_joules=energy_joules,
            energy_source=energy_source,
            stop_epoch=line["stop_epoch"],
            exit_index=line["exit"],
            payload=None if line["payload"] is None else Payload(line["payload"]),
            is_degraded=line["degraded"],
        )
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise BooksError(f"a line of the device's sink cannot be booked: {error!r} in {dict(line)}") from None


def end_of(entry: Entry) -> str:
    """Where a task ended, for people."""
    if entry.outcome is Outcome.EXIT and entry.exit_index is not None:
        return f"exit {entry.exit_index + 1}"
    if entry.outcome is Outcome.EDGE and entry.payload is Payload.TENSOR:
        return f"edge, tensor of cut {entry.stop_epoch}"
    if entry.outcome is Outcome.EDGE:
        return "edge, input"
    return str(entry.outcome.value)


def percentile(values: Iterable[float], share: float) -> float | None:
    """``share`` in 0..100, linear between neighbours; ``None`` of nothing."""
    found = list(values)
    return float(np.percentile(found, share)) if found else None


def whole_accuracy_of(manifest: Manifest) -> float:
    """A_whole; 1 where nothing was measured."""
    return manifest.p_whole_right(NO_EVIDENCE)


def _energy(
    joules: float | None, source: str | None, compute_s: float | None, upload_s: float | None, weights: Weights
) -> tuple[float, str]:
    if joules is not None:
        return joules, source or "unknown"
    return weights.compute_watts * (compute_s or 0.0) + weights.transmit_watts * (upload_s or 0.0), MODEL_ENERGY


def _is_right(outcome: Outcome, label_index: int | None, label: int | None) -> bool | None:
    if label is None:
        return None
    return outcome.is_answered and label_index == label


def _source(entries: Iterable[Entry]) -> str:
    return "+".join(sorted({entry.energy_source for entry in entries}))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
