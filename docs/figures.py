"""Draws the figures of docs/explanation from one simulated run of the demo's scenario, twin and all.

    python docs/figures.py [FOLDER]      default: docs/explanation

The run is the services' own objects in simulated time; the same seed draws the same figures.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.report.looks import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, canvas, png
from benchmarks.scenario import changed_scenario, read_scenario
from benchmarks.simulator.by_plans import ByPlans
from benchmarks.simulator.recording import Recording
from benchmarks.simulator.world import Listener, World
from twin_service.decision.optimising import OPEN_LOOP
from twin_service.decision.utility import NEVER
from twin_service.decision.values import OpenLoopValues
from twin_service.workload.replayed import INPUT, TENSOR, Replayed
from twinsplit.types import NO_EVIDENCE, Decision

if TYPE_CHECKING:
    from benchmarks.simulator.device import SimulatedDevice

ROOT = Path(__file__).resolve().parents[1]
SEED = 1
TASKS = 150
SHOWN_S = (14.0, 17.0)
"""The part of the run that the mirrors are shown in."""
SHOWN_EPOCHS = 3
"""The plan is shown up to the last epoch with an exit of its own: later ones look alike."""
_LOOK_S = 0.004
_COLOURS = {
    Decision.CONTINUE: GREY,
    Decision.EXIT: GREEN,
    Decision.OFFLOAD_TENSOR: BLUE,
    Decision.OFFLOAD_INPUT: ORANGE,
}
_WORDS = {
    Decision.CONTINUE: "go on",
    Decision.EXIT: "answer from the exit",
    Decision.OFFLOAD_TENSOR: "offload the tensor",
    Decision.OFFLOAD_INPUT: "offload the input",
}


@dataclass
class Looks(Listener):
    """Truth and mirror side by side, looked at in every few milliseconds."""

    deciding: ByPlans
    at_s: list[float] = field(default_factory=list)
    true_backlog_s: list[float] = field(default_factory=list)
    twin_backlog_s: list[float] = field(default_factory=list)
    device_backlog_s: list[float] = field(default_factory=list)
    true_epoch: list[float] = field(default_factory=list)
    twin_epoch: list[float] = field(default_factory=list)
    world: World | None = None

    def begin(self, world: World) -> None:
        self.world = world
        world.schedule(SHOWN_S[0], self._look, None)

    def _look(self, _: object) -> None:
        world = self.world
        assert world is not None
        now_s, device = world.now_s, world.devices[0]
        twin, edge = self.deciding.core.devices["device-0"], self.deciding.core.edges[device.edge.edge_id]
        self.at_s.append(now_s)
        self.true_backlog_s.append(device.edge.backlog_s(now_s))
        self.twin_backlog_s.append(edge.backlog_s(now_s))
        self.device_backlog_s.append(device.pipeline.plans.backlog_s(now_s))
        self.true_epoch.append(np.nan if device.task is None else device.task.epoch)
        believed = twin.status.epoch(now_s)
        self.twin_epoch.append(np.nan if believed is None else believed)
        if now_s < SHOWN_S[1]:
            world.schedule(now_s + _LOOK_S, self._look, None)


@dataclass
class Run:
    """What the figures are drawn from."""

    looks: Looks
    recording: Recording
    device: SimulatedDevice
    deciding: ByPlans
    world: World


def run() -> Run:
    """The demo's scenario with a twin that mirrors, plans and updates."""
    scenario = read_scenario(ROOT / "benchmarks/scenarios/demo.yaml")
    scenario = changed_scenario(scenario, tasks=TASKS, warm_up_tasks=0)
    deciding = ByPlans(OPEN_LOOP)
    looks, recording = Looks(deciding), Recording(SEED)
    world = World(scenario, SEED, deciding, listeners=(looks, recording))
    looks.begin(world)
    world.run()
    return Run(looks, recording, world.devices[0], deciding, world)


def payoffs(found: Run) -> Figure:
    """What each decision is worth after exit 1, by backlog, for a doubtful and a confident sample."""
    values = OpenLoopValues(found.device.situation(SHOWN_S[0]), (True, True))
    epoch, evidences = 1, _bins_of_first_exit(values)
    backlog_s = np.linspace(0.0, 0.6, 241)
    figure = canvas(10.0, 3.6)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (words, evidence) in zip(panels, (("doubtful", evidences[2]), ("confident", evidences[-1])), strict=True):
        at = [values.at(epoch, evidence, 0.0, float(b), 0.0) for b in backlog_s]
        lines = {
            Decision.CONTINUE: [p.going_on for p in at],
            Decision.EXIT: [p.exit for p in at],
            Decision.OFFLOAD_TENSOR: [p.tensor for p in at],
            Decision.OFFLOAD_INPUT: [p.input for p in at],
        }
        best = np.argmax(np.array([lines[d] for d in lines]), axis=0)
        for decision, line in lines.items():
            axes.plot(1e3 * backlog_s, line, color=_COLOURS[decision], label=_WORDS[decision])
        top = np.max(np.array(list(lines.values())), axis=0)
        for index, decision in enumerate(lines):
            taken = np.where(best == index, top, np.nan)
            axes.plot(1e3 * backlog_s, taken, color=_COLOURS[decision], linewidth=4, alpha=0.45)
        axes.set_title(f"exit 1 is {words}: right in {100 * values.p_exit_right[evidence]:.0f} %", fontsize=9)
        axes.set_xlabel("backlog of the edge, ms")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("expected utility to go, s")
    panels[0].set_ylim(max(1.0, float(np.nanmin(panels[0].get_ylim()))), None)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False
    )
    return figure


def plan(found: Run) -> Figure:
    """The plan that stands at the end of the run: decision by epoch, evidence and backlog, with no task waiting."""
    standing = found.deciding.core.devices["device-0"].standing
    assert standing is not None
    plan = standing.plan
    manifest = found.world.manifest
    rows = _rows_of(plan.table)
    backlog_s = np.linspace(0.0, 0.6, 601)
    picture = np.array([[int(plan.decision(epoch, e, 0, float(b))) for b in backlog_s] for epoch, e in rows])
    colours = ListedColormap([_COLOURS[decision] for decision in Decision])
    figure = canvas(10.0, 1.6 + 0.24 * len(rows))
    axes = figure.subplots()
    axes.imshow(
        picture,
        aspect="auto",
        cmap=colours,
        vmin=-0.5,
        vmax=len(Decision) - 0.5,
        extent=(0.0, 600.0, len(rows) - 0.5, -0.5),
        interpolation="nearest",
    )
    axes.set_yticks(range(len(rows)), [_row_words(epoch, e, manifest) for epoch, e in rows], fontsize=8)
    for edge_s in plan.band_edges_s:
        axes.axvline(1e3 * edge_s, color="white", linewidth=0.6, alpha=0.7)
    for row in range(1, len(rows)):
        axes.axhline(row - 0.5, color="white", linewidth=2.0 if rows[row][0] != rows[row - 1][0] else 0.4)
    axes.set_xlabel("backlog of the edge, ms")
    patches = [Patch(color=_COLOURS[decision], label=_WORDS[decision]) for decision in Decision]
    figure.legend(handles=patches, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def mirrors(found: Run) -> Figure:
    """Truth beside what the twin predicts between messages: the edge's backlog, and where the task is."""
    looks = found.looks
    figure = canvas(10.0, 5.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    above.plot(looks.at_s, looks.true_backlog_s, color=BLACK, linewidth=1.0, label="edge, truly")
    above.plot(looks.at_s, looks.twin_backlog_s, color=VERMILLION, linewidth=1.6, label="twin service predicts")
    above.plot(
        looks.at_s, looks.device_backlog_s, color=SKY, linewidth=1.3, linestyle="--", label="device reckons with"
    )
    above.set_ylabel("backlog, s")
    below.step(looks.at_s, looks.true_epoch, color=BLACK, linewidth=1.0, where="post", label="task, truly")
    below.step(looks.at_s, looks.twin_epoch, color=PURPLE, linewidth=2.4, alpha=0.5, where="post", label="status twin")
    below.set_ylabel("epoch")
    below.set_xlabel("time, s")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.legend(loc="upper right", fontsize=8, ncols=3)
    return figure


def counterfactual(found: Run) -> Figure:
    """One ended task under every decision that it could have taken."""
    task = _telling(found.recording.close())
    bars = _alternatives(task)
    figure = canvas(10.0, 0.9 + 0.27 * len(bars))
    axes = figure.subplots()
    best = max(worth for _, worth, _, _ in bars)
    for row, (_, worth, decision, is_taken) in enumerate(bars):
        axes.barh(row, worth, color=_COLOURS[decision], edgecolor=BLACK if is_taken else "none", linewidth=1.6)
        told = f"{worth:.3f} s" + (" taken" if is_taken else "") + (" best in hindsight" if worth == best else "")
        axes.text(worth, row, " " + told, va="center", fontsize=8)
    axes.set_yticks(range(len(bars)), [words for words, *_ in bars], fontsize=8)
    axes.invert_yaxis()
    worths = [worth for _, worth, _, _ in bars]
    axes.set_xlim(min(worths) - 0.3 * (best - min(worths)), best + 0.4 * (best - min(worths)))
    axes.set_xlabel("realised utility from service start on, s")
    axes.grid(alpha=0.3, axis="x")
    return figure


FIGURES = {"payoffs": payoffs, "plan": plan, "mirrors": mirrors, "counterfactual": counterfactual}


def _bins_of_first_exit(values: OpenLoopValues) -> list[int]:
    """Evidence states after exit 1, by P(right)."""
    seen = [e for e in range(1, len(values.p_exit_right)) if values.at(1, e, 0.0, 0.0, 0.0).exit > NEVER / 2]
    return sorted(seen, key=lambda e: values.p_exit_right[e])


def _rows_of(table: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    """(Epoch, evidence) that a task can be in where there is still something to decide."""
    epochs, evidences = table.shape[:2]
    exits = (evidences - 1) // 2
    bins = {0: (NO_EVIDENCE,), 1: range(1, 1 + exits)}
    rest = range(1 + exits, evidences)
    return [(epoch, e) for epoch in range(min(epochs - 1, SHOWN_EPOCHS)) for e in bins.get(epoch, rest)]


def _row_words(epoch: int, evidence: int, manifest: Any) -> str:
    if evidence == NO_EVIDENCE:
        return f"epoch {epoch}, nothing seen"
    bins = (manifest.evidence_count - 1) // len(manifest.exits)
    index, rank = divmod(evidence - 1, bins)
    return f"epoch {epoch}, exit {index + 1} right in {100 * manifest.exits[index].p_right[rank]:.0f} %"


def _telling(tasks: list[Replayed]) -> Replayed:
    """The task that stopped in the middle and lost most by it."""
    stopped = [task for task in tasks if 0 < task.taken_epoch < task.epochs - 1]
    return max(stopped, key=lambda task: _regret(task))


def _regret(task: Replayed) -> float:
    bars = _alternatives(task)
    return max(worth for _, worth, _, _ in bars) - next(worth for _, worth, _, is_taken in bars if is_taken)


def _alternatives(task: Replayed) -> list[tuple[str, float, Decision, bool]]:
    """(Words, utility from service start, decision, whether it was taken), in the order of epochs."""
    found = []
    for epoch in range(task.epochs):
        paid_s = float(np.sum(task.step_cost_s[:epoch]))
        options = [
            (Decision.OFFLOAD_TENSOR, float(task.offload_s[epoch, TENSOR])),
            (Decision.OFFLOAD_INPUT, float(task.offload_s[epoch, INPUT])),
            (Decision.EXIT, float(task.exit_s[epoch]) if epoch < task.epochs - 1 else float("nan")),
            (Decision.CONTINUE, float(task.finish_s) if epoch == task.epochs - 1 else float("nan")),
        ]
        for decision, worth in options:
            if np.isfinite(worth):
                words = _WORDS[decision] if decision is not Decision.CONTINUE else "the whole network on the device"
                is_taken = (epoch, decision) == (task.taken_epoch, task.taken)
                found.append((f"epoch {epoch}: {words}", worth - paid_s, decision, is_taken))
    return found


def main(folder: Path) -> None:
    """Draw all figures into ``folder``."""
    found = run()
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        (folder / f"{name}.png").write_bytes(png(draw(found)))
        sys.stdout.write(f"{folder / name}.png\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/explanation")
