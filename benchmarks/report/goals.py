"""What was to be reached, beside what was found (issue 4, sections 2, 4 and 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import Any

from benchmarks.report.figures.grid import swept
from benchmarks.report.figures.optimum import GOAL as OPTIMUM_GOAL
from benchmarks.report.figures.optimum import over_optimum
from benchmarks.report.figures.signalling import COST_GOAL, MESSAGES_GOAL, by_name
from benchmarks.report.figures.testbed import POLLED, over_polled, polled_rule
from benchmarks.report.relearning import relearnt
from benchmarks.report.runs import Documents
from benchmarks.report.text import listed, percent, within
from benchmarks.simulator.contenders import ALL
from benchmarks.simulator.grid import BUSY_LOAD

Document = Mapping[str, Any]

TASKS_PER_SECOND_GOAL = 4_000.0
SEEDS_GOAL = 5
DEVICES_GOAL = 10_000
EXTENT_GOAL = (3, 4, 2, 2)
"""Task rates, edge loads, burst lengths, link rates."""


class Verdict(str, Enum):
    """Of a goal."""

    MET = "met"
    MISSED = "**MISSED**"
    STATED = "stated"
    """The goal was to tell the figure, whatever it is."""
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Found:
    """What a document says about a goal."""

    text: str
    is_met: bool | None
    """``None``: there is nothing to meet, the figure was to be told."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal; ``key`` is what its cause of a miss is named by."""

    key: str
    text: str
    document: str
    find: Callable[[Document], Found]


@dataclass(frozen=True, slots=True)
class Judged:
    """A goal and how it was met; ``found`` is empty where nothing was measured."""

    goal: Goal
    verdict: Verdict
    found: str


def judged(documents: Documents) -> list[Judged]:
    """Every goal, in order."""
    return [_judge(goal, documents) for goal in GOALS]


def _judge(goal: Goal, documents: Documents) -> Judged:
    if goal.document not in documents:
        return Judged(goal, Verdict.NOT_MEASURED, "")
    found = goal.find(documents[goal.document])
    verdicts = {True: Verdict.MET, False: Verdict.MISSED, None: Verdict.STATED}
    return Judged(goal, verdicts[found.is_met], found.text)


def _extent(document: Document) -> Found:
    cells = swept(document)
    names = ("task_rate_per_s", "load_share", "load_burst_s", "uplink_bytes_per_s")
    extent = tuple(len({cell["scenario"][name] for cell in cells}) for name in names)
    seeds = len(document["provenance"]["seeds"])
    rules = [rule for rule in ALL if all(rule in cell["rules"] for cell in document["cells"])]
    is_met = all(has >= needed for has, needed in zip(extent, EXTENT_GOAL, strict=True))
    others = len(document["cells"]) - len(cells)
    text = f"{' x '.join(map(str, extent))} cells and {others} others, {len(rules)} of {len(ALL)} rules, {seeds} seeds"
    return Found(text, is_met and seeds >= SEEDS_GOAL and len(rules) == len(ALL) and others > 0)


def _gain(cell: Document) -> float:
    return 1.0 - float(cell["rules"]["learned"]["cost_ratio_to_one_time"])


def _under(cells: list[tuple[Document, float]], least: float) -> str:
    """Those below a goal, lowest first, with what clairvoyant takes off there."""
    found = sorted((share, cell["name"], _foreseen(cell)) for cell, share in cells if share < least)
    if not found:
        return ""
    named = listed(
        [f"{name} {share:.3f} (clairvoyant takes {percent(foreseen)} off)" for share, name, foreseen in found]
    )
    return f"; {len(found)} of {len(cells)} below: {named}"


def _foreseen(cell: Document) -> float:
    return 1.0 - float(cell["rules"]["clairvoyant"]["cost_ratio_to_one_time"])


def _gain_median(document: Document) -> Found:
    claim = document["claims"]["gain_over_one_time_median"]
    gains = [_gain(cell) for cell in document["cells"]]
    return Found(f"{percent(claim['found'])} ({percent(min(gains))} to {percent(max(gains))})", claim["is_met"])


def _gain_at_busy_edge(document: Document) -> Found:
    claim = document["claims"]["gain_over_one_time_least_at_busy_edge"]
    busy = [(c, _gain(c)) for c in document["cells"] if c["scenario"]["load_share"] >= BUSY_LOAD]
    return Found(f"least {percent(claim['found'])}{_under(busy, claim['at_least'])}", claim["is_met"])


def _gain_least(document: Document) -> Found:
    claim = document["claims"]["gain_over_one_time_least"]
    name = min((_gain(cell), cell["name"]) for cell in document["cells"])[1]
    return Found(f"least {percent(claim['found'])}, in {name}", claim["is_met"])


def _tuned(document: Document) -> Found:
    claim = document["claims"]["cells_worse_than_one_time_threshold_best"]
    pairs = {cell["name"]: cell["learned_over_one_time_threshold_best"] for cell in document["cells"]}
    ratios = [pair["ratio"] for pair in pairs.values()]
    worse = [
        f"{name} {within(pair['ratio'], pair['ci'])}"
        for name, pair in pairs.items()
        if (pair["ci"] or [pair["ratio"]])[0] > 1.0
    ]
    text = f"worse in {claim['found']} cells; cost ratio {min(ratios):.3f} to {max(ratios):.3f}, median "
    return Found(text + f"{median(ratios):.3f}" + (f"; {listed(worse)}" if worse else ""), claim["is_met"])


def _gap_median(document: Document) -> Found:
    claim = document["claims"]["gap_closed_median"]
    unknown = sum(cell["rules"]["learned"]["gap_closed"] is None for cell in document["cells"])
    return Found(f"{claim['found']:.3f}; null in {unknown} cells", claim["is_met"])


def _gap_least(document: Document) -> Found:
    claim = document["claims"]["gap_closed_least"]
    known = [
        (cell, cell["rules"]["learned"]["gap_closed"])
        for cell in document["cells"]
        if cell["rules"]["learned"]["gap_closed"] is not None
    ]
    return Found(f"least {claim['found']:.3f}{_under(known, claim['at_least'])}", claim["is_met"])


def _over_open_loop(document: Document) -> Found:
    claim = document["claims"]["cost_over_open_loop_most"]
    more = {cell["name"]: cell["learned_over_open_loop"] for cell in document["cells"]}
    over = [
        f"{name} {within(p['ratio'], p['ci'], 4)}" for name, p in more.items() if p["ratio"] > 1.0 + claim["at_most"]
    ]
    text = f"most {percent(claim['found'], 2)}"
    return Found(text + (f"; {listed(over)}" if over else ""), claim["is_met"])


def _heavy_tails(document: Document) -> Found:
    heavy = [
        cell
        for cell in document["cells"]
        if "heavy" in (cell["scenario"]["load_pattern"], cell["scenario"]["load_sizes"])
    ]
    pairs = [(cell["name"], cell["learned_over_open_loop"]) for cell in heavy]
    if not pairs:
        return Found("no such cell", False)
    text = listed([f"{name}: cost ratio {within(pair['ratio'], pair['ci'])}" for name, pair in pairs])
    return Found(text, all(pair["ratio"] < 1.0 for _, pair in pairs))


def _beside(*rules: str) -> Callable[[Document], Found]:
    """Finds what learned costs over other rules."""

    def find(document: Document) -> Found:
        return Found("; ".join(_over(document, rule) for rule in rules), None)

    return find


def _over(document: Document, rule: str) -> str:
    """Of the costs of learned and ``rule``, over all cells."""
    costs = [[cell["rules"][name]["cost_s"] for name in ("learned", rule)] for cell in document["cells"]]
    ratios = [own / other for own, other in costs]
    more = sum(ratio > 1.0 for ratio in ratios)
    text = f"over {rule} median {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    return f"{text}, more than it in {more} of {len(ratios)} cells"


def _speed(document: Document) -> Found:
    speeds = [cell["rules"]["open-loop"]["tasks_per_second"] for cell in document["cells"]]
    text = f"median {median(speeds):,.0f} a second over cells ({min(speeds):,.0f} to {max(speeds):,.0f})"
    return Found(text, median(speeds) >= TASKS_PER_SECOND_GOAL)


def _optimum(document: Document) -> Found:
    if "learned" not in document["rules"]:
        ratio, interval = over_optimum(document, "open-loop")
        return Found(f"open-loop (learned was not run) {within(ratio, interval)}", ratio <= OPTIMUM_GOAL)
    ratio, interval = over_optimum(document, "learned")
    return Found(f"cost ratio {within(ratio, interval)}", ratio <= OPTIMUM_GOAL)


def _labels(document: Document) -> Found:
    return Found(listed([_factor(scenario) for scenario in document["scenarios"]]), None)


def _factor(scenario: Mapping[str, Any]) -> str:
    """At the least error that is reached without the labels."""
    rows = [row["needed"] for row in scenario["tasks_needed"]]
    reached = [needed for needed in rows if needed["learned-factual"]["tasks"] is not None]
    if reached:
        without, full = reached[-1]["learned-factual"], reached[-1]["learned"]
        tasks = f"{without['tasks']:,.0f} against {full['tasks']:,.0f} tasks"
        return f"{scenario['name']}: factor {without['factor']:.0f} ({tasks}) at the least error reached without them"
    least = [needed["learned-factual"]["factor_more_than"] for needed in rows]
    factor = f": factor more than {max(least):.0f}" if least else ""
    return f"{scenario['name']}: never reached without them{factor}"


def _reduction(document: Document) -> Found:
    found = document["reduction"]
    compared = sum(each["decisions"]["open-loop"]["compared"] for each in found)
    different = sum(each["decisions"]["open-loop"]["different"] for each in found)
    above = sum(each["offloads_above_ceiling"]["different"] for each in found)
    plans = sum(each["plans"]["different"] for each in found)
    text = (
        f"{different:,} of {compared:,} decisions differ, {above:,} offloads above the ceiling of R3, {plans:,} "
        "decisions of plans differ (their break points are interpolated)"
    )
    return Found(text, different == 0 and above == 0)


def _reduction_worth(document: Document) -> Found:
    rows = []
    for each in document["reduction"]:
        time, learned = each["planning_time"]["table"], each["utility"]["learned"]
        rows.append(
            f"{each['name']}: {percent(each['pruned_share'], 0)} pruned, planning time over that without "
            f"{within(time['ratio'], time['ratio_ci'], 2)}, learned loses {percent(learned['utility_lost_share'], 2)}"
        )
    return Found(listed(rows), None)


def _waiting_price(document: Document) -> Found:
    rows = [
        f"{scenario['name']}, device load up to {most:.2f}: cost ratio {min(ratios):.3f} to {max(ratios):.3f}"
        for scenario in document["price_of_waiting"]
        for ratios, most in [_of_open_loop(scenario["rows"])]
    ]
    return Found(listed(rows), None)


def _of_open_loop(rows: list[Mapping[str, Any]]) -> tuple[list[float], float]:
    own = [row for row in rows if row["rule"] == "open-loop"]
    return [row["cost_ratio"] for row in own], max(row["device_load"] for row in own)


def _regime(document: Document) -> Found:
    return Found(relearnt(document), None)


def _messages(document: Document) -> Found:
    found = by_name(document)
    plans, polled = found["plans"], found["polled"]
    share = plans["messages_per_task"] / polled["messages_per_task"]
    ratio = plans["cost_ratio_to_exact"]
    text = (
        f"{plans['messages_per_task']:.2f} of {polled['messages_per_task']:.2f} messages ({percent(share, 0)}), "
        f"cost ratio {within(ratio, plans['cost_ratio_ci'])}"
    )
    return Found(text, share <= MESSAGES_GOAL and ratio < COST_GOAL)


def _messages_of_fleet(document: Document) -> Found:
    found, devices = _messages(document), document["scenario"]["devices"]
    return Found(f"{devices:,} devices: {found.text}", found.is_met and devices >= DEVICES_GOAL)


def _messages_of_testbed(document: Document) -> Found:
    rule = polled_rule(document)
    planned, polled = (document["rules"][title]["messages_per_task"] for title in (rule, rule + POLLED))
    ratio, interval = over_polled(document, rule)
    text = (
        f"{document['scenario']['devices']} devices: {planned:.2f} of {polled:.2f} messages "
        f"({percent(planned / polled, 0)}), cost over the polled run's {within(ratio, interval)}"
    )
    return Found(text, planned / polled <= MESSAGES_GOAL and ratio < COST_GOAL)


def _fidelity(document: Document) -> Found:
    off = [
        f"{rule}: {name}"
        for rule, found in document["rules"].items()
        for name, is_within in found["is_within"].items()
        if not is_within
    ]
    figures = [
        f"{rule}: median {_apart(found, 'p50')}, p95 {_apart(found, 'p95')}, KS {found['ks_distance']:.3f}"
        for rule, found in document["rules"].items()
    ]
    return Found(listed(figures) + (f"; out of bounds: {', '.join(off)}" if off else ""), not off)


def _apart(found: Document, name: str) -> str:
    real, simulated = (found["latency_s"][side][name] for side in ("testbed", "simulator"))
    return f"{100.0 * (simulated / real - 1.0):+.0f} %"


def _deadlines(document: Document) -> Found:
    rows = [
        f"{1e3 * cell['deadline_s']:g} ms: {100.0 * against['accuracy_in_time_gain']:+.1f} points of accuracy"
        for cell in document["deadlines"]
        for against in (cell["open-loop_against_one-time-best"],)
    ]
    return Found(listed(rows, 8), None)


GOALS = (
    Goal(
        "extent",
        "a grid of at least 3 task rates x 4 edge loads x 2 burst lengths x 2 links and cells of other kinds, all "
        "rules, at least 5 seeds",
        "grid",
        _extent,
    ),
    Goal("gain-median", "learned at least 25 % under one-time in the median cell", "grid", _gain_median),
    Goal("gain-busy", "at least 15 % in every cell with edge load 0.5 or more", "grid", _gain_at_busy_edge),
    Goal("gain-least", "in no cell over one-time", "grid", _gain_least),
    Goal(
        "tuned",
        "in every cell at least as good as one-time-threshold-best, tuned per cell, within the paired interval",
        "grid",
        _tuned,
    ),
    Goal("gap-median", "gap to clairvoyant closed, median over cells at least 0.93", "grid", _gap_median),
    Goal("gap-least", "in no cell under 0.88", "grid", _gap_least),
    Goal("over-open-loop", "learned nowhere more than 0.5 % over open-loop", "grid", _over_open_loop),
    Goal("heavy-tails", "learned gains on open-loop where the load is heavy-tailed", "grid", _heavy_tails),
    Goal(
        "ways-of-learning",
        "learned beside learning with one head and without labels, these two without the gate",
        "grid",
        _beside("learned-one-head", "learned-factual"),
    ),
    Goal("tuned-static", "learned beside the best tuned exits and cut", "grid", _beside("threshold-static-best")),
    Goal("optimum", "within 2 % of the dynamic programme's optimum", "optimum", _optimum),
    Goal("reduction", "with and without R1-R3: open-loop decides the same", "pruning", _reduction),
    Goal(
        "reduction-worth",
        "share pruned, planning time saved, utility lost for the learned rule (share of cost)",
        "pruning",
        _reduction_worth,
    ),
    Goal(
        "waiting-price",
        "cost with the factor 1 / (1 - rho_d) on caused waiting over without",
        "pruning",
        _waiting_price,
    ),
    Goal("labels", "tasks needed without counterfactual labels over those with them", "learning-curve", _labels),
    Goal("regime", "a step of load and link is tracked and learnt again", "regime", _regime),
    Goal("regime-heavy-tailed", "the same under heavy-tailed load", "regime-heavy-tailed", _regime),
    Goal("regime-kind", "the same where load becomes heavy-tailed at the step", "regime-kind", _regime),
    Goal(
        "messages",
        "at most half of the polled messages at under 2 % more cost than exact state",
        "signalling",
        _messages,
    ),
    Goal(
        "messages-fleet-slow-links",
        "the same in a fleet of 10,000 devices on slow links, where many tasks are decided under way",
        "signalling-fleet-slow-links",
        _messages_of_fleet,
    ),
    Goal(
        "messages-fleet",
        "the same in a fleet of 10,000 devices on fast links, where nearly all are decided at their start",
        "signalling-fleet",
        _messages_of_fleet,
    ),
    Goal(
        "messages-testbed",
        "on real processes at most half of the polled messages at under 2 % more cost than polling, since nobody has "
        "exact state there",
        "signalling-testbed",
        _messages_of_testbed,
    ),
    Goal("fidelity", "simulator and real processes within the stated bounds", "fidelity", _fidelity),
    Goal("deadlines", "accuracy in time beside the best one-time rule with the same deadline", "deadlines", _deadlines),
    Goal("speed", "at least 4,000 tasks a second on one core with open-loop", "grid", _speed),
)
