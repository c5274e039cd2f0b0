"""Lines of a device's sink and results of runs, made up."""

from __future__ import annotations

from typing import Any

from benchmarks.books import Books, Entry, entry_of_line
from benchmarks.testbed.result import RunResult
from tests.unit.decision.situations import manifest_of
from twin_service.decision.situation import Weights

WEIGHTS = Weights(alpha_s=2.0, beta_s_per_joule=0.1, compute_watts=3.0, transmit_watts=1.0)
MANIFEST = manifest_of()
"""Five segments, two exits with four bins each."""
WHOLE = MANIFEST.p_whole_right(0)


def line(task_id: int = 1, **changes: Any) -> dict[str, Any]:
    """A task that the device answered, right or not as its label says."""
    return {
        "task_id": task_id,
        "frame": "a.jpg",
        "label": "coat",
        "confidence": WHOLE,
        "outcome": "device",
        "reason": "not-worth-it",
        "stop_epoch": 5,
        "evidence": 0,
        "exit": None,
        "payload": None,
        "degraded": False,
        "latency_s": 0.2,
        "stages_s": {"queue": 0.0, "compute": 0.2, "encode": None, "upload": None},
        "energy_joules": 0.6,
        "energy_source": "model",
        "plan_id": 1,
    } | changes


def entry(task_id: int = 1, **changes: Any) -> Entry:
    return entry_of_line(line(task_id, **changes), MANIFEST, WEIGHTS)


def result(rule: str, latencies_s: list[float], *, messages: int = 10, is_polled: bool = False) -> RunResult:
    """A run in which the device answered every task after these latencies."""
    books = Books(WEIGHTS, WHOLE)
    for task_id, latency_s in enumerate(latencies_s, start=1):
        books.enter(entry(task_id, latency_s=latency_s))
    return RunResult(
        rule=rule,
        is_polled=is_polled,
        summary=books.close(),
        messages=messages,
        messages_by_kind={"device task": messages},
        mirror_accuracy=None,
        costs_s=books.costs_s(),
    )
