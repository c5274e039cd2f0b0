"""From what devices say to what the workload twin is told."""

from __future__ import annotations

from twin_service.device_twin import DeviceTwin
from twin_service.edge_twin import EdgeTwin
from twin_service.messages import TaskReport
from twin_service.planner import Planner
from twin_service.workload.twin import Ended, WorkloadTwin


def take_tasks(
    workload: WorkloadTwin,
    planner: Planner,
    device: DeviceTwin,
    edge: EdgeTwin | None,
    report: TaskReport,
    now_s: float,
) -> None:
    """A device tells of ended tasks; ``edge``: the one that its standing plan names."""
    standing = device.standing
    if standing is None or device.status.manifest is None:
        workload.left_out["no-plan"] += len(report.ended)
        return
    situation = planner.situation(device, edge, now_s)
    edge_id = None if edge is None else edge.edge_id
    for task in report.ended:
        if task.sent_on or (edge_id is not None and task.edge_id not in (None, edge_id)):
            # Part of it happened at another edge than the one whose time line it would be replayed on.
            workload.left_out["other-edge"] += 1
            continue
        ended = Ended(
            device.device_id,
            task,
            device.status.hello.model_digest,
            edge_id,
            situation,
            standing.weighed,
            standing.plan.exits_run,
        )
        workload.task_ended(ended, now_s)
    if not report.ended:
        workload.device_heard(device.device_id, report.state.entered, now_s)
        return
    told_at_s = min(max(task.ended_at_s for task in report.ended), now_s)
    workload.device_reported(device.device_id, report.state.entered, told_at_s)
