"""The search for weights: a logarithmic grid, refined around the best of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from twin_service.tuning.groups import Weighting
from twin_service.tuning.wishes import Figures, Wish, Wished

ALPHAS_S = tuple(0.05 * 2.5**power for power in range(8))
"""0.05 to 31 s: from where only time counts to where only accuracy does."""
BETAS_S_PER_JOULE = (0.0, *(0.02 * 5.0**power for power in range(5)))
"""None, 0.02 to 12.5 s/J."""
_REFINED = 4
"""Rounds of refinement; each halves the (logarithmic) steps of the one before."""
_SAME_LOSS_S = 1e-4
"""Losses that differ by less are alike, and the weights nearest to the present ones are taken."""
_ABOUT_NONE = 0.02
"""A beta that is nothing is so far from others as this one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A weighting and what it brings."""

    weighting: Weighting
    figures: Figures


@dataclass(frozen=True, slots=True)
class Found:
    """What the search found."""

    wish: Wish
    present: Candidate
    chosen: Candidate
    """The best; where none meets the wish, the nearest to it."""
    candidates: tuple[Candidate, ...]
    """All that were looked at, by alpha and beta."""

    @property
    def is_met(self) -> bool:
        """Whether the chosen weights bring what was wished."""
        return self.wish.gap(self.chosen.figures) == 0.0

    @property
    def frontier(self) -> list[Candidate]:
        """Those of which no other brings more of the wish at a smaller loss, from little of it to much."""
        sign = -1.0 if self.wish.wished is Wished.ACCURACY else 1.0
        present = self.present.weighting

        def rank(candidate: Candidate) -> tuple[float, float]:
            return sign * self.wish.value(candidate.figures), self.wish.loss_s(candidate.figures, present)

        best: list[Candidate] = []
        for candidate in sorted(self.candidates, key=rank):
            if not best or rank(candidate)[1] < rank(best[-1])[1] - _SAME_LOSS_S:
                best.append(candidate)
        return best


def search(
    evaluate: Callable[[Weighting], Figures],
    wish: Wish,
    present: Weighting,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Found:
    """Weights that bring ``wish`` at the least loss of the rest; ``progress``: told (done, all) evaluations.

    Every weighting is evaluated once.
    """
    grid = [Weighting(alpha_s, beta) for alpha_s in ALPHAS_S for beta in BETAS_S_PER_JOULE]
    total = len(grid) + 1 + 8 * _REFINED
    known: dict[Weighting, Candidate] = {}

    def look(weightings: Iterable[Weighting]) -> None:
        for weighting in weightings:
            if weighting not in known:
                known[weighting] = Candidate(weighting, evaluate(weighting))
                progress(min(len(known), total), total)

    look([present, *grid])
    alpha_step = math.log(ALPHAS_S[1] / ALPHAS_S[0])
    beta_step = math.log(BETAS_S_PER_JOULE[2] / BETAS_S_PER_JOULE[1])
    for halving in range(1, _REFINED + 1):
        centre = _best(known.values(), wish, present).weighting
        look(_around(centre, alpha_step / 2**halving, beta_step / 2**halving))
    progress(total, total)
    chosen = _best(known.values(), wish, present)
    return Found(wish, known[present], chosen, tuple(known[weighting] for weighting in sorted(known)))


def _around(centre: Weighting, alpha_step: float, beta_step: float) -> list[Weighting]:
    """Its eight neighbours, rounded to what one would write."""
    alphas_s = [_written(centre.alpha_s * math.exp(sign * alpha_step)) for sign in (-1, 0, 1)]
    beta = centre.beta_s_per_joule
    if beta > 0.0:
        betas = [_written(beta * math.exp(sign * beta_step)) for sign in (-1, 0, 1)]
    else:
        betas = [0.0, _written(BETAS_S_PER_JOULE[1] * math.exp(-2.0 * beta_step))]
    return [Weighting(alpha_s, beta) for alpha_s in alphas_s for beta in betas]


def _written(value: float) -> float:
    return float(f"{value:.3g}")


def _best(candidates: Iterable[Candidate], wish: Wish, present: Weighting) -> Candidate:
    def rank(candidate: Candidate) -> tuple[float, int, float]:
        loss = round(wish.loss_s(candidate.figures, present) / _SAME_LOSS_S)
        return wish.gap(candidate.figures), loss, _distance(candidate.weighting, present)

    return min(candidates, key=rank)


def _distance(one: Weighting, other: Weighting) -> float:
    """How far two weightings are apart, in factors."""
    alpha = math.log(max(one.alpha_s, 1e-3) / max(other.alpha_s, 1e-3))
    beta = math.log((one.beta_s_per_joule + _ABOUT_NONE) / (other.beta_s_per_joule + _ABOUT_NONE))
    return math.hypot(alpha, beta)
