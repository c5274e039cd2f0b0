"""Parts of the page: what was asked, figures with their captions, tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from benchmarks.report import tables
from benchmarks.report.figures import (
    deadlines,
    fidelity,
    foresight,
    grid,
    learning,
    optimum,
    pruning,
    regime,
    signalling,
    testbed,
)

Document = Mapping[str, Any]


def _always(_: Document) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure."""

    name: str
    """Its file is NAME.png."""
    draw: Callable[[Document], Figure]
    caption: str
    is_there: Callable[[Document], bool] = _always
    """Whether the document holds what is drawn: quick runs leave some out."""


@dataclass(frozen=True, slots=True)
class Section:
    """One document of results on the page."""

    document: str
    title: str
    text: str
    drawings: tuple[Drawing, ...]
    table: Callable[[Document], str]


SECTIONS = (
    Section(
        "grid",
        "Rules on a grid of scenarios",
        "Exact state: every device sees its queue, its uplink and the edge's true backlog at every decision. Every "
        "rule meets the same arrivals, evidence, load and link in a cell (common random numbers); accuracy is booked "
        "as its calibrated expectation; the encoded input is a payload for every rule, but for tensors-only cells. "
        "`NAME-best` is tuned for its cell on seeds of its own. Learned rules learn from a run of their own, serve "
        "what passes the promotion gate, else open-loop, and are judged on other seeds. clairvoyant knows all future "
        "arrivals and is a reference, no bound. Intervals are Student's 95 % over seeds; ratios are paired.",
        (
            Drawing(
                "cost-by-load",
                grid.cost_by_load,
                "Cost of a task by edge load, every rule; a panel for every task rate, link and burst length.",
            ),
            Drawing(
                "ratio-by-load",
                grid.ratio_by_load,
                "The same over one-time's cost, without the rules that are far off.",
            ),
            Drawing(
                "ratios-over-cells",
                grid.ratios_over_cells,
                "Cost of every rule over one-time's, all cells: a dot a cell; boxes hold the middle half.",
            ),
            Drawing(
                "gap-closed",
                grid.gap_closed_by_cell,
                "Share of the gap from one-time to clairvoyant that is closed, by cell; cells in which that gap is "
                "under 2 % of cost are left out. Intervals are learned's, paired over seeds.",
            ),
            Drawing(
                "stops-by-load",
                grid.stops_by_load,
                "Where tasks stop, by edge load: means over links and burst lengths.",
            ),
        ),
        tables.rules_over_cells,
    ),
    Section(
        "foresight",
        "What foresight is worth",
        "The cells of the grid in which the least of the gap is closed, and the demo's. `blind-to-load` is the "
        "clairvoyant to which the backlog to come is what dead reckoning expects, `blind-to-arrivals` the one to which "
        "the device's tasks come at their tracked rate, `blind-to-uplink` the one to which the uplink stays as it is; "
        "`blind` sees nothing ahead and knows what every rule knows. What it leaves open is the worth of the future.",
        (
            Drawing(
                "gap-by-foresight",
                foresight.gap_by_foresight,
                "Share of the gap from one-time to clairvoyant that is closed, with intervals paired over seeds. Grey: "
                "the goal of every cell.",
            ),
        ),
        tables.foresight,
    ),
    Section(
        "optimum",
        "Beside the optimum",
        "One device, tasks that never meet, Poisson jobs of exponential size at the edge: small enough for dynamic "
        "programming over epoch, evidence and backlog, which is a bound for everybody who cannot see the future. "
        "clairvoyant can.",
        (
            Drawing(
                "optimum",
                optimum.beside_the_optimum,
                "Cost over the optimum's in the small Markov setting, paired over seeds.",
            ),
        ),
        tables.optimum,
    ),
    Section(
        "learning-curve",
        "Learning, with and without counterfactual labels",
        "Nets learn from the first so many tasks of a run under open-loop and are judged on held-out tasks, all by the "
        "same targets, without the promotion gate. `learned`: two heads and the twin's counterfactual labels; "
        "`learned-factual`: only what the task really did; `learned-one-head`: no correction of offloading.",
        (
            Drawing(
                "learning-curve",
                learning.learning_curves,
                "Above: what is taken off the held-out error of not learning. Below: utility of following the net over "
                "that of open loop. Scales are linear between -10 and 10 and logarithmic beyond.",
            ),
        ),
        tables.tasks_needed,
    ),
    Section(
        "regime",
        "A change of regime",
        "At the step the load of the edge doubles and the uplink falls to a third. Devices obey plans of a twin's over "
        "messages. The twin of `learned-online` learns while it serves, with its gate and its watch; the weights of "
        "`learned-frozen` stay as they are at the step. clairvoyant and `open-loop, exact state` need no message.",
        (
            Drawing(
                "regime-change",
                regime.regime_change,
                "Above: mean cost by window of time, and when weights were promoted or rolled back. Below: what the "
                "twin tracks over what holds after the step; grey: within 10 %.",
            ),
        ),
        tables.regime,
    ),
    Section(
        "regime-heavy-tailed",
        "A change of regime under heavy-tailed load",
        "The same where other users' jobs are heavy-tailed: half-way the load of the edge goes from 0.6 to 0.8 and the "
        "uplink from 40 to 15 kB/s.",
        (
            Drawing(
                "regime-change-heavy-tailed",
                regime.regime_change,
                "Above: mean cost by window of time, and when weights were promoted or rolled back. Below: what the "
                "twin tracks over what holds after the step; grey: within 10 %.",
            ),
        ),
        tables.regime,
    ),
    Section(
        "regime-kind",
        "A load that becomes heavy-tailed",
        "Before the step other users' jobs are all alike, and there is little to learn; from it on they are as many "
        "and heavy-tailed, and the uplink falls from 60 to 40 kB/s. Why learning gains less by plans than with exact "
        "state: docs/design/2026-11-24-learning.md.",
        (
            Drawing(
                "regime-change-kind",
                regime.regime_change,
                "Above: mean cost by window of time, and when weights were promoted or rolled back. Below: what the "
                "twin tracks over what holds after the step; grey: within 10 %.",
            ),
        ),
        tables.regime,
    ),
    Section(
        "pruning",
        "Necessary conditions R1-R3, and the price of caused waiting",
        "R1 and R2 rule out choices of going on before they are reckoned, R3 is the backlog above which nobody "
        "offloads (their definitions are in the formulation). Decisions are compared at every point that a task can "
        "meet, in situations that devices really met. The factor 1 / (1 - rho_d) makes caused waiting dearer on a busy "
        "device; both ways are booked by the same account.",
        (
            Drawing(
                "reduction",
                pruning.reduction,
                "Share of choices pruned and open-loop decisions that differ; planning time with R1 and R2 over that "
                "without (of one table, of 16 at once, of the backward induction alone); utility lost.",
            ),
            Drawing(
                "price-of-waiting",
                pruning.price_of_waiting,
                "Cost with the factor 1 / (1 - rho_d) over that without, by load of the device. Under 1: it pays.",
            ),
        ),
        tables.pruning,
    ),
    Section(
        "signalling",
        "Messages against cost, and the mirror's errors",
        "The same rule through plans, backlog updates and dead reckoning, over messages that take 2 ms, beside polling "
        "at every epoch, periodic status and exact state. Every message of the real protocol is built and counted, in "
        "either direction, without tensors and answers.",
        (
            Drawing(
                "messages-against-cost",
                signalling.messages_against_cost,
                "Cost over that with exact state against messages per task. Grey: at most half of the polled messages "
                "at no more than 2 % of cost. Intervals are cut off at the top.",
            ),
            Drawing(
                "mirror-errors",
                signalling.mirror_errors,
                "Mean error of every mirrored field, and what it does to decisions, against the report thresholds of "
                "edge and device. Star: as shipped. Service times do not vary here, so that the device's threshold, "
                "which is of progress, hardly counts.",
                signalling.has_thresholds,
            ),
            Drawing(
                "disturbances",
                signalling.disturbances,
                "Plans and polling under noise of service times, network delay, lost messages and messages that "
                "overtake one another, beside exact state in the same world.",
                signalling.has_thresholds,
            ),
        ),
        tables.signalling,
    ),
    Section(
        "signalling-fleet",
        "Messages against cost in a fleet on fast links",
        "Devices of two speeds, arrivals in bursts, edges that they share with one another and with others; one twin "
        "service's core for all of them.",
        (
            Drawing(
                "messages-against-cost-fleet",
                signalling.messages_against_cost,
                "Cost over that with exact state against messages per task, in the fleet. Grey: at most half of the "
                "polled messages at no more than 2 % of cost.",
            ),
        ),
        tables.signalling,
    ),
    Section(
        "signalling-fleet-slow-links",
        "Messages in a fleet on slow links",
        "The same devices behind uplinks like the demo's, a task a second from each.",
        (),
        tables.signalling,
    ),
    Section(
        "signalling-testbed",
        "Messages of real processes",
        "The demo's scenario with several devices on real processes, all of them on one machine: what twin, edge and "
        "devices send one another, by plans and when the device asks at every epoch, counted by the services where it "
        "is sent, attachment and heartbeats included. Nobody has exact state here; polling comes nearest.",
        (
            Drawing(
                "messages-of-real-processes",
                testbed.messages_by_kind,
                "Messages per task by sender and kind.",
            ),
        ),
        tables.signalling_testbed,
    ),
    Section(
        "fidelity",
        "Simulator and testbed",
        "The demo's scenario on real processes (twin, edge, device, other users of the edge) and simulated with what "
        "the run showed of its machine. Devices obey plans of the twin's in both.",
        (
            Drawing(
                "simulator-and-testbed",
                fidelity.simulator_and_testbed,
                "Quantiles of latency (10 % to 95 %), shares of tasks by where they end, mean time by stage.",
            ),
        ),
        tables.fidelity,
    ),
    Section(
        "deadlines",
        "Deadlines",
        "Accuracy counts only if the answer is in time; both rules are told the deadline. `one-time-best` is one-time "
        "with or without a threshold, whichever costs least on tuning seeds at that deadline.",
        (
            Drawing(
                "deadlines",
                deadlines.in_time,
                "Answers in time and right answers in time by deadline; below what open-loop gains on the best "
                "one-time rule, paired over seeds.",
            ),
        ),
        tables.deadlines,
    ),
)

EMULATED = """\
- **Simulated** ([how]({simulator})): time, links, the load of other users, noise, and the evidence that a task finds,
  drawn from the shipped network's calibration. Pipeline, tail queue, planner, rules, twins and messages are the
  services' own objects. Service times of segments and exits go by their multiply-adds, scaled to the scenario's speeds;
  payloads have their mean size; nothing is computed on frames.
- **Emulated** on real processes ([how]({testbed})): the speed of device and edge, by waiting until each step has taken
  its time; the uplink (rate, delay, jitter), in the device. Services, gRPC, encoding, inferences and frames are real.
  All processes share one machine.
- **Energy** is modelled (3 W while computing, 1.2 W while sending), nowhere measured."""
"""What is real and what is not; ``simulator`` and ``testbed`` are links."""
