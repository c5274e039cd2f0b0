"""Ended tasks as devices tell them, taken to everyone who learns from them. Sans-IO."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from twin_service.accounts import Accounts
from twin_service.device_twin import DeviceTwin
from twin_service.due_work import DueWork
from twin_service.edge_twin import EdgeTwin
from twin_service.manifests import Manifests
from twin_service.messages import TaskReport
from twin_service.planner import Cause, Planner
from twin_service.workload.intake import take_tasks
from twin_service.workload.recalibration import Recalibrated
from twin_service.workload.twin import WorkloadTwin
from twinsplit.types import Outcome, Reason

_EDGE_SPOKE = frozenset({Reason.EDGE_REFUSED})
"""Reasons that show that the edge answered, and so told its backlog, though the task did not end there."""

TaskReportTold = Callable[[DeviceTwin, "EdgeTwin | None", TaskReport], None]
"""Is told what a device reports of ended tasks, and the edge that its standing plan names, while it is attached."""


class EndedTasks:
    """To the status twin, the document, the accounts, the calibration of exits, the plan and the workload twin.

    Args:
        devices: All that attached, by name; kept by the core.
        edges: All that are known, likewise.
        workload: Replays them; ``None``: none are.
    """

    def __init__(
        self,
        planner: Planner,
        manifests: Manifests,
        work: DueWork,
        devices: Mapping[str, DeviceTwin],
        edges: Mapping[str, EdgeTwin],
        workload: WorkloadTwin | None,
    ) -> None:
        self.told: list[TaskReportTold] = []
        """Told of every task report, before the device's plan hears of a newer backlog by it."""
        self.recalibrated: list[Recalibrated] = []
        """Models whose exits were found to be another way than calibrated, until somebody takes them out."""
        self.accounts = Accounts()
        self._planner = planner
        self._manifests = manifests
        self._work = work
        self._devices = devices
        self._edges = edges
        self._workload = workload
        if workload is not None:
            workload.told.append(self.accounts.task_replayed)

    def take(self, device: DeviceTwin, report: TaskReport, now_s: float) -> None:
        """A device reports; what it told before is not taken again.

        Raises:
            BadMessageError: something in it does not fit; nothing of it is taken.
        """
        status = device.status
        for task in report.ended:
            status.check_task(task)
        if report.started is not None:
            status.check_epoch(report.started.first_epoch)
        status.check_state(report.state)
        report = replace(report, ended=device.document.take_ended(report.ended))
        status.ended(report.ended, now_s)
        status.heard(report.state, report.started, report.queue_length, now_s)
        edge = device.plan_edge(self._edges)
        for tell in self.told:
            tell(device, edge, report)
        for task in report.ended:
            device.document.outcomes[task.outcome.value] += 1
            device.document.reasons[task.reason.value] += 1
            if status.manifest is not None:
                self.accounts.task_ended(task, status.manifest, device.weights(self._planner.weights))
            if (found := self._manifests.task_ended(status.hello.model_digest, task)) is not None:
                self._recalibrate(found)
            is_edge_heard = task.outcome is Outcome.EDGE or task.reason in _EDGE_SPOKE
            is_plans = edge is not None and task.edge_id in (None, edge.edge_id)
            if is_edge_heard and is_plans and edge is not None and device.standing is not None:
                device.standing.hears(edge.reading_at(min(task.ended_at_s, now_s)))
        if self._workload is not None:
            take_tasks(self._workload, self._planner, device, edge, report, now_s)

    def _recalibrate(self, found: Recalibrated) -> None:
        self.recalibrated.append(found)
        for device in self._devices.values():
            if device.status.manifest is not None and device.status.hello.model_digest == found.model_digest:
                device.status.manifest = found.manifest
        self._work.replan(found.model_digest, Cause.CALIBRATION)
