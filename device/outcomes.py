"""Outcomes: the books of a device. Every task that entered gets exactly one, with its reason. Sans-IO."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from device.energy import EnergyBooks, TaskWork
from device.reporting import Reporter
from device.task import Finish, Task
from twinsplit.model.manifest import Manifest
from twinsplit.types import NO_EVIDENCE, Outcome, Reason, Stages, TaskRecord

if TYPE_CHECKING:
    from twinsplit.model.runtime import Answer

_DEGRADING = frozenset({Reason.EDGE_REFUSED, Reason.EDGE_LOST, Reason.EDGE_TOO_LATE, Reason.BREAKER_OPEN})


class Outcomes:
    """Counts tasks in and out, writes their records and hands these to the reporter."""

    def __init__(self, manifest: Manifest, energy: EnergyBooks, reporter: Reporter) -> None:
        self._manifest = manifest
        self._reporter = reporter
        self.energy = energy
        self._no_confidences: tuple[float | None, ...] = (None,) * len(manifest.exits)
        self.entered = 0
        self.lost = 0
        """Dropped or failed."""
        self.ended: Counter[tuple[Outcome, Reason]] = Counter()

    @property
    def open(self) -> int:
        """Tasks that entered and have no outcome yet."""
        return self.entered - self.ended.total()

    def enter(self, now_s: float, frame: str, cargo: object, arrived_at_s: float | None) -> Task:
        """A new task, numbered from 1; ``arrived_at_s``: its generation, if that was before now."""
        self.entered += 1
        arrived_at_s = now_s if arrived_at_s is None else arrived_at_s
        return Task(self.entered, frame, arrived_at_s, cargo, waiting_since_s=arrived_at_s)

    def by_exit(self, now_s: float, task: Task, exit_index: int, reason: Reason) -> Finish:
        """Exit ``exit_index``, which ran, answers."""
        answer = task.exit_answers[exit_index]
        return self._end(
            now_s,
            task,
            Outcome.EXIT,
            reason,
            exit_index=exit_index,
            label_index=answer.label_index,
            confidence=answer.p_right,
        )

    def by_network(self, now_s: float, task: Task, outcome: Outcome, reason: Reason, answer: Answer | None) -> Finish:
        """The whole network answers, on the device or at the edge; ``answer`` ``None``: not known (simulation)."""
        manifest = self._manifest
        confidence: float | None = None
        if task.evidence != NO_EVIDENCE or manifest.whole_accuracy is not None:
            confidence = manifest.p_whole_right(task.evidence)
            if outcome is Outcome.EDGE and task.offload is not None:
                cut = manifest.cuts[task.offload.cut]
                confidence = max(0.0, confidence - cut.representations[task.offload.representation_index].loss)
        label_index = answer.label_index if answer is not None else None
        exit_agrees = None
        if task.last_exit is not None and label_index is not None:
            exit_agrees = task.exit_answers[task.last_exit].label_index == label_index
        return self._end(
            now_s, task, outcome, reason, label_index=label_index, confidence=confidence, exit_agrees=exit_agrees
        )

    def unanswered(self, now_s: float, task: Task, outcome: Outcome, reason: Reason) -> Finish:
        """Dropped or failed."""
        self.lost += 1
        return self._end(now_s, task, outcome, reason)

    def _end(
        self,
        now_s: float,
        task: Task,
        outcome: Outcome,
        reason: Reason,
        *,
        exit_index: int | None = None,
        label_index: int | None = None,
        confidence: float | None = None,
        exit_agrees: bool | None = None,
    ) -> Finish:
        self.ended[outcome, reason] += 1
        offload, choice = task.offload, task.choice
        has_started = task.started_at_s is not None
        energy = self.energy.task_energy(
            TaskWork(
                task_id=task.task_id,
                ended_at_s=now_s,
                compute_s=task.compute_s + (task.encode_s or 0.0),
                transmit_s=task.transmit_s,
                sent_at_s=offload.sent_at_s if offload is not None else None,
            )
        )
        record = TaskRecord(
            task_id=task.task_id,
            frame=task.frame,
            arrived_at_s=task.arrived_at_s,
            started_at_s=task.started_at_s,
            ended_at_s=now_s,
            outcome=outcome,
            reason=reason,
            stop_epoch=task.epoch if has_started else None,
            evidence=task.evidence,
            exit_index=exit_index,
            payload=offload.payload if offload is not None else None,
            representation=self._representation(task),
            representation_index=offload.representation_index if offload is not None else None,
            exit_confidences=self._exit_confidences(task),
            exit_agrees=exit_agrees,
            wire_bytes=offload.wire_bytes if offload is not None else 0,
            label=self._label(label_index),
            label_index=label_index,
            confidence=confidence,
            degraded=self._is_degraded(task, outcome, reason),
            stages=Stages(
                queue=task.queue_s,
                compute=task.compute_s if has_started else None,
                encode=task.encode_s,
                upload=task.upload_s,
                edge_queue=task.edge_queue_s,
                edge_compute=task.edge_compute_s,
            ),
            epoch_times_s=tuple(task.epoch_times_s),
            energy_joules=energy.joules if energy is not None else None,
            energy_source=energy.source if energy is not None else None,
            plan_id=choice.plan_id if choice is not None else None,
            queue_length=task.queue_length,
            edge_id=offload.edge_id if offload is not None else None,
            sent_on=max(0, len(task.lost_at) - task.has_resumed),
            thumbnail_jpeg=task.thumbnail_jpeg,
        )
        self._reporter.task_ended(record)
        return Finish(task, record)

    @staticmethod
    def _is_degraded(task: Task, outcome: Outcome, reason: Reason) -> bool:
        is_fallback = task.choice is not None and task.choice.is_fallback
        is_kept_from_edge = outcome is not Outcome.EDGE and task.hindrance in _DEGRADING
        return is_fallback or is_kept_from_edge or reason is Reason.HEAD_ONLY

    def _representation(self, task: Task) -> str | None:
        if task.offload is None:
            return None
        return self._manifest.cuts[task.offload.cut].representations[task.offload.representation_index].name

    def _exit_confidences(self, task: Task) -> tuple[float | None, ...]:
        answers = task.exit_answers
        if not answers:
            return self._no_confidences
        return tuple(answers[i].raw_confidence if i in answers else None for i in range(len(self._no_confidences)))

    def _label(self, index: int | None) -> str | None:
        if index is None:
            return None
        classes = self._manifest.classes
        return classes[index] if index < len(classes) else str(index)
