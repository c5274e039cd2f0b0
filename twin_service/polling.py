"""Polled mode: the device asks at every epoch. The baseline of signalling, answered from the same table."""

from __future__ import annotations

from twin_service.device_twin import DeviceTwin
from twin_service.edge_twin import EdgeTwin
from twin_service.messages import PollRequest, PollResponse
from twinsplit.errors import BadMessageError
from twinsplit.plan import Observation
from twinsplit.types import Decision


def polled_decision(device: DeviceTwin, edge: EdgeTwin | None, request: PollRequest, now_s: float) -> PollResponse:
    """What the standing plan says with what the device sees and the backlog as it is now; CONTINUE without a plan.

    Raises:
        BadMessageError: an epoch or evidence that the model does not have.
    """
    standing = device.standing
    if standing is None:
        return PollResponse(request.task_id, request.epoch, Decision.CONTINUE)
    epochs, evidence_count = standing.plan.table.shape[:2]
    if not (0 <= request.epoch < epochs and 0 <= request.evidence < evidence_count):
        raise BadMessageError(
            f"poll: there is no epoch {request.epoch} with evidence {request.evidence}; this model has {epochs} epochs "
            f"and {evidence_count} evidence states"
        )
    backlog_s = 0.0 if edge is None else edge.backlog_s(now_s)
    seen = (request.queue_length, backlog_s, request.age_s, request.uplink_busy_s)
    if standing.plan.observation is Observation.SERVICE_START:
        if device.seen_at_start is None or device.seen_at_start[0] != request.task_id:
            device.seen_at_start = (request.task_id, *seen)
        seen = device.seen_at_start[1:]
    return PollResponse(request.task_id, request.epoch, standing.plan.decision(request.epoch, request.evidence, *seen))
