"""How a device stands, as one JSON object: which plan, which edge, and why tasks end where they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from device.pipeline import Pipeline
from twinsplit.types import Decision, Outcome


def status_document(pipeline: Pipeline, now_s: float, identity: Mapping[str, Any]) -> dict[str, Any]:
    """State now; the caller holds the pipeline's lock.

    Args:
        identity: id, model, provider, emulation and the like, put first.
    """
    outcomes: Counter[str] = Counter({outcome.value: 0 for outcome in Outcome})
    reasons: Counter[str] = Counter()
    for (outcome, reason), count in pipeline.outcomes.ended.items():
        outcomes[outcome.value] += count
        reasons[f"{outcome.value}: {reason.value}"] += count
    return {
        **identity,
        "plan": _plan_document(pipeline, now_s),
        "edge": _edge_document(pipeline, now_s),
        "edges": _edge_documents(pipeline, now_s),
        "task": _task_document(pipeline, now_s),
        "queue_length": pipeline.queue_length,
        "entered": pipeline.outcomes.entered,
        "open": pipeline.outcomes.open,
        "outcomes": dict(outcomes),
        "reasons": dict(reasons.most_common()),
        "stops": _stops(pipeline),
        "tracked": {
            "segment_s": list(pipeline.tracker.segment_s),
            "exit_s": list(pipeline.tracker.exit_s),
            "goodput_bytes_per_s": pipeline.tracker.goodput_bytes_per_s,
            "round_trip_s": pipeline.tracker.round_trip_s,
        },
        "energy": _energy_document(pipeline, now_s),
        "health": asdict(pipeline.reporter.health),
    }


def _energy_document(pipeline: Pipeline, now_s: float) -> dict[str, Any]:
    energy = pipeline.outcomes.energy
    state = energy.state(now_s)
    joules = [
        {"source": source, "part": part.value, "joules": joules} for (source, part), joules in energy.totals().items()
    ]
    return {"meter": None if state is None else asdict(state), "joules": joules}


def _plan_document(pipeline: Pipeline, now_s: float) -> dict[str, Any]:
    plans = pipeline.plans
    absence = plans.absence(now_s)
    document: dict[str, Any] = {
        "in_force": absence is None,
        "absence": None if absence is None else absence.value,
        "exits_run": list(plans.exits_run(now_s)),
        "backlog_s": plans.backlog_s(now_s) if plans.backlog is not None else None,
    }
    plan = plans.plan
    if plan is not None:
        document |= {
            "plan_id": plan.plan_id,
            "rule": plan.rule,
            "edge_id": plan.edge_id,
            "age_s": plans.plan_age_s(now_s),
            "lease_left_s": plans.lease_left_s(now_s),
            "break_points_s": list(plan.band_edges_s),
            "observation": plan.observation.value,
        }
    return document


def _edge_document(pipeline: Pipeline, now_s: float) -> dict[str, Any] | None:
    address = pipeline.plans.edge_address
    if address is None:
        return None
    return {
        "address": address,
        "breaker": pipeline.offloads.breaker(address).state(now_s).value,
        "in_flight": len(pipeline.offloads),
        "came_back": {reason.value: count for reason, count in pipeline.offloads.came_back.items()},
        "sent_on": {reason.value: count for reason, count in pipeline.offloads.sent_on.items()},
    }


def _edge_documents(pipeline: Pipeline, now_s: float) -> list[dict[str, Any]]:
    """The twin's list, the most promising edge first."""
    offloads, target = pipeline.offloads, pipeline.offloads.target(now_s)
    links = {link.edge_id: link for link in offloads.links(now_s)}
    return [
        {
            "edge": edge.edge_id,
            "address": edge.address,
            "is_used": edge.address == target,
            "breaker": offloads.breaker(edge.address).state(now_s).value,
            "is_connected": offloads.breaker(edge.address).is_connected,
            "goodput_bytes_per_s": links[edge.edge_id].goodput_bytes_per_s,
            "round_trip_s": links[edge.edge_id].round_trip_s,
            "backlog_s": offloads.edges.backlog_s(edge.address, now_s),
        }
        for edge in offloads.edges
    ]


def _task_document(pipeline: Pipeline, now_s: float) -> dict[str, Any] | None:
    task = pipeline.in_service
    if task is None:
        return None
    return {
        "task_id": task.task_id,
        "epoch": task.epoch,
        "evidence": task.evidence,
        "age_s": now_s - task.arrived_at_s,
    }


def _stops(pipeline: Pipeline) -> list[dict[str, Any]]:
    return [
        {"epoch": epoch, "decision": decision.name.lower().replace("_", "-"), "reason": reason.value, "count": count}
        for (epoch, decision, reason), count in sorted(pipeline.decisions.taken.items())
        if decision is not Decision.CONTINUE
    ]
