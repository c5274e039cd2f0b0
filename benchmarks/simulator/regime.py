"""A change of regime under a twin that learns while it serves: cost over time, what it tracks, what becomes of weights.

One-time and open-loop run as the product does, by plans and messages of a twin; so do ``learned-online``, whose twin
learns all the time, and ``learned-frozen``, whose weights stay from the step on. ``clairvoyant`` and
``open-loop, exact state`` are there for reference: they know the state without a message.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.rule_figures import interval, ratio_interval
from benchmarks.scenario import Scenario, changed_scenario
from benchmarks.simulator.by_plans import ByPlans
from benchmarks.simulator.clairvoyant import Clairvoyant
from benchmarks.simulator.deciding import ByTable, Deciding
from benchmarks.simulator.online_learning import LESSON_S, LearningByPlans, WeightsEvent
from benchmarks.simulator.running import Progress, spread
from benchmarks.simulator.world import World
from twin_service.core import TwinCore
from twin_service.decision.rules import rule_named
from twin_service.learning.learner import OPEN_LOOP_VERSION, Result
from twinsplit.errors import SettingsError

Array = NDArray[np.float64]

ONLINE = "learned-online"
FROZEN = "learned-frozen"
BASE = "open-loop"
RULES = ("one-time", BASE, ONLINE, FROZEN, "open-loop, exact state", "clairvoyant")
SPANS = ("before", "after", "later")
NEAR = 0.1
"""What is tracked is learnt again when it is so near to what it tracks."""
QUICK_TASKS = 1000
_LOOK_S = 1.0
_SHOWN_S = (60, 240)
"""Before and after the step."""


@dataclass(frozen=True, slots=True)
class RegimeRun:
    """One rule on one seed."""

    windows_s: Array
    """Mean cost by window of time; ``nan``: no task arrived then.  # (W,)"""
    costs_s: tuple[float, float, float]
    """Mean cost before the step, after it, and in the later half of what comes after."""
    tracks: dict[str, Array] = field(default_factory=dict)
    """By second from the start, of the learning twin: what it tracks and, as ``true NAME``, what there is.  # (T,)"""
    events: tuple[WeightsEvent, ...] = ()
    """What became of weights."""


def sized(scenario: Scenario, *, is_quick: bool) -> Scenario:
    """The scenario, shorter for a look.

    Raises:
        SettingsError: it has no step.
    """
    if scenario.step_at_s is None:
        raise SettingsError("scenario: step_at_s: a change of regime needs one, and what holds from then on")
    if not is_quick:
        return scenario
    step_at_s = QUICK_TASKS / 2 / (scenario.task_rate_per_s * scenario.devices)
    return changed_scenario(
        scenario, tasks=QUICK_TASKS, warm_up_tasks=min(scenario.warm_up_tasks, QUICK_TASKS // 10), step_at_s=step_at_s
    )


def regime_change(
    scenario: Scenario,
    seeds: Sequence[int],
    *,
    window_s: float,
    workers: int | None = None,
    progress: Progress = lambda _done, _known: None,
) -> dict[str, Any]:
    """All figures of one scenario with a step, windows counted from the step.

    Raises:
        TrainingError: torch is not installed.
    """
    import twin_service.learning.training  # noqa: F401 - without it every lesson would fail, and say so too late

    jobs = [(scenario, rule, seed, window_s) for rule in RULES for seed in seeds]
    runs: list[RegimeRun] = spread(regime_run, jobs, workers=workers, progress=progress)
    by_rule = {rule: runs[i * len(seeds) : (i + 1) * len(seeds)] for i, rule in enumerate(RULES)}
    online = by_rule[ONLINE]
    assert scenario.step_at_s is not None, "seen to when it was sized"
    return {
        "scenario": scenario.described(),
        "lesson_s": LESSON_S,
        "window_s": window_s,
        "windows_from_s": _window_starts(by_rule, scenario.step_at_s, window_s),
        "rules": {rule: _figures(by_rule, rule) for rule in RULES},
        "learning_on": {span: _ratio(online, by_rule[FROZEN], place) for place, span in enumerate(SPANS)},
        "tracked": tracked(_together([run.tracks for run in online]), scenario.step_at_s),
        "weights": weights_told(online, scenario.step_at_s, seeds),
    }


def regime_run(scenario: Scenario, rule: str, seed: int, window_s: float) -> RegimeRun:
    """One rule on one seed; tracks and events of the twin that learns."""
    assert scenario.step_at_s is not None, "seen to when it was sized"
    deciding = _deciding(rule, scenario.step_at_s)
    world = World(scenario, seed, deciding)
    tracks = _Tracks(world, deciding.core) if rule == ONLINE and isinstance(deciding, LearningByPlans) else None
    costs_s = world.run().costs_s
    arrived_s = np.sort(np.concatenate([device.samples.arrivals_s for device in world.devices]))
    since_s = arrived_s[-len(costs_s) :] - scenario.step_at_s
    last_s = float(since_s[-1])
    spans = (since_s < 0.0, since_s >= 0.0, since_s >= last_s / 2.0)
    first = math.floor(-scenario.step_at_s / window_s)
    window = np.floor(since_s / window_s).astype(int) - first
    count = math.ceil(-first + last_s / window_s)
    sums, tasks = (np.bincount(window, weights, minlength=count) for weights in (costs_s, np.ones(len(costs_s))))
    return RegimeRun(
        np.where(tasks > 0, sums / np.maximum(tasks, 1), np.nan),
        (float(costs_s[spans[0]].mean()), float(costs_s[spans[1]].mean()), float(costs_s[spans[2]].mean())),
        {} if tracks is None else tracks.as_arrays(),
        tuple(deciding.events) if isinstance(deciding, LearningByPlans) else (),
    )


def tracked(tracks: dict[str, Array], step_at_s: float) -> dict[str, Any]:
    """How long until what is tracked is near what it tracks again: on the mean over the runs, since one run's is noisy,
    and by run.

    Args:
        tracks: (runs, seconds) by name, and what there is as ``true NAME``.
    """
    found = {}
    for name in ("task_rate_per_s", "goodput_bytes_per_s", "backlog_mean_s"):
        seen, there = tracks[name], tracks[f"true {name}"]
        step = int(step_at_s / _LOOK_S)
        later = slice((step + seen.shape[1]) // 2, None)
        before, after = float(np.nanmean(there[:, step // 2 : step])), float(np.nanmean(there[:, later]))
        found[name] = {
            "before": before,
            "after": after,
            "near_since_start_s": near_after_s(np.nanmean(seen[:, :step], axis=0), before),
            "near_since_step_s": near_after_s(np.nanmean(seen[:, step:], axis=0), after),
            "near_since_step_s_by_run": [near_after_s(each[step:], after) for each in seen],
            "spread_later": float(np.nanstd(seen[:, later]) / after),
            "mean_by_second": {"from_s": -float(min(step, _SHOWN_S[0])), "values": _shown(seen, step)},
        }
    return found


def near_after_s(seen: Array, there: float) -> float | None:
    """Seconds until ``seen`` (T,) is within :data:`NEAR` of ``there`` for the first time; ``None``: never."""
    near = np.flatnonzero(np.abs(seen - there) <= NEAR * there)
    return float(near[0] * _LOOK_S) if len(near) else None


def weights_told(runs: Sequence[RegimeRun], step_at_s: float, seeds: Sequence[int]) -> dict[str, Any]:
    """What became of weights before and after the step, all runs together, and every event by run."""
    sides: dict[str, Callable[[float], bool]] = {
        "before": lambda at_s: at_s < step_at_s,
        "after": lambda at_s: at_s >= step_at_s,
    }
    counts = {
        side: dict(sorted(Counter(e.result for run in runs for e in run.events if belongs(e.at_s)).items()))
        for side, belongs in sides.items()
    }
    promoted_s = [
        min((e.at_s - step_at_s for e in run.events if _serves_anew(e) and e.at_s >= step_at_s), default=None)
        for run in runs
    ]
    return {
        "counts": counts,
        "first_promotion_after_step_s": promoted_s,
        "serving_at_step": [_serving_at(run.events, step_at_s) for run in runs],
        "events": {str(seed): [asdict(e) for e in run.events] for seed, run in zip(seeds, runs, strict=True)},
    }


def regime_table(found: dict[str, Any]) -> Table:
    """For people: mean cost by window."""
    table = Table(box=None, pad_edge=False)
    for title in ("from s after the step", *found["rules"]):
        table.add_column(title, justify="right", no_wrap=True)
    for place, from_s in enumerate(found["windows_from_s"]):
        costs = [figures["windows_s"][place] for figures in found["rules"].values()]
        if all(cost is None for cost in costs):  # the warm-up
            continue
        table.add_row(f"{from_s:g}", *("" if cost is None else f"{cost:.4f}" for cost in costs))
    return table


def regime_lines(found: dict[str, Any]) -> list[str]:
    """For people: spans, what is tracked, weights."""
    lines = []
    for rule, figures in found["rules"].items():
        lines.append(f"{rule} over {BASE}: {_spans_text(figures['spans'])}")
    lines.append(f"{ONLINE} over {FROZEN}: {_spans_text(found['learning_on'])}")
    for name, track in found["tracked"].items():
        within = track["near_since_step_s"]
        told_s = "never" if within is None else f"after {within:g} s"
        lines.append(
            f"{name}: {track['before']:.4g} before, {track['after']:.4g} after the step; within 10 % {told_s} "
            f"(spread in a run: {track['spread_later']:.0%})"
        )
    weights = found["weights"]
    for side, counts in weights["counts"].items():
        told = (f"{count} {result}" for result, count in counts.items())
        lines.append(f"weights {side} the step: " + (", ".join(told) or "nothing"))
    firsts = ("never" if s is None else f"{s:.0f} s" for s in weights["first_promotion_after_step_s"])
    lines.append("first promotion after the step, by run: " + ", ".join(firsts))
    return lines


class _Tracks:
    """Looks every second at what the twin tracks of the first device and its edge."""

    def __init__(self, world: World, core: TwinCore) -> None:
        self._world = world
        self._core = core
        self._rows: list[tuple[float, ...]] = []
        world.schedule(0.0, self._look, None)

    def as_arrays(self) -> dict[str, Array]:
        names = ("task_rate_per_s", "goodput_bytes_per_s", "backlog_mean_s")
        columns = np.array(self._rows).T
        return dict(zip((*names, *(f"true {name}" for name in names)), columns, strict=True))

    def _look(self, _: None) -> None:
        world, now_s = self._world, self._world.now_s
        device = world.devices[0]
        twin, edge = self._core.devices.get("device-0"), self._core.edges.get(device.edge.edge_id)
        self._rows.append(
            (
                math.nan if twin is None else twin.status.task_rate_per_s(now_s),
                math.nan if twin is None else twin.status.goodput_bytes_per_s or math.nan,
                math.nan if edge is None else edge.reading.mean_s,
                world.scenario.task_rate_per_s,
                device.link.bytes_per_s(now_s),
                device.edge.backlog_s(now_s),
            )
        )
        world.schedule(now_s + _LOOK_S, self._look, None)


def _deciding(rule: str, step_at_s: float) -> Deciding:
    made: dict[str, Callable[[], Deciding]] = {
        ONLINE: LearningByPlans,
        FROZEN: lambda: LearningByPlans(name=FROZEN, learns_until_s=step_at_s),
        "open-loop, exact state": lambda: ByTable(rule_named("open-loop")),
        "clairvoyant": Clairvoyant,
    }
    return made[rule]() if rule in made else ByPlans(rule_named(rule))


def _window_starts(by_rule: dict[str, list[RegimeRun]], step_at_s: float, window_s: float) -> list[float]:
    first = math.floor(-step_at_s / window_s)
    return [(first + place) * window_s for place in range(_windows(by_rule))]


def _windows(by_rule: dict[str, list[RegimeRun]]) -> int:
    """Windows that every run reaches."""
    return min(len(run.windows_s) for runs in by_rule.values() for run in runs)


def _figures(by_rule: dict[str, list[RegimeRun]], rule: str) -> dict[str, Any]:
    runs, base, count = by_rule[rule], by_rule[BASE], _windows(by_rule)
    windows = np.array([run.windows_s[:count] for run in runs])
    spans = {}
    for place, name in enumerate(SPANS):
        costs = _costs_s(runs, place)
        spans[name] = {"cost_s": float(costs.mean()), "cost_ci_s": interval(costs)} | _ratio(runs, base, place)
    columns = list(windows.T)
    return {
        "spans": spans,
        "windows_s": [_number(float(column.mean())) for column in columns],
        "windows_ci_s": [None if np.isnan(column).any() else interval(column) for column in columns],
    }


def _ratio(runs: Sequence[RegimeRun], base: Sequence[RegimeRun], span: int) -> dict[str, Any]:
    """Of the costs of two rules, paired over seeds."""
    costs, base_costs = _costs_s(runs, span), _costs_s(base, span)
    return {"ratio": float(costs.mean() / base_costs.mean()), "ratio_ci": ratio_interval(costs, base_costs)}


def _costs_s(runs: Sequence[RegimeRun], span: int) -> Array:
    """Mean cost by run.  # (runs,)"""
    return np.array([run.costs_s[span] for run in runs])


def _together(tracks: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """Tracks of all runs, as long as the shortest.  # (runs, T) each"""
    length = min(len(track) for each in tracks for track in each.values())
    return {name: np.array([each[name][:length] for each in tracks]) for name in tracks[0]}


def _shown(seen: Array, step: int) -> list[float | None]:
    """Mean over the runs around the step."""
    return [_number(value) for value in np.nanmean(seen[:, max(step - _SHOWN_S[0], 0) : step + _SHOWN_S[1]], axis=0)]


def _serves_anew(event: WeightsEvent) -> bool:
    return event.result == Result.PROMOTED.value


def _serving_at(events: Sequence[WeightsEvent], at_s: float) -> int:
    """Version promoted last before that instant and not taken back since; 0: open-loop."""
    served = [OPEN_LOOP_VERSION]
    for event in events:
        if event.at_s >= at_s:
            break
        if event.result == Result.PROMOTED.value:
            served.append(event.version)
        elif event.result == Result.ROLLED_BACK.value:
            served = [OPEN_LOOP_VERSION, served[-2]]  # the learner goes back once, then to open-loop
    return served[-1]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _spans_text(spans: dict[str, Any]) -> str:
    return ", ".join(f"{name} {span['ratio']:.3f}{_ci_text(span['ratio_ci'])}" for name, span in spans.items())


def _ci_text(ci: Sequence[float] | None) -> str:
    return "" if ci is None else f" ({ci[0]:.3f}..{ci[1]:.3f})"
