"""How fast is learnt: held-out error and realised utility against tasks learnt from, with the twin's counterfactual
labels, without them, and with one head.

All nets of a scenario are judged on the same held-out tasks and by the same targets: what offloading really brought,
and what going on really brought when open loop is followed from the next epoch on. (The gate follows the candidate's
own rule there, which tells whether a net knows itself; but then each net would have targets of its own.) The gate is
left out: whatever was trained is judged. Every learning run takes its tasks from one run under open loop on a seed of
its own, the first so many of them, as a twin would meet them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.rule_figures import interval
from benchmarks.scenario import Scenario
from benchmarks.simulator.running import Progress, spread
from benchmarks.simulator.teaching import Teaching, recorded
from benchmarks.simulator.world import model_of
from twin_service.learning.lessons import Array, Lessons, lessons_of
from twin_service.learning.options import GateOptions, TrainingOptions
from twin_service.learning.promotion import brought_s, errors_of

HELD_OUT_SEED = 3_000_001
LEARNING_SEEDS = 4_000_000
"""A learning run's seed is added to it."""
GAIN_SHARES = (0.0, 0.5, 0.9)
"""Levels of error at which the needed tasks are compared: no worse than no learning at all, half of the way from there
to the least error with both heads and counterfactual labels, and nine tenths of it."""
_SAME_ERROR = 1e-12


@dataclass(frozen=True, slots=True)
class CurveSizes:
    """How much is learnt from and judged by."""

    tasks: tuple[int, ...] = (100, 200, 400, 800, 1600, 3200, 6400, 12800)
    """Tasks learnt from, ascending."""
    held_out: int = 8000
    steps: int = TrainingOptions().steps
    """Of training."""

    @classmethod
    def quick(cls) -> CurveSizes:
        """For a look."""
        return cls((100, 200, 400, 800, 1600), 2000)


@dataclass(frozen=True, slots=True)
class LearningRun:
    """The nets of one learning run, by the tasks that they learnt from."""

    errors: tuple[float, ...]
    """Held-out error, mean Huber loss, s**2."""
    gains_s: tuple[float, ...]
    """Realised utility of following the net's rule less that of open loop, per held-out task."""


def learning_curves(
    scenario: Scenario,
    seeds: Sequence[int],
    sizes: CurveSizes,
    *,
    workers: int | None = None,
    progress: Progress = lambda _done, _known: None,
) -> dict[str, Any]:
    """The curves of one scenario, each point with its values by learning run, and the tasks needed at equal error.

    Raises:
        TrainingError: torch is not installed, or training diverged.
    """
    held_out = held_out_lessons(scenario, sizes.held_out)
    jobs = [(scenario, held_out, seed, sizes) for seed in seeds]
    runs: list[dict[Teaching, LearningRun]] = spread(learning_run, jobs, workers=workers, progress=progress)
    zero_error = float(errors_of(held_out, None, _targets(held_out), GateOptions().huber_s).mean())
    by_teaching = {teaching: [run[teaching] for run in runs] for teaching in Teaching}
    return {
        "scenario": scenario.described(),
        "held_out": {"tasks": held_out.size, "seed": HELD_OUT_SEED, "error_without_learning": zero_error},
        "curves": {
            teaching.value: [_point(found, place, tasks, zero_error) for place, tasks in enumerate(sizes.tasks)]
            for teaching, found in by_teaching.items()
        },
        "tasks_needed": tasks_needed(
            sizes.tasks,
            {teaching.value: np.array([run.errors for run in found]) for teaching, found in by_teaching.items()},
            zero_error,
        ),
    }


def held_out_lessons(scenario: Scenario, tasks: int) -> Lessons:
    """Tasks that nothing is learnt from."""
    manifest, _ = model_of(scenario.model)
    return lessons_of(recorded(scenario, tasks, HELD_OUT_SEED), manifest)


def learning_run(scenario: Scenario, held_out: Lessons, seed: int, sizes: CurveSizes) -> dict[Teaching, LearningRun]:
    """Nets that learnt from the first tasks of one run, judged on ``held_out``."""
    from twin_service.learning.training import train  # torch is large: only who learns loads it

    manifest, _ = model_of(scenario.model)
    lessons = lessons_of(recorded(scenario, _recorded_tasks(sizes.tasks[-1]), LEARNING_SEEDS + seed), manifest)
    parts = np.array([np.arange(lessons.size) < tasks for tasks in sizes.tasks])
    targets, huber_s = _targets(held_out), GateOptions().huber_s
    found = {}
    for teaching in Teaching:
        options = replace(teaching.options.training, steps=sizes.steps)
        nets = [trained.net for trained in train(lessons, parts, seed=seed, options=options)]
        found[teaching] = LearningRun(
            tuple(float(errors_of(held_out, net, targets, huber_s).mean()) for net in nets),
            tuple(float((held_out.followed_s(net)[:, 0] - held_out.open_loop_s).mean()) for net in nets),
        )
    return found


def tasks_needed(sizes: Sequence[int], errors: dict[str, Array], zero_error: float) -> list[dict[str, Any]]:
    """Tasks needed to reach the same held-out error, by way of learning, and the factor over learning with both heads
    and counterfactual labels, at :data:`GAIN_SHARES` and at the least error without those labels (a share below 0:
    worse than no learning at all).

    Args:
        errors: (learning runs, sizes) by way of learning; levels and needs are those of the mean over the runs.
        zero_error: of no correction.
    """
    means = {name: found.mean(axis=0) for name, found in errors.items()}
    gain = zero_error - float(means[Teaching.FULL.value].min())
    if gain <= 0.0:
        return []
    without_labels = (zero_error - float(means[Teaching.FACTUAL.value].min())) / gain
    shares = sorted({share for share in (*GAIN_SHARES, without_labels) if share <= 1.0})
    return [_needed(sizes, means, zero_error - share * gain) | {"share_of_gain": share} for share in shares]


def reached_at(sizes: Sequence[int], errors: Array, level: float) -> float:
    """Tasks from which on ``errors`` (sizes,) is no more than ``level`` for the first time: linear in the logarithm of
    the tasks between the size before and the one there. ``inf``: never; the first size: there already, or before."""
    below = np.flatnonzero(errors <= level + _SAME_ERROR)
    if not len(below):
        return math.inf
    place = int(below[0])
    if place == 0:
        return float(sizes[0])
    share = float((errors[place - 1] - max(level, errors[place])) / (errors[place - 1] - errors[place]))
    return float(sizes[place - 1] * (sizes[place] / sizes[place - 1]) ** share)


def curves_table(found: dict[str, Any]) -> Table:
    """For people: what is taken off the error of not learning (± 95 %), and what the rule brings over open loop."""
    table = Table(box=None, pad_edge=False)
    for title in ("tasks", *found["curves"]):
        table.add_column(title, justify="right", no_wrap=True)
    for points in zip(*found["curves"].values(), strict=True):
        table.add_row(str(points[0]["tasks"]), *map(_point_text, points))
    return table


def needed_lines(found: dict[str, Any]) -> list[str]:
    """For people: tasks needed at equal error."""
    lines = []
    for row in found["tasks_needed"]:
        told = [
            f"{name} {_tasks_text(need)}" + (f" ({_factor_text(need)})" if name != Teaching.FULL.value else "")
            for name, need in row["needed"].items()
        ]
        lines.append(f"{row['share_of_gain']:.0%} of the gain: " + ", ".join(told))
    return lines


def _targets(held_out: Lessons) -> tuple[Array, Array]:
    return brought_s(held_out, None, is_counterfactual=True)


def _recorded_tasks(needed: int) -> int:
    """Some tasks, such as those lost, are not replayed."""
    return needed + max(needed // 50, 20)


def _point(runs: Sequence[LearningRun], place: int, tasks: int, zero_error: float) -> dict[str, Any]:
    errors = np.array([run.errors[place] for run in runs])
    gains_s = np.array([run.gains_s[place] for run in runs])
    off = 1.0 - errors / zero_error
    return {
        "tasks": tasks,
        "error": float(errors.mean()),
        "error_ci": interval(errors),
        "error_by_run": errors.tolist(),
        "error_off": float(off.mean()),
        "error_off_ci": interval(off),
        "utility_over_open_loop_s": float(gains_s.mean()),
        "utility_over_open_loop_ci_s": interval(gains_s),
        "utility_over_open_loop_s_by_run": gains_s.tolist(),
    }


def _needed(sizes: Sequence[int], means: dict[str, Array], level: float) -> dict[str, Any]:
    at = {name: reached_at(sizes, errors, level) for name, errors in means.items()}
    return {
        "error": level,
        "needed": {name: _need(sizes, tasks, at[Teaching.FULL.value]) for name, tasks in at.items()},
    }


def _need(sizes: Sequence[int], tasks: float, with_labels: float) -> dict[str, Any]:
    is_reached = math.isfinite(tasks)
    return {
        "tasks": tasks if is_reached else None,
        "more_than_tasks": None if is_reached else sizes[-1],
        "factor": tasks / with_labels if is_reached else None,
        "factor_more_than": None if is_reached else sizes[-1] / with_labels,
    }


def _point_text(point: dict[str, Any]) -> str:
    ci = point["error_off_ci"]
    half = "" if ci is None else f" ± {(ci[1] - ci[0]) / 2.0:.1%}"
    return f"{point['error_off']:+.1%}{half}, {1e3 * point['utility_over_open_loop_s']:+.1f} ms"


def _tasks_text(need: dict[str, Any]) -> str:
    return f"> {need['more_than_tasks']}" if need["tasks"] is None else f"{need['tasks']:.0f}"


def _factor_text(need: dict[str, Any]) -> str:
    more_than = need["factor_more_than"]
    return f"factor {need['factor']:.1f}" if more_than is None else f"factor > {more_than:.1f}"
