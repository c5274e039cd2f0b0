"""Where real processes and the simulator differ, reckoned from their stages, and what is simpler simulated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.report.text import percent

Document = Mapping[str, Any]

STAGES = {
    "queue": (
        "waiting for the device",
        "waits grow more than in proportion with what the tasks before take there, be it by late steps or by tasks "
        "that end on the device instead of at the edge",
    ),
    "compute": (
        "computing on the device",
        "a real step ends once the machine's timer and scheduler get to it, a simulated one to the microsecond",
    ),
    "encode": ("encoding", "every payload of a kind takes the same measured time in the simulator"),
    "upload": (
        "sending",
        "the way of a payload beyond the emulated link is one figure a run in the simulator",
    ),
    "edge_queue": (
        "waiting at the edge",
        "jobs of other users are slower by one factor a run in the simulator, each by its own on real processes; a "
        "plan that meets another backlog sends other tasks",
    ),
    "edge_compute": ("computing at the edge", "a tail takes what the profile says in the simulator"),
}
"""By :data:`benchmarks.fidelity.STAGES`: words, and what is simpler in the simulator than on real processes."""
_LEAST_SHARE = 0.1
"""Of all differences; smaller ones are not told."""
_OF_ALL = ("queue", "compute")
"""Stages of every task; the others are of those that the edge answers."""


def differences(document: Document) -> str:
    """For every rule by how much real processes take longer and in which stages, then the causes by stage."""
    lines, stages = [], set()
    for rule, found in document["rules"].items():
        by_stage_s = main_differences_s(found)
        stages |= set(by_stage_s)
        told = ", ".join(f"{STAGES[stage][0]} {1e3 * by_s:+.1f} ms" for stage, by_s in by_stage_s.items())
        real, simulated = (found["latency_s"][side]["mean"] for side in ("testbed", "simulator"))
        latencies = f"mean latency {1e3 * real:.0f} ms on real processes, {1e3 * simulated:.0f} ms simulated"
        end, shares = max(found["stops"].items(), key=lambda stop: abs(stop[1]["testbed"] - stop[1]["simulator"]))
        lines.append(
            f"- {rule}: {latencies}{': ' if told else ''}{told}. Ends differ most in `{end}`: "
            f"{percent(shares['testbed'])} of real tasks, {percent(shares['simulator'])} of simulated ones."
        )
    causes = [f"*{words}*: {cause}" for stage, (words, cause) in STAGES.items() if stage in stages]
    if causes:
        lines.append(f"- Cause, as far as the simulator is known to be simpler in these stages: {'; '.join(causes)}.")
    return "Where real processes differ from the simulator, mean over all tasks, and why:\n\n" + "\n".join(lines)


def main_differences_s(found: Document) -> dict[str, float]:
    """What stages add to the time of a task on real processes over the simulated one, largest first."""
    by_stage_s = {
        stage: _per_task_s(found, stage, "testbed") - _per_task_s(found, stage, "simulator")
        for stage in found["stages_mean_s"]
    }
    least_s = _LEAST_SHARE * sum(map(abs, by_stage_s.values()))
    ranked = sorted(by_stage_s.items(), key=lambda each: -abs(each[1]))
    return {stage: by_s for stage, by_s in ranked if abs(by_s) > 0.0 and abs(by_s) >= least_s}


def _per_task_s(found: Document, stage: str, side: str) -> float:
    """Mean over all tasks of what is given where it was entered."""
    mean_s = found["stages_mean_s"][stage][side] or 0.0
    answered = sum(shares[side] for end, shares in found["stops"].items() if end.startswith("edge"))
    return float(mean_s * (1.0 if stage in _OF_ALL else answered))
