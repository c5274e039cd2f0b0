"""Figures of the report: what is drawn of a small document."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

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
from benchmarks.report.looks import look_of, png
from benchmarks.simulator.mirror_errors import FIELDS
from tests.unit.benchmarks import report_documents

pytestmark = pytest.mark.slow
"""Laying a figure out takes tenths of a second."""


def points(axes: Any, label: str) -> tuple[list[float], list[float]]:
    """What is drawn under a label, by its error bars."""
    drawn = next(each for each in axes.containers if each.get_label() == label)
    x, y = drawn.lines[0].get_data()
    return list(x), list(y)


def test_the_same_figure_gives_the_same_bytes() -> None:
    document = report_documents.optimum()
    assert png(optimum.beside_the_optimum(document)) == png(optimum.beside_the_optimum(document))


def test_rules_keep_their_colours_in_a_small_file() -> None:
    with Image.open(io.BytesIO(png(grid.ratios_over_cells(report_documents.grid())))) as picture:
        found = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0).astype(int)
    for rule in report_documents.RULES:
        colour = [int(look_of(rule).colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert np.abs(found - colour).max(axis=1).min() < 10, rule


def test_cost_by_load_has_a_panel_for_every_rate_and_every_rule_in_each_with_its_interval() -> None:
    figure = grid.cost_by_load(report_documents.grid())
    assert len(figure.axes) == 2
    for axes in figure.axes:
        assert {each.get_label() for each in axes.containers} == set(report_documents.RULES)
        _, costs = points(axes, "learned")
        assert costs == [0.14, 0.14]
        assert axes.get_yscale() == "log"
        bars = next(each for each in axes.containers if each.get_label() == "learned").lines[2][0]
        (low, high), _ = (segment[:, 1] for segment in bars.get_segments())
        assert (low, high) == pytest.approx((0.9 * 0.14, 1.1 * 0.14))


def test_cells_of_other_kinds_are_not_drawn_by_load_but_among_all_cells() -> None:
    document = report_documents.grid()
    assert len(grid.swept(document)) == 4
    labels = [text.get_text() for text in grid.gap_closed_by_cell(document).axes[0].get_yticklabels()]
    assert "heavy-tailed" in labels


def test_a_cell_without_a_gap_is_left_out_of_the_gap_closed() -> None:
    document = report_documents.grid()
    for figures in document["cells"][0]["rules"].values():
        figures["gap_closed"] = None
    labels = [text.get_text() for text in grid.gap_closed_by_cell(document).axes[0].get_yticklabels()]
    assert len(labels) == 4


def test_the_gaps_interval_is_paired_over_seeds() -> None:
    document = report_documents.grid()
    # Every cost of a seed is larger or smaller by the same factor: the shares of the gap are the same.
    interval = grid.gap_interval(document["cells"][0], "learned")
    assert interval == pytest.approx([60 / 64, 60 / 64])


def test_stacked_shares_reach_one() -> None:
    figure = grid.stops_by_load(report_documents.grid())
    for axes in figure.axes:
        tops = [bar.get_y() + bar.get_height() for bar in axes.patches]
        assert max(tops) == pytest.approx(1.0)
        assert [each.get_label() for each in axes.containers][:2] == ["edge, input", "edge, tensor of cut 2"]


def test_every_rule_has_a_line_and_every_cell_a_dot_beside_one_time() -> None:
    (axes,) = grid.ratios_over_cells(report_documents.grid()).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == list(reversed(report_documents.RULES))
    dots = [line for line in axes.get_lines() if line.get_marker() == "."]
    assert [len(line.get_xdata()) for line in dots] == [5] * len(report_documents.RULES)


def test_messages_are_drawn_against_cost_with_the_goal_behind_them() -> None:
    (axes,) = signalling.messages_against_cost(report_documents.signalling()).axes
    assert points(axes, "plans, as shipped") == ([2.0], [1.01])
    assert points(axes, "periodic status") == ([1.3], [1.05])
    (goal,) = axes.patches
    assert goal.get_x() + goal.get_width() == pytest.approx(0.5 * 8.0)
    assert goal.get_y() + goal.get_height() == pytest.approx(1.02)


def test_a_quick_frontier_has_no_thresholds_and_says_so() -> None:
    assert signalling.has_thresholds(report_documents.signalling())
    assert not signalling.has_thresholds(report_documents.signalling(is_quick=True))
    assert len(signalling.messages_against_cost(report_documents.signalling(is_quick=True)).axes) == 1


def test_mirror_errors_are_of_every_field_by_threshold_with_what_is_shipped_marked() -> None:
    document = report_documents.signalling()
    panels = [axes for axes in signalling.mirror_errors(document).axes if axes.get_visible()]
    assert len(panels) == len(FIELDS)
    for axes in panels:
        line, star = axes.get_lines()
        assert len(line.get_xdata()) == 2, "as shipped, and one other threshold"
        assert len(star.get_xdata()) == 1


def test_disturbances_show_plans_and_polling_in_four_kinds_of_worlds() -> None:
    figure = signalling.disturbances(report_documents.signalling())
    assert [points(axes, "polled")[1] for axes in figure.axes] == [[1.1], [1.2], [3.0], [1.4]]
    assert [points(axes, "plans")[0] for axes in figure.axes] == [[10.0], [10.0], [5.0], [0.0]]


def test_messages_of_real_processes_add_up_to_what_a_task_takes_all_devices_together() -> None:
    (axes,) = testbed.messages_by_kind(report_documents.signalling_testbed()).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["one-time", "multi-step", "multi-step, polled"]
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers}
    assert widths["device: task"] == pytest.approx([0.75 * 2.4, 0.75 * 2.5, 0.75 * 8.0], abs=0.01)
    assert [sum(each) for each in zip(*widths.values(), strict=True)] == pytest.approx([2.4, 2.5, 8.0], abs=0.02)


def test_rare_kinds_of_messages_are_drawn_together() -> None:
    document = report_documents.signalling_testbed()
    run = document["rules"]["multi-step"]["testbed"]["by_seed"]["1"]
    run["messages_by_kind"] |= {f"edge kind {number}": 10 for number in range(7)}
    (axes,) = testbed.messages_by_kind(document).axes
    *_, others = axes.containers
    assert len(axes.containers) == 7
    assert others.get_label() == "others"
    assert [bar.get_width() for bar in others] == pytest.approx([0.0, 3 * 10 / 200, 0.0])


def test_learning_curves_show_error_and_utility_of_every_way_of_learning() -> None:
    errors, gains = learning.learning_curves(report_documents.learning()).axes
    assert points(errors, "learned-factual")[1] == pytest.approx([-900.0, -50.0])
    assert points(gains, "learned") == ([100, 200], pytest.approx([-10.0, 10.0]))


def test_both_sides_of_fidelity_are_drawn_for_every_rule() -> None:
    latency, ends, stages = fidelity.simulator_and_testbed(report_documents.fidelity()).axes
    assert [line.get_label() for line in latency.get_lines()] == ["real processes", "simulator"]
    assert list(latency.get_lines()[0].get_xdata()) == pytest.approx([50.0, 100.0, 200.0])
    assert len(ends.patches) == len(stages.patches) == 4


def test_deadlines_show_shares_and_paired_gains() -> None:
    figure = deadlines.in_time(report_documents.deadlines())
    *_, gain = figure.axes
    assert list(gain.containers[0].lines[0].get_ydata()) == pytest.approx([2.0, 2.0])


def test_the_gap_is_drawn_by_what_is_foreseen() -> None:
    document = report_documents.foresight()
    document["cells"][2]["rules"]["blind"]["gap_closed"] = None
    panels = foresight.gap_by_foresight(document).axes
    assert [axes.get_title() for axes in panels if axes.get_visible()] == ["slow-device", "heavy-tailed", "demo"]
    assert [len(axes.containers) for axes in panels] == [5, 5, 4, 0], "what is not known is not drawn"
    labels = [text.get_text() for text in panels[0].get_yticklabels()]
    assert labels == ["blind", "blind-to-uplink", "blind-to-load", "blind-to-arrivals", "learned"]


def test_rules_are_drawn_over_the_optimum() -> None:
    document = report_documents.optimum()
    ratio, interval = optimum.over_optimum(document, "learned")
    assert ratio == pytest.approx(0.14 / 0.139)
    assert interval == pytest.approx([ratio, ratio])
    (axes,) = optimum.beside_the_optimum(document).axes
    assert "optimum" not in [text.get_text() for text in axes.get_yticklabels()]


def test_pruning_tells_how_many_decisions_differ() -> None:
    figure = pruning.reduction(report_documents.pruning(different=3))
    assert "3 of 1,000 decisions differ" in [text.get_text() for text in figure.axes[0].texts]
    (prices,) = pruning.price_of_waiting(report_documents.pruning()).axes
    assert np.allclose(points(prices, "open-loop")[0], [0.2, 0.4])


def test_costs_around_a_step_are_drawn_from_it_with_what_became_of_weights() -> None:
    costs, tracked = regime.regime_change(report_documents.regime()).axes
    lines = {line.get_label(): line for line in costs.get_lines()}
    assert list(lines["one-time"].get_xdata()) == [-75.0, -25.0, 25.0]
    assert list(lines["weights promoted"].get_xdata()) == [-10.0]
    assert "weights rolled-back" not in lines
    assert costs.get_ylim() == pytest.approx((0.0, 1.2 * 0.3))
    assert [line.get_label() for line in tracked.get_lines()][:3] == [
        "task rate",
        "goodput of the uplink",
        "mean backlog of the edge",
    ]
