"""The thread that learns: one lesson at a time, on a bounded share of one core.

It only computes. What it is given was copied for it, and what it finds is handed to the event loop, which alone changes
what serves; so no plan ever waits for a lesson.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from twin_service.learning.learner import Assignment
from twin_service.learning.lesson import Report, learn
from twinsplit.errors import TrainingError, TwinsplitError
from twinsplit.model.manifest import Manifest
from twinsplit.reckoning import DecayingRate

_SLICE_S = 0.005
"""The thread rests whenever it has computed so long."""


class Pace:
    """Lets a thread compute for no more than ``share`` of the time.

    Args:
        share: Over 0, at most 1.
        spent: Told the seconds of every slice that was computed.
        rest: Sleeps so many seconds, or returns earlier and True to have the work ended.
        used_s: Time that this thread has computed so far, seconds.
    """

    def __init__(
        self,
        share: float,
        spent: Callable[[float], None],
        rest: Callable[[float], bool],
        used_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._share = share
        self._spent = spent
        self._rest = rest
        self._used_s = used_s
        self._begun_s = used_s()

    def step(self) -> None:
        """A small piece of work is done.

        Raises:
            TrainingError: the work is to end.
        """
        slice_s = self._used_s() - self._begun_s
        if slice_s < _SLICE_S:
            return
        self._spent(slice_s)
        if self._rest(slice_s * (1.0 - self._share) / self._share):
            raise TrainingError("the lesson is given up: the twin service is stopping, or another replica learns now")
        self._begun_s = self._used_s()


class LearningThread:
    """Learns lessons in a thread of its own."""

    def __init__(self, share: float, now_s: Callable[[], float]) -> None:
        self._share = share
        self._now_s = now_s
        self._spent = DecayingRate(now_s())
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, "learning")
        self._is_stopping = False
        self._given_up = threading.Event()

    def core_share(self) -> float:
        """Share of one core that learning takes."""
        with self._lock:
            return self._spent.per_second(self._now_s())

    async def learn(self, assignment: Assignment, manifest: Manifest) -> Report | TwinsplitError:
        """How the lesson went, or why it could not be learnt."""
        if not self._is_stopping:
            self._given_up.clear()
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._learn, assignment, manifest)

    def give_up(self) -> None:
        """Give up the lesson under way, if there is one."""
        self._given_up.set()

    def stop(self) -> None:
        """Give up the lesson under way, if there is one, and wait for that."""
        self._is_stopping = True
        self._given_up.set()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _learn(self, assignment: Assignment, manifest: Manifest) -> Report | TwinsplitError:
        pace = Pace(self._share, self._note_spent, self._given_up.wait)
        try:
            _, report = learn(
                assignment.tasks,
                manifest,
                seed=assignment.version,
                options=assignment.options,
                serving=assignment.serving,
                between_steps=pace.step,
            )
        except TwinsplitError as error:
            return error
        return report

    def _note_spent(self, seconds: float) -> None:
        with self._lock:
            self._spent.add(seconds, self._now_s())
