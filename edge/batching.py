"""How many tails of one kind an edge runs at once, by what it has learnt of their time. Sans-IO.

Nobody is ever waited for: what waits while the edge is busy is there to be taken together. A batch of ``b`` that takes
``r`` times as long as its tails one after the other makes those in it wait for one another and spares all behind it
``b * (1 - r)`` tails' time. It is run where that spares more than it costs, summed over the tails that are there now.
"""

from __future__ import annotations

from dataclasses import dataclass

_UNTRIED = 0.8
"""Relative time that a size is taken to have until it was tried."""
_LARGEST = 2.0
"""What one hiccup counts at most."""
_WEIGHT = 1.0 / 8.0
_RELAXATION = 1.0 / 512.0
"""How much of the way back to untried a size goes with every choice: what has become worth it is tried again."""


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """Which tails may be run together."""

    most: int = 1
    """Tails in a batch at most; 1: each by itself."""
    first_cuts: tuple[tuple[str, int], ...] = ()
    """Model digest and the first cut from which its segments take several tensors at once."""


class BatchSizes:
    """Chooses sizes, powers of two, for every model and cut by itself."""

    def __init__(self, settings: BatchSettings) -> None:
        self.most = settings.most
        self._first_cuts = dict(settings.first_cuts)
        self._relative: dict[tuple[str, int], dict[int, float]] = {}

    def most_of(self, model: str, cut: int) -> int:
        """Tails after ``cut`` of ``model`` that may be run at once."""
        first = self._first_cuts.get(model)
        return self.most if first is not None and cut >= first else 1

    def relative(self, model: str, cut: int, size: int) -> float:
        """Time of a batch over that of its tails one after the other."""
        return 1.0 if size == 1 else self._relative.get((model, cut), {}).get(size, _UNTRIED)

    def sizes(self, model: str, cut: int, alike: int, waiting: int) -> list[int]:
        """Sizes worth running now, the best first; 1 is always the last.

        Args:
            alike: tails that could be in the batch, one at least.
            waiting: all tails that are there, those included.
        """
        known = self._relative.get((model, cut), {})
        for size, relative in known.items():
            known[size] = relative + _RELAXATION * (_UNTRIED - relative)
        gains = {1: 0.0}
        size = 2
        while size <= min(alike, self.most_of(model, cut)):
            gains[size] = _gain(size, self.relative(model, cut, size), waiting)
            size *= 2
        return sorted((size for size, gain in gains.items() if size == 1 or gain > 0.0), key=lambda s: -gains[s])

    def served(self, model: str, cut: int, size: int, relative: float) -> None:
        """A batch took ``relative`` times as long as its tails would have, one after the other."""
        if size > 1:
            known = self._relative.setdefault((model, cut), {})
            counted = min(relative, _LARGEST)
            known[size] = counted if size not in known else known[size] + _WEIGHT * (counted - known[size])

    def forbid(self, model: str) -> None:
        """Its segments do not take several tensors after all."""
        self._first_cuts.pop(model, None)


def _gain(size: int, relative: float, waiting: int) -> float:
    """Waiting that a batch spares, in times of one tail, against its tails one after the other."""
    behind = waiting - size
    return behind * size * (1.0 - relative) + size * (size + 1) / 2.0 - size * size * relative
