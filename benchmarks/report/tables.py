"""Tables of the report, one or several for every document."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from benchmarks.report.differences import differences
from benchmarks.report.figures.deadlines import AGAINST
from benchmarks.report.figures.foresight import shown_rules
from benchmarks.report.figures.grid import gap_interval
from benchmarks.report.figures.optimum import over_optimum
from benchmarks.report.figures.regime import TRACKED
from benchmarks.report.figures.testbed import POLLED, over_polled, polled_rule
from benchmarks.report.text import folded, percent, table, within
from benchmarks.rule_figures import BASELINE, REFERENCE

Document = Mapping[str, Any]

_TUNED = "one-time-threshold-best"


def rules_over_cells(document: Document) -> str:
    """Every rule over all cells, and all cells with the rules that matter."""
    cells = document["cells"]
    rows = []
    for rule in dict.fromkeys(rule for cell in cells for rule in cell["rules"]):
        found = [cell["rules"][rule] for cell in cells if rule in cell["rules"]]
        ratios = [figures["cost_ratio_to_one_time"] for figures in found]
        gaps = [figures["gap_closed"] for figures in found if figures["gap_closed"] is not None]
        rows.append(
            (
                rule,
                f"{median(ratios):.3f}",
                f"{min(ratios):.3f} to {max(ratios):.3f}",
                f"{median(gaps):.3f}" if gaps else "",
                f"{min(gaps):.3f}" if gaps else "",
                percent(median(figures["accuracy"] for figures in found)),
                percent(median(figures["share_answered"] for figures in found)),
            )
        )
    head = ("rule", "cost over one-time's", "over cells", "gap closed", "least", "accuracy", "answered")
    return table(head, rows) + "\n\n" + folded(f"All {len(cells)} cells", _cells(document))


def foresight(document: Document) -> str:
    """Share of the gap that is closed, by what is seen ahead."""
    rules = shown_rules(document)
    rows = [
        (
            cell["name"],
            percent(1.0 - cell["rules"][REFERENCE]["cost_ratio_to_one_time"]),
            *(within(cell["rules"][rule]["gap_closed"], gap_interval(cell, rule)) for rule in rules),
        )
        for cell in document["cells"]
    ]
    return table(("cell", "clairvoyant under one-time", *rules), rows)


def optimum(document: Document) -> str:
    """Costs beside the optimum's."""
    rows = [
        (rule, within(figures["cost_s"], figures["cost_ci_s"], 4), within(*over_optimum(document, rule)))
        for rule, figures in document["rules"].items()
    ]
    return table(("rule", "cost, s", "over the optimum's"), rows)


def tasks_needed(document: Document) -> str:
    """Tasks to learn from until an error is reached."""
    ways = list(document["scenarios"][0]["curves"])
    rows = [
        (
            scenario["name"],
            _level(row["share_of_gain"]),
            *(_needed(row["needed"][way]) for way in ways),
        )
        for scenario in document["scenarios"]
        for row in scenario["tasks_needed"]
    ]
    return table(("scenario", "held-out error", *ways), rows, left=2)


def pruning(document: Document) -> str:
    """What R1-R3 change, and the factor on caused waiting."""
    rows = [
        (
            each["name"],
            str(each["situations"]),
            percent(each["pruned_share"]),
            *(_different(each["decisions"][rule]) for rule in ("open-loop", "learned")),
            _different(each["offloads_above_ceiling"]),
            *(within(time["ratio"], time["ratio_ci"], 2) for time in each["planning_time"].values()),
            *(
                within(each["utility"][rule]["utility_lost_s"], each["utility"][rule]["utility_lost_ci_s"], 3, 1e3)
                for rule in ("open-loop", "learned")
            ),
        )
        for each in document["reduction"]
    ]
    ways = list(document["reduction"][0]["planning_time"])
    head = (
        "scenario",
        "situations",
        "pruned",
        "decisions of open-loop that differ",
        "of learned",
        "offloads above the ceiling",
        *(f"time, {way}" for way in ways),
        "open-loop loses, ms a task",
        "learned loses, ms a task",
    )
    prices = [
        (
            scenario["name"],
            row["rule"],
            f"{row['task_rate_per_s']:g}",
            f"{row['device_load']:.2f}",
            within(row["cost_s"], row["cost_ci_s"], 4),
            within(row["cost_without_s"], row["cost_without_ci_s"], 4),
            within(row["cost_ratio"], row["cost_ratio_ci"]),
        )
        for scenario in document["price_of_waiting"]
        for row in scenario["rows"]
    ]
    factor_head = ("scenario", "rule", "tasks/s", "device load", "cost with the factor, s", "without, s", "ratio")
    folded_prices = folded("With and without the factor on caused waiting", table(factor_head, prices, left=2))
    return table(head, rows) + "\n\n" + folded_prices


def regime(document: Document) -> str:
    """Spans by rule, what is tracked, what became of weights."""
    spans = ("before", "after", "later")
    rows = [
        (
            rule,
            *(within(figures["spans"][span]["cost_s"], figures["spans"][span]["cost_ci_s"], 4) for span in spans),
            *(within(figures["spans"][span]["ratio"], figures["spans"][span]["ratio_ci"]) for span in spans[1:]),
        )
        for rule, figures in document["rules"].items()
    ]
    head = ("rule", "cost before the step, s", "after, s", "later half, s", "after, over open-loop", "later half")
    tracked = [
        (
            f"{TRACKED[name][0]} ({name})",
            f"{track['before']:.4g}",
            f"{track['after']:.4g}",
            "never" if track["near_since_step_s"] is None else f"{track['near_since_step_s']:.0f}",
            percent(track["spread_later"], 0),
        )
        for name, track in document["tracked"].items()
    ]
    tracked_head = ("tracked", "before", "after", "seconds until within 10 %", "spread in a run")
    counts = document["weights"]["counts"]
    told = "; ".join(
        f"{side} the step " + (", ".join(f"{n} {result}" for result, n in counts[side].items()) or "nothing")
        for side in counts
    )
    return f"{table(head, rows)}\n\n{table(tracked_head, tracked)}\n\nLessons of all runs: {told}."


def signalling(document: Document) -> str:
    """Every variant."""
    rows = [
        (
            v["name"],
            f"{v['messages_per_task']:.2f}",
            f"{v['bytes_per_task']:.0f}",
            within(v["cost_ratio_to_exact"], v["cost_ratio_ci"]),
            within(v["errors"].get("backlog_s")),
            within(v["errors"].get("device_backlog_s")),
            within(v["errors"].get("queue_length")),
            within(v["errors"].get("epoch")),
        )
        for v in document["variants"]
    ]
    head = ("signalling", "messages per task", "bytes", "cost over exact state's", "error of backlog, s")
    return folded(
        "All ways of signalling", table((*head, "of the device's, s", "of queue length", "epoch wrong"), rows)
    )


def signalling_testbed(document: Document) -> str:
    """Every run of real processes, by plans and polled."""
    both_ways = polled_rule(document)
    rows = [
        (
            title.removesuffix(POLLED),
            "asks at every epoch" if title.endswith(POLLED) else "plans",
            f"{found['messages_per_task']:.2f}",
            within(found["cost_s"], found["cost_ci_s"]),
            within(*over_polled(document, title)) if title == both_ways else "",
            _share(found["testbed"]["mirror_accuracy"]),
            str(found["testbed"]["degraded"]),
        )
        for title, found in document["rules"].items()
    ]
    head = ("rule", "signalling", "messages per task", "cost, s", "over the polled run's", "epoch mirrored right")
    return table((*head, "degraded tasks"), rows, left=2)


def fidelity(document: Document) -> str:
    """Both sides with the bounds, and where they differ."""
    bounds = document["bounds"]
    rows = []
    for rule, found in document["rules"].items():
        is_within = found["is_within"]
        for name, words, bound in (("p50", "median, ms", "median"), ("p95", "p95, ms", "p95")):
            real, simulated = (1e3 * found["latency_s"][side][name] for side in ("testbed", "simulator"))
            verdict = _verdict(is_within[bound])
            rows.append((rule, words, f"{real:.0f}", f"{simulated:.0f}", percent(bounds[bound], 0), verdict))
        cost = found["cost_s"]
        limit = percent(bounds["cost"], 0)
        rows.append(
            (rule, "cost, s", f"{cost['testbed']:.3f}", f"{cost['simulator']:.3f}", limit, _verdict(is_within["cost"]))
        )
        share = f"{found['largest_share_difference']:.3f}"
        rows.append(
            (rule, "largest difference of a share", "", share, f"{bounds['share']:g}", _verdict(is_within["share"]))
        )
        distance = f"{found['ks_distance']:.3f} (by chance {found['ks_by_chance']:.3f})"
        rows.append((rule, "KS distance", "", distance, f"{bounds['ks']:g}", _verdict(is_within["ks"])))
    head = ("rule", "figure", "real processes", "simulator", "bound", "verdict")
    return f"{table(head, rows, left=2)}\n\n{differences(document)}"


def deadlines(document: Document) -> str:
    """Every deadline."""
    rows = [
        (
            f"{1e3 * cell['deadline_s']:g}",
            cell["rules"]["one-time-best"].get("tuned_to", ""),
            percent(cell["rules"]["one-time-best"]["share_in_time"]),
            percent(cell["rules"]["open-loop"]["share_in_time"]),
            within(cell[AGAINST]["share_in_time_gain"], cell[AGAINST]["share_in_time_gain_ci"], 2, 100.0),
            within(cell[AGAINST]["accuracy_in_time_gain"], cell[AGAINST]["accuracy_in_time_gain_ci"], 2, 100.0),
            within(cell[AGAINST]["cost_ratio"], cell[AGAINST]["cost_ratio_ci"]),
        )
        for cell in document["deadlines"]
    ]
    head = ("deadline, ms", "best one-time rule", "in time", "open-loop in time", "more in time, points")
    return table((*head, "more accuracy in time, points", "cost over the best one-time rule's"), rows, left=2)


def _cells(document: Document) -> str:
    rows = []
    for cell in document["cells"]:
        rules = cell["rules"]
        learned, over_open_loop, over_tuned = (
            rules["learned"],
            cell["learned_over_open_loop"],
            cell["learned_over_one_time_threshold_best"],
        )
        gap = "null" if learned["gap_closed"] is None else within(learned["gap_closed"], gap_interval(cell, "learned"))
        rows.append(
            (
                cell["name"],
                f"{rules[BASELINE]['cost_s']:.4f}",
                within(learned["cost_s"], learned["cost_ci_s"], 4),
                within(learned["cost_ratio_to_one_time"], learned["cost_ratio_ci"]),
                within(over_tuned["ratio"], over_tuned["ci"]),
                f"T {rules[_TUNED]['tuned_to'].partition(':')[2]}" if "tuned_to" in rules[_TUNED] else "",
                within(over_open_loop["ratio"], over_open_loop["ci"], 4),
                within(rules[REFERENCE]["cost_ratio_to_one_time"]),
                gap,
            )
        )
    head = ("cell", "one-time, s", "learned, s", "over one-time", f"over {_TUNED}", "its T", "over open-loop")
    return table((*head, "clairvoyant over one-time", "gap closed"), rows)


def _level(share_of_gain: float) -> str:
    """An error, by what it takes off that of not learning, as a share of the most that was taken off."""
    if share_of_gain == 0.0:
        return "as without learning"
    words = f"{100.0 * share_of_gain:.0f} % of the gain"
    return words if share_of_gain > 0.0 else f"{words} (worse than without learning)"


def _needed(need: Mapping[str, Any]) -> str:
    if need["tasks"] is None:
        return f"> {need['more_than_tasks']} (x > {need['factor_more_than']:.1f})"
    return f"{need['tasks']:.0f} (x {need['factor']:.1f})"


def _different(compared: Mapping[str, int]) -> str:
    return f"{compared['different']:,} of {compared['compared']:,}"


def _share(share: float | None) -> str:
    return "" if share is None else percent(share)


def _verdict(is_within: bool) -> str:
    return "within" if is_within else "**OUT**"
