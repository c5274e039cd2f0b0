"""What one replica hears of the others through the store that they share: who learns, what serves, where devices are.

One replica is elected by a lock in the database that its session holds; when the session ends, another gets it. It
learns from the tasks of all, and publishes; the others serve that.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from twin_service.learning.learner import Learner
from twin_service.learning.thread import LearningThread
from twin_service.store.interface import SharedStore
from twin_service.workload.replayed import Replayed
from twinsplit.errors import StorageError
from twinsplit.telemetry.logs import EventLog

if TYPE_CHECKING:
    from twin_service.exchange import Exchange

_OTHERS_AT_ONCE = 20
"""Tasks of others taken in one go; more would keep the event loop."""
_AGAIN_S = 1.0

_log = EventLog("twin.election")


class Election:
    """Follows a shared store.

    Args:
        store: See :class:`twin_service.store.interface.SharedStore`.
        exchange: Is told of devices that moved, and of other weights.
        learner: ``None``: the rule learns nothing.
        learning: The thread that learns; ``None``: this replica never does.
    """

    def __init__(
        self, store: SharedStore, exchange: Exchange, learner: Learner | None, learning: LearningThread | None
    ) -> None:
        self._store = store
        self._exchange = exchange
        self._learner = learner
        self._learning = learning
        self._term = 0
        """Number of the election by which the learner learns."""

    async def follow(self) -> None:
        """Take what is new, until cancelled."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def told() -> None:
            loop.call_soon_threadsafe(news.set)

        self._store.on_news(told)
        while True:
            news.clear()
            try:
                await self.take()
            except Exception as error:  # noqa: BLE001 - a defect here must not end all following
                _log.exception("election-failed", error)
            # No news tell that a device has attached of which nothing could be asked: that is asked again.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(news.wait(), _AGAIN_S)

    async def take(self) -> None:
        """Take what is new now."""
        for device_id, epoch in self._store.take_moved():
            self._exchange.device_moved(device_id, epoch)
        await self._exchange.learn_of_documents()
        if self._learner is None:
            return
        is_term_over = not self._store.is_elected or self._store.elections != self._term
        if self._learner.is_elected and is_term_over:
            self._learner.deposed()
            if self._learning is not None:
                self._learning.give_up()
            _log.warning("learner-deposed", cause="the session that held the right to learn has ended")
        self._take_published(self._learner)
        if self._store.is_elected and not self._learner.is_elected:
            await self._take_over(self._learner)
        while self._learner.is_elected and (tasks := self._store.take_others(_OTHERS_AT_ONCE)):
            for task in tasks:
                self._learner.task_replayed(task, self._exchange.core.manifests.get(task.model_digest))
            await asyncio.sleep(0)
        self._exchange.learner_changed()

    def _take_published(self, learner: Learner) -> None:
        for model_digest, rows in self._store.take_published().items():
            learner.published(model_digest, rows)

    async def _take_over(self, learner: Learner) -> None:
        self._term = self._store.elections
        # What its predecessor published last had been read when it was elected.
        self._take_published(learner)
        tasks = await asyncio.to_thread(self._newest, learner)
        if self._store.is_elected and self._store.elections == self._term:
            learner.elected(tasks)
            _log.info("learner-elected", tasks=len(tasks))

    def _newest(self, learner: Learner) -> list[Replayed]:
        """The newest tasks of every model that any replica has kept."""
        settings, found = learner.settings, []
        try:
            for model_digest in self._store.known_models():
                found += self._store.replay(model_digest, settings.restored_tasks)
                if len(found) >= settings.most_tasks_of_all:
                    break
        except StorageError as error:
            _log.warning("replay-not-read", cause=str(error))
        return found
