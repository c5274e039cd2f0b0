"""The search on a made-up world in which accuracy, time and energy follow from the weights by a formula."""

from __future__ import annotations

import math

import pytest

from twin_service.tuning.groups import Weighting
from twin_service.tuning.search import ALPHAS_S, BETAS_S_PER_JOULE, Found, search
from twin_service.tuning.wishes import Figures, Wish, Wished
from twinsplit.errors import SettingsError

PRESENT = Weighting(2.5, 0.05)


def brings(weighting: Weighting) -> Figures:
    """More alpha: more right and later; more beta: less energy, a little later and less right."""
    hurry, thrift = 1.0 / (1.0 + weighting.alpha_s), weighting.beta_s_per_joule / (1.0 + weighting.beta_s_per_joule)
    mean_s = 0.05 + 0.2 * (1.0 - hurry) + 0.05 * thrift
    return Figures(0.9 - 0.2 * hurry - 0.05 * thrift, mean_s, 2.0 * mean_s, 0.5 - 0.3 * thrift - 0.1 * hurry, {})


def found(wished: Wished, limit: float) -> Found:
    return search(brings, Wish(wished, limit), PRESENT)


@pytest.mark.parametrize(
    ("wished", "limit"), [(Wished.LATENCY_P95, 0.3), (Wished.ENERGY, 0.3), (Wished.ACCURACY, 0.85)]
)
def test_the_wish_is_met_and_nothing_that_meets_it_loses_less(wished: Wished, limit: float) -> None:
    result = found(wished, limit)
    assert result.is_met
    losses = [
        result.wish.loss_s(candidate.figures, PRESENT)
        for candidate in result.candidates
        if result.wish.gap(candidate.figures) == 0.0
    ]
    assert result.wish.loss_s(result.chosen.figures, PRESENT) <= min(losses) + 1e-4


def test_refinement_uses_a_budget_up() -> None:
    """Of 300 ms at most it takes nearly all, which no point of the grid does: the more time, the more is right."""
    result = found(Wished.LATENCY_P95, 0.3)
    coarse = [brings(Weighting(a, b)) for a in ALPHAS_S for b in BETAS_S_PER_JOULE]
    nearest_s = max(figures.latency_p95_s for figures in coarse if figures.latency_p95_s <= 0.3)
    assert 0.3 >= result.chosen.figures.latency_p95_s > max(nearest_s, 0.294)


def test_of_the_others_each_counts_by_what_it_is_worth_at_present() -> None:
    """Who gives nothing for energy wants none saved."""
    greedy = search(brings, Wish(Wished.LATENCY_P95, 0.3), Weighting(2.5, 0.0))
    thrifty = search(brings, Wish(Wished.LATENCY_P95, 0.3), Weighting(2.5, 5.0))
    assert greedy.chosen.figures.energy_joules > thrifty.chosen.figures.energy_joules + 0.1
    assert greedy.chosen.figures.accuracy > thrifty.chosen.figures.accuracy


@pytest.mark.parametrize(
    ("wished", "limit", "nearest"),
    [(Wished.LATENCY_P95, 0.05, 0.107), (Wished.ENERGY, 0.05, 0.107), (Wished.ACCURACY, 0.95, 0.894)],
)
def test_a_wish_that_cannot_be_met_gives_the_nearest(wished: Wished, limit: float, nearest: float) -> None:
    result = found(wished, limit)
    assert not result.is_met
    assert result.wish.value(result.chosen.figures) == pytest.approx(nearest, rel=0.05)


def test_of_weights_that_bring_the_same_those_nearest_to_the_present_ones_are_taken() -> None:
    flat = search(lambda _: Figures(0.9, 0.1, 0.1, 0.1, {}), Wish(Wished.ACCURACY, 0.8), PRESENT)
    assert flat.chosen.weighting == PRESENT


def test_the_frontier_rises_on_both_sides() -> None:
    result = found(Wished.LATENCY_P95, 0.3)
    values = [result.wish.value(candidate.figures) for candidate in result.frontier]
    losses = [result.wish.loss_s(candidate.figures, PRESENT) for candidate in result.frontier]
    assert len(values) > 5
    assert values == sorted(values)
    assert losses == sorted(losses, reverse=True)


def test_nothing_is_evaluated_twice_and_progress_comes_to_its_end() -> None:
    seen: list[Weighting] = []
    told: list[tuple[int, int]] = []

    def evaluate(weighting: Weighting) -> Figures:
        seen.append(weighting)
        return brings(weighting)

    search(evaluate, Wish(Wished.ENERGY, 0.3), PRESENT, lambda done, total: told.append((done, total)))
    assert len(seen) == len(set(seen))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


def test_present_weights_of_zero_do_no_harm() -> None:
    assert search(brings, Wish(Wished.LATENCY_P95, 0.3), Weighting(0.0, 0.0)).is_met


@pytest.mark.parametrize(
    ("wished", "limit"),
    [
        (Wished.LATENCY_P95, 0.0),
        (Wished.LATENCY_P95, math.inf),
        (Wished.ENERGY, -1.0),
        (Wished.ACCURACY, 1.5),
        (Wished.ACCURACY, math.nan),
    ],
)
def test_impossible_wishes_are_refused(wished: Wished, limit: float) -> None:
    with pytest.raises(SettingsError, match="finite number above 0"):
        Wish(wished, limit)
