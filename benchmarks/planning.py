"""Planning one device: time in one process with 100 devices, and how it grows to 10,000 (goal: median under 1 ms).

The twin service's own core is filled with devices that differ in speed, uplink, task rate and load. A *plan* is all
that happens from a cause to a plan that can be sent: evaluating the rule, the table, its break points, the contingency.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.samples import described, ms
from twin_service.core import TwinCore
from twin_service.decision.rules import rule_named
from twin_service.decision.situation import Weights
from twin_service.memory import VolatileMemory
from twin_service.messages import BacklogReport, DeviceHello, DeviceState, EdgeHello, ManifestUpload, TaskReport
from twin_service.planner import Cause
from twin_service.settings import TwinSettings
from twinsplit.garbage import collect_rarely
from twinsplit.model.manifest import Manifest, manifest_digest, read_manifest
from twinsplit.reckoning import BacklogState
from twinsplit.transport.allocation import keep_freed_memory
from twinsplit.types import Outcome, Reason, Stages, TaskRecord

GOAL_S = 0.001
GOAL_DEVICES = 100
COUNTS = (1, 100, 1_000, 10_000)
BATCH = 64
_WARM_UP = 20
_EDGE = "edge"


def measure(
    shipped: Path,
    *,
    rule: str = "multi-step",
    repeats: int = 1_000,
    seed: int = 1,
    counts: tuple[int, ...] = COUNTS,
    progress: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Times by number of devices, with whether the goal is met; in a process that is set up as the service's is."""
    keep_freed_memory()
    collect_rarely()
    manifest, manifest_bytes = read_manifest(shipped)
    draw = random.Random(seed)
    # Large and small processes take turns within a round, so that a busy spell of the machine hits all.
    cores = {}
    for count in counts:
        progress(f"attaching {count} devices")
        cores[count] = _filled_core(rule, manifest, manifest_bytes, count, draw)
    times: dict[int, dict[str, list[float]]] = {count: {"one": [], "batch": [], "report": []} for count in counts}
    order = list(counts)
    now_s = 100.0
    progress(f"{repeats} plans each")
    for number in range(_WARM_UP + repeats):
        draw.shuffle(order)
        for count in order:
            now_s += 0.01
            found = _one_round(cores[count], draw, now_s, with_batch=number % 20 == 0)
            if number >= _WARM_UP:
                for key, seconds in found.items():
                    times[count][key].append(seconds)
    rows: list[dict[str, Any]] = [
        {
            "devices": count,
            "plan_one": described(times[count]["one"]),
            "plan_in_batch": described(times[count]["batch"]),
            "edge_report": described(times[count]["report"]),
        }
        for count in counts
    ]
    at_goal = next((row for row in rows if row["devices"] == GOAL_DEVICES), None)
    return {
        "rule": rule,
        "repeats": repeats,
        "batch": BATCH,
        "digest": manifest_digest(manifest_bytes),
        "goal_s": GOAL_S,
        "rows": rows,
        "is_met": at_goal is not None and at_goal["plan_one"]["median_s"] < GOAL_S,
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The figures for people."""
    out = [f"{'devices':>8} {'plan one, ms (p95)':>22} {'in batches, ms each':>20} {'edge report, ms (p95)':>23}"]
    for row in found["rows"]:
        one, batch, report = row["plan_one"], row["plan_in_batch"], row["edge_report"]
        out.append(
            f"{row['devices']:>8} {ms(one['median_s']) + ' (' + ms(one['p95_s']) + ')':>22} "
            f"{ms(batch['median_s']):>20} {ms(report['median_s']) + ' (' + ms(report['p95_s']) + ')':>23}"
        )
    verdict = "met" if found["is_met"] else "MISSED"
    return [
        *out,
        f"Goal: planning one of {GOAL_DEVICES} devices takes less than {ms(found['goal_s'])} ms, median: {verdict}.",
    ]


def _filled_core(rule: str, manifest: Manifest, manifest_bytes: bytes, count: int, draw: random.Random) -> TwinCore:
    is_reduced: bool = TwinSettings.model_fields["reduction"].default
    core = TwinCore(rule_named(rule, is_reduced=is_reduced), Weights(), VolatileMemory())
    digest = manifest_digest(manifest_bytes)
    tail_s = tuple(0.015 * (1.0 - cut / manifest.segment_count) for cut in range(manifest.segment_count))
    core.attach_edge(EdgeHello(_EDGE, "127.0.0.1:1", {digest: tail_s}, backlog=_backlog(0.1, 0.0)), 0.0)
    for number in range(count):
        name = f"device-{number}"
        slowness = draw.uniform(0.5, 2.0)
        hello = DeviceHello(
            device_id=name,
            model_digest=digest,
            segment_s=tuple(0.17 * slowness / manifest.held_segments for _ in range(manifest.held_segments)),
            exit_s=tuple(0.004 * slowness for _ in manifest.exits),
            goodput_bytes_per_s=draw.uniform(40_000.0, 400_000.0),
            round_trip_s=draw.uniform(0.002, 0.03),
        )
        stream, _ = core.attach_device(hello, 0.0)
        core.device_said(name, stream, ManifestUpload(manifest_bytes), 0.0)
        for task_id in range(1, 4):
            now_s = 1.0 + task_id + draw.random()
            state = DeviceState(entered=task_id * draw.randint(1, 6))
            core.device_said(name, stream, TaskReport((_ended(task_id, now_s),), state=state), now_s)
    while core.next_due_s() <= 6.0:
        core.tick(6.0)
    return core


def _one_round(core: TwinCore, draw: random.Random, now_s: float, *, with_batch: bool) -> dict[str, float]:
    """Seconds of one plan, of one edge report, and, now and then, of a plan within a batch."""
    names = list(core.devices)
    edges = core.edges
    found = {}
    device = core.devices[names[draw.randrange(len(names))]]
    device.standing = None
    began_s = time.perf_counter()
    sends = core.planner.weigh([(device, Cause.ATTACHED)], edges, now_s)
    found["one"] = time.perf_counter() - began_s
    assert len(sends) == 1
    began_s = time.perf_counter()
    core.edge_said(_EDGE, edges[_EDGE].stream, _backlog(draw.expovariate(10.0), now_s), now_s)
    found["report"] = time.perf_counter() - began_s
    if with_batch:
        chosen = [core.devices[name] for name in draw.sample(names, min(BATCH, len(names)))]
        for each in chosen:
            each.standing = None
        began_s = time.perf_counter()
        sends = core.planner.weigh([(each, Cause.ATTACHED) for each in chosen], edges, now_s)
        found["batch"] = (time.perf_counter() - began_s) / len(chosen)
        assert len(sends) == len(chosen)
    # Outside of the times: those that the report concerns are looked at as the service would.
    core.tick(now_s)
    return found


def _backlog(backlog_s: float, now_s: float) -> BacklogReport:
    return BacklogReport(BacklogState(backlog_s, now_s, mean_s=0.1, time_constant_s=0.5), (0.0, 0.1, 0.4))


def _ended(task_id: int, now_s: float) -> TaskRecord:
    return TaskRecord(
        task_id=task_id,
        frame="",
        arrived_at_s=now_s - 0.2,
        started_at_s=now_s - 0.17,
        ended_at_s=now_s,
        outcome=Outcome.DEVICE,
        reason=Reason.NOT_WORTH_IT,
        stop_epoch=None,
        evidence=0,
        stages=Stages(queue=0.03, compute=0.17),
    )
