from __future__ import annotations

import pytest

from twin_service.learning.thread import Pace
from twinsplit.errors import TrainingError


class Work:
    """A thread that computes 2 ms at a step, and the clock of what it has computed."""

    def __init__(self, share: float, *, ends_after: int = 10**9) -> None:
        self.used_s = 0.0
        self.rested_s: list[float] = []
        self.spent_s = 0.0
        self._ends_after = ends_after
        self.pace = Pace(share, self._spent, self._rest, lambda: self.used_s)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.used_s += 0.002
            self.pace.step()

    def _spent(self, seconds: float) -> None:
        self.spent_s += seconds

    def _rest(self, seconds: float) -> bool:
        self.rested_s.append(seconds)
        return len(self.rested_s) >= self._ends_after


@pytest.mark.parametrize("share", [0.1, 0.25, 0.9])
def test_a_thread_computes_no_more_than_its_share_of_the_time(share) -> None:
    work = Work(share)
    work.steps(999)
    assert work.spent_s == pytest.approx(work.used_s)
    assert work.used_s / (work.used_s + sum(work.rested_s)) == pytest.approx(share)


def test_it_rests_often_and_briefly() -> None:
    work = Work(0.25)
    work.steps(100)
    assert len(work.rested_s) > 30
    assert max(work.rested_s) < 0.03


def test_a_lesson_is_given_up_when_the_service_stops() -> None:
    work = Work(0.25, ends_after=3)
    with pytest.raises(TrainingError, match="stopping"):
        work.steps(100)
