"""``twinsplit bench fidelity``: the simulator against real processes on one scenario.

The simulator is given what real processes have: measured shares of segments, exits and encoders, what exits show on the
frames, in their order, the services' bounds of queues, and, from the very run, the time that other users' jobs took
(decoding included) and that a payload was on its way beyond the emulated link. Both meet the same arrivals, load of
other users and changes of the link, and in both devices obey plans of the twin's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.books import Entry
from benchmarks.books import end_of as end_in_words
from benchmarks.comparison import AROUND_S, check_rules
from benchmarks.provenance import ended, provenance
from benchmarks.results import ResultFile
from benchmarks.scenario import Scenario, changed_scenario
from benchmarks.simulator.by_plans import ByPlans
from benchmarks.simulator.device import SimulatedDevice
from benchmarks.simulator.world import Listener, World
from benchmarks.testbed.emulated import check_testbed, edge_queue_capacity
from benchmarks.testbed.live import LiveRun
from benchmarks.testbed.speeds import Speeds, measured_speeds
from device.settings import DeviceSettings
from edge.settings import EdgeSettings
from twin_service.decision.loading import located
from twin_service.decision.rules import rule_named
from twinsplit.types import TaskRecord

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
STAGES = ("queue", "compute", "encode", "upload", "edge_queue", "edge_compute")

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far simulator and testbed may lie apart."""

    share: float = 0.10
    """Of tasks that end in one way, difference."""
    median: float = 0.10
    """Of the latency, share of the testbed's."""
    p95: float = 0.25
    """Likewise."""
    cost: float = 0.15
    """Mean cost of a task, likewise."""
    ks: float = 0.15
    """Largest distance of the two distributions of latency (Kolmogorov, Smirnov), latencies that differ by no more than
    ``ks_apart_s`` counting as the same."""
    ks_apart_s: float = 0.010
    """Simulated steps end to the microsecond, so that many tasks have one and the same latency; real ones do not."""


BOUNDS = Bounds()


@dataclass(slots=True)
class Side:
    """What tasks did on one side, over all seeds."""

    latencies_s: list[float] = field(default_factory=list)
    """Of answered tasks."""
    ends: Counter[str] = field(default_factory=Counter)
    stages_s: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    """Of the tasks that entered them."""
    costs_s: list[float] = field(default_factory=list)
    """Mean of each seed."""

    @property
    def tasks(self) -> int:
        return sum(self.ends.values())

    def take(self, entries: Sequence[Entry], cost_s: float) -> None:
        """One run."""
        self.latencies_s += [entry.latency_s for entry in entries if entry.outcome.is_answered]
        self.ends.update(map(end_in_words, entries))
        self.costs_s.append(cost_s)

    def take_stages(self, stages_s: Mapping[str, float | None]) -> None:
        """One task."""
        for stage in STAGES:
            if (seconds := stages_s.get(stage)) is not None:
                self.stages_s[stage].append(seconds)


class _Stages(Listener):
    def __init__(self, side: Side) -> None:
        self._side = side

    def task_ended(self, device: SimulatedDevice, record: TaskRecord) -> None:
        self._side.take_stages({stage: getattr(record.stages, stage) for stage in STAGES})


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run of real processes showed of itself."""

    job_s: float | None = None
    """Service time of other users' jobs, mean; ``None``: there were none."""
    way_s: float = 0.0
    """Time that a payload and its answer are on their way beyond what the emulated link takes."""


def imitated(scenario: Scenario, speeds: Speeds, measured: Measured | None = None) -> Scenario:
    """``scenario`` for the simulator, with the speeds of the emulation and what a run of real processes showed; as many
    jobs of other users come as did then."""
    measured = Measured() if measured is None else measured
    profile = speeds.profile
    whole_s = speeds.measured_whole_s
    slower = 1.0 if measured.job_s is None else measured.job_s / speeds.edge_whole_s
    return changed_scenario(
        scenario,
        load_share=scenario.load_share * slower,
        load_peak=scenario.load_peak * slower,
        load_mean_s=(scenario.load_mean_s or speeds.edge_whole_s) * slower,
        step_load_share=None if scenario.step_load_share is None else scenario.step_load_share * slower,
        uplink_delay_s=scenario.uplink_delay_s + measured.way_s / 2.0,
        **_bounds_of(scenario),
        tasks=None,
        warm_up_tasks=0,
        device_slowdown=None,
        edge_slowdown=None,
        device_whole_s=speeds.device_whole_s,
        edge_whole_s=speeds.edge_whole_s * slower,
        segment_shares=profile.segment_s,
        exit_shares=tuple(exit_s / whole_s for exit_s in profile.exit_s),
        encode_shares=tuple((*key, encode_s / whole_s) for key, encode_s in profile.encode_s.items()),
        evidence="frames",
    )


def _bounds_of(scenario: Scenario) -> dict[str, Any]:
    """Bounds that the services have where the scenario says none."""
    device = DeviceSettings.model_fields
    own = {
        "queue_capacity": device["queue_capacity"],
        "kept_tensors": device["kept_tensors"],
        "answer_timeout_s": device["answer_timeout_s"],
    }
    edge_queue = edge_queue_capacity(scenario) or EdgeSettings.model_fields["queue_capacity"].default
    return {name: field.default for name, field in own.items() if getattr(scenario, name) is None} | {
        "edge_queue_capacity": edge_queue
    }


def run_fidelity(
    scenario: Scenario, rules: Sequence[str], seeds: Sequence[int], json_path: Path | None, say: Callable[[str], None]
) -> None:
    """Measure, print, write.

    Raises:
        SettingsError: a rule that does not exist, or a scenario that only one side can run.
        StorageError: ``json_path`` cannot be written; found out before anything runs.
        TwinsplitError: a service cannot start or ends by itself.
    """
    check_testbed(scenario)
    check_rules(rules)
    result_file = None if json_path is None else ResultFile(json_path)
    try:
        about = provenance(seeds=seeds)
        say(f"About {len(rules) * len(seeds) * (scenario.seconds + scenario.warm_up_s + AROUND_S):.0f} s.")
        speeds = measured_speeds(scenario)
        found = measure(scenario, speeds, rules, seeds, say)
        for line in lines(found):
            say(line)
        say(ended(about))
        if result_file is not None:
            about["digests"] = {"model": speeds.profile.model_digest}
            document = {"provenance": about, "scenario": scenario.described(), "bounds": asdict(BOUNDS), "rules": found}
            result_file.write(document)
    finally:
        if result_file is not None:
            result_file.discard()


def measure(
    scenario: Scenario, speeds: Speeds, rules: Sequence[str], seeds: Sequence[int], say: Callable[[str], None]
) -> dict[str, Any]:
    """Run every rule on every seed on both sides.

    Raises:
        TwinsplitError: a service cannot start or ends by itself, or a scenario that only one side can run.
    """
    found: dict[str, Any] = {}
    for rule in rules:
        real, simulated = Side(), Side()
        for seed in seeds:
            say(f"{rule}, seed {seed}: real processes, {scenario.seconds:g} s")
            measured = _run_real(changed_scenario(scenario, rule=located(rule), seed=seed), speeds, real)
            _simulate(imitated(scenario, speeds, measured), rule, seed, simulated)
        found[rule_named(rule).name] = compared(real, simulated)
    return found


def compared(real: Side, simulated: Side, bounds: Bounds = BOUNDS) -> dict[str, Any]:
    """Figures of one rule on both sides, and which lie within ``bounds``."""
    ours, theirs = np.array(real.latencies_s), np.array(simulated.latencies_s)
    both = {"testbed": quantiles(ours), "simulator": quantiles(theirs)}
    shares = {
        end: {"testbed": real.ends[end] / real.tasks, "simulator": simulated.ends[end] / simulated.tasks}
        for end in sorted({*real.ends, *simulated.ends})
    }
    largest = max((abs(pair["testbed"] - pair["simulator"]) for pair in shares.values()), default=0.0)
    distance = ks_distance(ours, theirs, bounds.ks_apart_s)
    cost = {"testbed": float(np.mean(real.costs_s)), "simulator": float(np.mean(simulated.costs_s))}
    p50, p95 = (_off(both, name) for name in ("p50", "p95"))
    return {
        "tasks": {"testbed": real.tasks, "simulator": simulated.tasks},
        "latency_s": both,
        "ks_distance": distance,
        "ks_distance_exact": ks_distance(ours, theirs),
        "ks_by_chance": ks_by_chance(len(ours), len(theirs)),
        "stops": shares,
        "largest_share_difference": largest,
        "cost_s": cost,
        "stages_mean_s": {
            stage: {"testbed": _mean(real.stages_s[stage]), "simulator": _mean(simulated.stages_s[stage])}
            for stage in STAGES
        },
        "is_within": {
            "share": largest <= bounds.share,
            "median": p50 is not None and p50 <= bounds.median,
            "p95": p95 is not None and p95 <= bounds.p95,
            "cost": abs(cost["simulator"] - cost["testbed"]) <= bounds.cost * abs(cost["testbed"]),
            "ks": distance is not None and distance <= bounds.ks,
        },
    }


def quantiles(latencies_s: Array) -> dict[str, float]:
    """Mean and quantiles; empty of nothing."""
    if not len(latencies_s):
        return {}
    found = {f"p{round(100 * q)}": float(np.quantile(latencies_s, q)) for q in QUANTILES}
    return {"mean": float(latencies_s.mean())} | found


def ks_distance(first: Array, second: Array, apart: float = 0.0) -> float | None:
    """Largest difference of the two empirical distributions, values that lie no more than ``apart`` from one another
    counting as the same; ``None`` where one is empty."""
    if not len(first) or not len(second):
        return None
    first, second = np.sort(first), np.sort(second)
    return max(_ahead(first, second, apart), _ahead(second, first, apart), 0.0)


def _ahead(first: Array, second: Array, apart: float) -> float:
    """By how much the share of ``first`` up to a value exceeds that of ``second`` up to ``apart`` more, at most; both
    sorted."""
    ours = np.arange(1, len(first) + 1) / len(first)
    theirs = np.searchsorted(second, first + apart, side="right") / len(second)
    return float((ours - theirs).max())


def ks_by_chance(first: int, second: int) -> float | None:
    """What two samples of one distribution exceed in one case of twenty."""
    return 1.358 * float(np.sqrt((first + second) / (first * second))) if first and second else None


def lines(rules: Mapping[str, Any]) -> Iterator[str]:
    """For people."""
    for rule, found in rules.items():
        yield f"{rule}: {found['tasks']['testbed']} tasks on real processes, {found['tasks']['simulator']} simulated"
        for name in ("mean", "p50", "p95"):
            if all(name in side for side in found["latency_s"].values()):
                real, simulated = (found["latency_s"][side][name] for side in ("testbed", "simulator"))
                yield f"  latency {name:<5} {real * 1e3:7.0f} ms  simulated {simulated * 1e3:7.0f} ms"
        if found["ks_distance"] is not None:
            distances = f"{found['ks_distance']:.3f} ({found['ks_distance_exact']:.3f} exactly)"
            yield f"  KS distance {distances}, by chance up to {found['ks_by_chance']:.3f}"
        for end, share in found["stops"].items():
            yield f"  {end:<24} {share['testbed']:6.1%}  simulated {share['simulator']:6.1%}"
        for stage, pair in found["stages_mean_s"].items():
            if None not in pair.values():
                yield f"  {stage:<13} mean {pair['testbed'] * 1e3:7.1f} ms  simulated {pair['simulator'] * 1e3:7.1f} ms"
        yield f"  cost {found['cost_s']['testbed']:.3f} s, simulated {found['cost_s']['simulator']:.3f} s"
        missed = [name for name, is_within in found["is_within"].items() if not is_within]
        yield "  within all bounds" if not missed else f"  OUT OF BOUNDS: {', '.join(missed)}"


def _run_real(scenario: Scenario, speeds: Speeds, side: Side) -> Measured:
    with LiveRun(scenario, speeds) as run:
        for _ in run.snapshots():
            pass
        result = run.close()
        side.take(result.entries, result.summary.cost_s)
        for line in run.lines:
            side.take_stages(line["stages_s"])
    return Measured(result.load.get("mean_service_s"), way_s(scenario, run.lines))


def way_s(scenario: Scenario, lines: Sequence[Mapping[str, Any]]) -> float:
    """Time on the way beyond that of the emulated link, of payloads that met an idle uplink: the lower quartile."""
    if scenario.uplink != "fixed" or scenario.uplink_bytes_per_s is None:
        return 0.0
    rate, emulated_s = scenario.uplink_bytes_per_s, 2.0 * scenario.uplink_delay_s + scenario.uplink_jitter_s
    found = [
        line["stages_s"]["upload"] - line["wire_bytes"] / rate - emulated_s
        for line in lines
        if line["outcome"] == "edge"
    ]
    return max(0.0, float(np.quantile(found, 0.25))) if found else 0.0


def _simulate(scenario: Scenario, rule: str, seed: int, side: Side) -> None:
    world = World(scenario, seed, ByPlans(rule_named(rule)), listeners=[_Stages(side)])
    run = world.run(keeps_entries=True)
    side.take(run.entries, run.cost_s)


def _off(both: Mapping[str, Mapping[str, float]], name: str) -> float | None:
    if not all(both.values()):
        return None
    return abs(both["simulator"][name] - both["testbed"][name]) / both["testbed"][name]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
