"""Whole task, AlexNet 224 cut in the middle, real processes, nothing emulated, twin attached: what is not computing.

Goals: latency less head and tail at most 0.8 ms in the median and 1.0 ms at the 95th percentile, and head plus tail
within 1.03 of the whole network. The whole network runs in this process between the tasks, so that whatever disturbs
the machine disturbs both alike.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks import light_network
from benchmarks.samples import described, ms
from benchmarks.scenario import Scenario
from benchmarks.testbed.live import LiveRun, RunStalledError
from benchmarks.testbed.speeds import measured_speeds
from twinsplit.model.build import CutSettings, build_model
from twinsplit.model.manifest import Manifest
from twinsplit.model.profile import made_up_input
from twinsplit.model.runtime import Session, open_session

OVERHEAD_GOAL_S = 0.0008
OVERHEAD_P95_GOAL_S = 0.0010
RATIO_GOAL = 1.03
NETWORK = "bvlc_alexnet"
CUT = 1
WARM_UP_TASKS = 20
FRAMES = 8
_REST_SHARE = 0.6
"""Share of a period after an arrival at which the whole network runs: the task is long over then."""
_PERIOD_NETWORKS = 4.0
_SHORTEST_PERIOD_S = 0.1


def measure(
    *, tasks: int = 300, threads: int = 1, seed: int = 1, progress: Callable[[str], None] = lambda _text: None
) -> dict[str, Any]:
    """Overhead and ratio, with whether the goals are met.

    Raises:
        TwinsplitError: a service cannot start or ends by itself, or tasks do not end at the edge.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        progress("writing and cutting AlexNet")
        whole_file = light_network(NETWORK, folder, seed)
        model = folder / "alexnet" / "1"
        report = build_model(whole_file, model, name="alexnet-224", cutting=CutSettings(max_segments=CUT + 1))
        frames = _frames(report.manifest, folder / "frames")
        whole = open_session(whole_file, threads=threads)
        input_tensor = made_up_input(report.manifest).tensor
        scenario = _scenario(model, frames, tasks, threads, seed, _median_s(whole, input_tensor))
        progress(f"{tasks} tasks, about {scenario.seconds:.0f} s")
        lines, whole_times, digest = _run(scenario, whole, input_tensor)
    return figures(lines[WARM_UP_TASKS:], whole_times, digest, threads)


def lines(found: Mapping[str, Any]) -> list[str]:
    """The figures for people."""
    overhead, computing, whole = found["overhead"], found["head_and_tail"], found["whole"]
    verdicts = {key: "met" if found[f"{key}_is_met"] else "MISSED" for key in ("overhead", "overhead_p95", "ratio")}
    stages = ", ".join(f"{name} {ms(stage['median_s'])}" for name, stage in found["stages"].items())
    return [
        f"latency less head and tail: {ms(overhead['median_s'])} ms median (goal {ms(OVERHEAD_GOAL_S)}: "
        f"{verdicts['overhead']}), {ms(overhead['p95_s'])} ms p95 (goal {ms(OVERHEAD_P95_GOAL_S)}: "
        f"{verdicts['overhead_p95']})",
        f"head plus tail {ms(computing['median_s'])} ms, whole network {ms(whole['median_s'])} ms: ratio "
        f"{found['ratio']:.3f} (goal {RATIO_GOAL}: {verdicts['ratio']})",
        f"medians of the stages, ms: {stages}; {found['wire_bytes'] / 1e3:.0f} kB as "
        f"{', '.join(found['representations'])}",
    ]


def _scenario(model: Path, frames: Path, tasks: int, threads: int, seed: int, whole_s: float) -> Scenario:
    period_s = max(_PERIOD_NETWORKS * whole_s, _SHORTEST_PERIOD_S)
    count = tasks + WARM_UP_TASKS
    return Scenario(
        model=model,
        frames=frames,
        rule=f"static:{CUT}",
        arrivals="periodic",
        task_rate_per_s=1.0 / period_s,
        seconds=count * period_s + 1e-6,
        warm_up_s=0.0,
        seed=seed,
        threads=threads,
        load_share=0.0,
    )


def _run(
    scenario: Scenario, whole: Session, input_tensor: np.ndarray[Any, Any]
) -> tuple[list[dict[str, Any]], list[float], str]:
    whole_times = []
    period_s = 1.0 / scenario.task_rate_per_s
    with LiveRun(scenario, measured_speeds(scenario)) as run:
        count = len(scenario.arrivals_s())
        for number in range(1, count + 1):
            time.sleep(max(0.0, run.began_at_s + (number + _REST_SHARE) * period_s - time.monotonic()))
            began_s = time.perf_counter()
            whole.run(input_tensor)
            whole_times.append(time.perf_counter() - began_s)
            if number % 10 == 0:
                run.look()
        for _ in run.snapshots():
            pass
        result = run.close()
        return run.lines, whole_times[WARM_UP_TASKS:], result.model_digest


def figures(
    tasks: Sequence[Mapping[str, Any]], whole_times: Sequence[float], digest: str, threads: int
) -> dict[str, Any]:
    """Figures from lines of the device's sink and times of the whole network, seconds.

    Raises:
        RunStalledError: too few tasks ended at the edge.
    """
    at_edge = [task for task in tasks if task["outcome"] == "edge" and task["payload"] == "tensor"]
    if len(at_edge) < 0.95 * len(tasks):
        ends = sorted({f"{task['outcome']} ({task['reason']})" for task in tasks})
        raise RunStalledError(
            f"only {len(at_edge)} of {len(tasks)} tasks ended at the edge; they ended: {', '.join(ends)}"
        )
    computing = [task["stages_s"]["compute"] + task["stages_s"]["edge_compute"] for task in at_edge]
    overhead = [task["latency_s"] - computed_s for task, computed_s in zip(at_edge, computing, strict=True)]
    rest, whole, both = described(overhead), described(whole_times), described(computing)
    ratio = both["median_s"] / whole["median_s"]
    names = [name for name, seconds in at_edge[0]["stages_s"].items() if seconds is not None]
    return {
        "digest": digest,
        "threads": threads,
        "tasks": len(at_edge),
        "representations": dict(Counter(task["representation"] for task in at_edge)),
        "wire_bytes": int(np.median([task["wire_bytes"] for task in at_edge])),
        "overhead": rest,
        "head_and_tail": both,
        "whole": whole,
        "ratio": ratio,
        "stages": {name: described([task["stages_s"][name] or 0.0 for task in at_edge]) for name in names},
        "overhead_is_met": rest["median_s"] <= OVERHEAD_GOAL_S,
        "overhead_p95_is_met": rest["p95_s"] <= OVERHEAD_P95_GOAL_S,
        "ratio_is_met": ratio <= RATIO_GOAL,
    }


def _frames(manifest: Manifest, folder: Path) -> Path:
    folder.mkdir()
    for number in range(FRAMES):
        np.save(folder / f"{number:04d}.npy", made_up_input(manifest, number).tensor)
    return folder


def _median_s(whole: Session, input_tensor: np.ndarray[Any, Any]) -> float:
    times = []
    for _ in range(10):
        began_s = time.perf_counter()
        whole.run(input_tensor)
        times.append(time.perf_counter() - began_s)
    return float(np.median(times))
