"""The twin service put together: store, rule, core, gRPC, HTTP."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from twin_service.core import TwinCore
from twin_service.core_settings import CoreSettings
from twin_service.decision.rules import LEARNED_RULES, rule_named
from twin_service.decision.situation import Weights
from twin_service.exchange import Exchange
from twin_service.learning.election import Election
from twin_service.learning.learner import Learner, LearnerSettings
from twin_service.learning.thread import LearningThread
from twin_service.metrics import TwinMetrics
from twin_service.planner import PlannerSettings
from twin_service.saving import SavingRounds
from twin_service.servicer import TwinServicer, register_twin_service
from twin_service.settings import TwinSettings
from twin_service.store.address import EMBEDDED
from twin_service.store.interface import Store
from twin_service.store.opening import open_store
from twin_service.workload.spare_time import replay_in_spare_time
from twin_service.workload.twin import WorkloadSettings, WorkloadTwin
from twinsplit.access.peer_limits import PeerLimits
from twinsplit.clock import Clock, SystemClock
from twinsplit.credentials import without_password
from twinsplit.errors import SettingsError, StorageError, TrainingError
from twinsplit.stop_signals import stop_signals
from twinsplit.systemd.notification import ServiceManager
from twinsplit.telemetry.exposition import Exposition, start_exposition
from twinsplit.telemetry.logs import EventLog
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.transport.open_files import allow_many_connections
from twinsplit.transport.server import RunningServer, start_server

if TYPE_CHECKING:
    from twin_service.console.server import Console

_PLAN_PAUSE_S = 0.1
_STREAM_END_S = 0.2
_LESSON_LOOK_S = 1.0
"""Time between two looks for lessons."""
_REPEATED_LINE_S = 60.0

_log = EventLog("twin.service")


class TwinService:
    """A running twin service; made by :func:`start_twin`, ended by :meth:`stop`."""

    def __init__(
        self,
        settings: TwinSettings,
        exchange: Exchange,
        store: Store,
        server: RunningServer,
        exposition: Exposition,
        signalling: SignallingCount,
        learning: LearningThread | None,
        console: Console | None,
        election: Election | None,
        lacks: list[str],
    ) -> None:
        self.exchange = exchange
        self.signalling = signalling
        self.address = server.address
        """HOST:PORT of gRPC with the port in use."""
        self.http_address = exposition.address
        self.console = console
        """``None``: none was asked for."""
        self._settings = settings
        self._store = store
        self._server = server
        self._exposition = exposition
        self._learning = learning
        self._lacks = lacks
        chores: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "saving": self._save_regularly,
            "replaying": lambda: replay_in_spare_time(exchange.replay_next, settings.replay_share, exchange.now_s),
            "learning": self._learn_regularly,
        }
        if election is not None:
            chores["electing"] = election.follow
        self._chores = [asyncio.ensure_future(self._minded(name, chore)) for name, chore in chores.items()]

    async def stop(self) -> None:
        """Say so, end the streams, save everything."""
        await self._server.set_serving(False)
        self.exchange.close()
        if self.console is not None:
            await self.console.stop()
        for chore in self._chores:
            chore.cancel()
        await self._server.stop(_STREAM_END_S)
        if self._learning is not None:
            await asyncio.to_thread(self._learning.stop)
        self._try_to_save(self.exchange.core.save)
        self._store.close()
        await asyncio.to_thread(self._exposition.stop)

    async def _minded(self, name: str, chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A chore that ends by a defect is missed in log and readiness, and not only by what it no longer does."""
        try:
            await chore()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would tell
            _log.exception("chore-ended", error, chore=name)
            self._lacks.append(f"{name} has ended by a defect; the log says why, and a new start begins it again")

    async def _save_regularly(self) -> None:
        now_s = self.exchange.now_s
        saving = SavingRounds(self.exchange.core, self._settings.save_s)
        while True:
            self._try_to_save(lambda: saving.save(now_s()))
            await asyncio.sleep(max(saving.next_s - now_s(), 0.0))

    async def _learn_regularly(self) -> None:
        """Have lessons learnt as they fall due, one at a time."""
        while self._learning is not None:
            lesson = self.exchange.next_lesson()
            if lesson is None:
                await asyncio.sleep(_LESSON_LOOK_S)
                continue
            assignment, manifest = lesson
            try:
                result = await self._learning.learn(assignment, manifest)
            except Exception as error:  # noqa: BLE001 - a defect in one lesson must not end all learning
                _log.exception("lesson-failed", error)
                result = TrainingError(f"a defect: {type(error).__name__}")
            self.exchange.lesson_ended(assignment, result)

    def _try_to_save(self, save: Callable[[], object]) -> None:
        try:
            save()
        except StorageError as error:
            # Twins live in memory; what cannot be written now stays due.
            _log.error("state-not-saved", cause=str(error), limit_s=_REPEATED_LINE_S)
        except Exception as error:  # noqa: BLE001 - a record that cannot be written must not end the saving of all others
            _log.exception("state-not-saved", error)


async def start_twin(settings: TwinSettings, *, clock: Clock | None = None) -> TwinService:
    """Open the state, listen.

    Raises:
        SettingsError: the rule or an address is none.
        StorageError: the state cannot be used.
        InsecureBindError, TlsError, ListenError: see :func:`twinsplit.transport.server.start_server` and
            :func:`twin_service.console.server.start_console`.
    """
    core_settings = _core_settings(settings)
    rule = rule_named(settings.rule, is_reduced=settings.reduction, net_of=lambda manifest: core.kept.net_of(manifest))
    weights = _weights(settings)
    clock = clock or SystemClock()
    learning = _learning(settings, clock)
    store, shared = open_store(settings, is_candidate=learning is not None)
    server: RunningServer | None = None
    exposition: Exposition | None = None
    lacks: list[str] = []
    try:
        now_s = clock.monotonic_s()
        workload = WorkloadTwin(
            store,
            WorkloadSettings(settings.replay_share, is_traced=settings.record),
            now_s=now_s,
            clock_offset_s=clock.unix_ns() * 1e-9 - now_s,
        )
        learner = None
        if settings.rule in LEARNED_RULES:
            learner = Learner(store, LearnerSettings(most_tasks=settings.learning_tasks))
        core = TwinCore(rule, weights, store, core_settings, workload=workload, learner=learner)
        exchange = Exchange(core, clock, shared)
        signalling = SignallingCount()
        servicer = TwinServicer(exchange, signalling, lease_s=settings.lease_s, heartbeat_s=settings.heartbeat_s)
        server = await start_server(
            lambda grpc_server: register_twin_service(servicer, grpc_server),
            settings.listen,
            settings.tls,
            is_insecure=settings.insecure,
            without_role=settings.tls_without_role,
            limits=PeerLimits(settings.max_calls_per_peer, settings.max_messages_per_peer_s, clock.monotonic_s),
        )
        core_share = (lambda: None) if learning is None else learning.core_share
        metrics = TwinMetrics(exchange, signalling, server.calls, store, core_share)
        exposition = start_exposition(
            "twin",
            settings.http_listen,
            metrics.samples,
            unready_reason=lambda: "stopping" if exchange.is_stopping else next(iter(lacks), None),
            loop=asyncio.get_running_loop(),
            tls=settings.tls,
        )
        console = await _console(settings, exchange, signalling, clock)
    except BaseException:
        if exposition is not None:
            await asyncio.to_thread(exposition.stop)
        if server is not None:
            await server.stop()
        store.close()
        raise
    election = None if shared is None else Election(shared, exchange, learner, learning)
    return TwinService(settings, exchange, store, server, exposition, signalling, learning, console, election, lacks)


async def serve(settings: TwinSettings) -> None:
    """Run the twin service until SIGTERM, SIGINT or SIGHUP; a second SIGTERM or SIGINT ends it at once.

    Raises:
        TwinsplitError: see :func:`start_twin`.
    """
    allow_many_connections()
    twin = await start_twin(settings)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in stop_signals():
        loop.add_signal_handler(number, stopping.set)
    _log.info(
        "twin-serving",
        address=twin.address,
        http_address=twin.http_address,
        rule=settings.rule,
        state=str(settings.state) if settings.store == EMBEDDED else without_password(settings.store),
        known_devices=len(twin.exchange.core.archive),
        console="none" if twin.console is None else twin.console.url,
        console_token_file="none" if twin.console is None else str(twin.console.token_path),
    )
    if settings.front_ends:
        urls: dict[str, Any] = dict(front_end.split("=", 1) for front_end in settings.front_ends)
        _log.info("front-ends", **urls)
    manager = ServiceManager.of_environment()
    manager.serving(f"on {twin.address}")
    await stopping.wait()
    manager.stopping()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
    _log.info("twin-stopping", attached=sum(device.is_attached for device in twin.exchange.core.devices.values()))
    await twin.stop()
    manager.close()
    _log.info("twin-stopped")


async def _console(
    settings: TwinSettings, exchange: Exchange, signalling: SignallingCount, clock: Clock
) -> Console | None:
    """The console, fed with what devices report from now on; ``None``: none is asked for."""
    if settings.console_listen is None:
        return None
    try:
        from twin_service.console.feed import TaskFeed
        from twin_service.console.server import start_console
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"--console-listen needs the package {error.name}, which is not installed; pip install 'twinsplit[twin]'"
        ) from None
    feed = TaskFeed(clock.monotonic_s())
    exchange.core.ended_tasks.told.append(feed.take)
    return await start_console(settings, settings.console_listen, exchange, feed, signalling, clock)


def _learning(settings: TwinSettings, clock: Clock) -> LearningThread | None:
    """The thread that learns; ``None``: nothing is to be learnt, or cannot be."""
    if settings.rule not in LEARNED_RULES or settings.learning_share <= 0.0 or settings.replay_share <= 0.0:
        return None
    if importlib.util.find_spec("torch") is None:
        _log.warning(
            "does-not-learn",
            cause="torch is not installed: weights that were learnt before serve on, nothing new is learnt; "
            "install twinsplit[learn] to learn",
        )
        return None
    return LearningThread(settings.learning_share, clock.monotonic_s)


def _weights(settings: TwinSettings) -> Weights:
    return Weights(
        alpha_s=settings.alpha_s,
        beta_s_per_joule=settings.beta_s_per_joule,
        compute_watts=settings.compute_watts,
        transmit_watts=settings.transmit_watts,
        penalty_s=settings.penalty_s,
        deadline_s=settings.deadline_s,
        is_waiting_priced_up=settings.price_waiting_up,
    )


def _core_settings(settings: TwinSettings) -> CoreSettings:
    planner = PlannerSettings(
        plan_threshold_s=settings.plan_threshold_s,
        edge_threshold_s=settings.edge_threshold_s,
        noticeable_share=settings.noticeable_share,
        update_threshold_s=settings.update_threshold_s,
        lease_s=settings.lease_s,
    )
    return CoreSettings(planner, plan_pause_s=_PLAN_PAUSE_S, max_devices=settings.max_devices)
