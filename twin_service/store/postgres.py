"""The store that replicas share, in a PostgreSQL database; nothing that the core asks of it waits for a network.

Writes are handed to the thread of :mod:`twin_service.store.link`. What plans may need at any time (manifests, weights,
calibrations, plan ids) is held here and kept up to date by that thread. Documents are read when their device attaches
(:meth:`PostgresStore.claimed`), since each device is at one replica. Whatever else is read (exports, replay) waits in
the thread that asks.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from twin_service.documents import Document
from twin_service.memory import Claim, WeightsRow, keep_version
from twin_service.store.address import connection_parameters, place_of
from twin_service.store.interface import MAX_MANIFESTS, RESERVED_PLAN_IDS, Bounds
from twin_service.store.link import Link
from twin_service.store.postgres_tables import PostgresTables, ReplayRow
from twin_service.workload.replayed import Replayed
from twinsplit.errors import ReplayError, StorageError
from twinsplit.telemetry.logs import EventLog

T = TypeVar("T")

_READ_S = 30.0
_CLAIM_S = 1.0
"""A device that attaches waits so long for its document; without it, it gets a plan all the same."""
_PAGE = 50
_REPEATED_LINE_S = 60.0

_log = EventLog("twin.store")


class PostgresStore:
    """The memory of :class:`twin_service.core.TwinCore` in a database that other replicas use, too.

    Args:
        address: Of the database, ``postgresql://...``.
        bounds: What is kept at most, of all replicas together.
        is_candidate: Whether this replica learns if it is elected.
        unix_s: Unix time.

    Raises:
        SettingsError: the address is none, or psycopg is missing.
        StorageError: the database cannot be reached or used, or is of a newer version.
    """

    is_shared = True

    def __init__(
        self,
        address: str,
        bounds: Bounds | None = None,
        *,
        is_candidate: bool = True,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        bounds, writer, parameters = bounds or Bounds(), uuid.uuid4(), connection_parameters(address)
        self._lock = threading.Lock()
        self._manifests: dict[str, bytes] = {}
        self._calibrations: dict[str, str] = {}
        self._weights: dict[str, dict[int, WeightsRow]] = {}
        self._changed_models: set[str] = set()
        self._asked_models: dict[str, Future[Any]] = {}
        self._next_id = self._reserved_up_to = 0
        self._spare_id: int | None = None
        self._is_reserving = False
        self._number = 0
        self._link = Link(
            place_of(parameters),
            lambda told: PostgresTables(parameters, bounds, writer, unix_s, told),
            self._refresh,
            is_candidate=is_candidate,
            writer=str(writer),
        )
        tables = PostgresTables(parameters, bounds, writer, unix_s, self._link.heard)
        try:
            if not tables.is_private:
                _log.warning(
                    "store-not-encrypted",
                    store=tables.place,
                    cause="others on the network can read what is kept; add ?sslmode=verify-full to --store",
                )
            tables.shrink()
            self._next_id = tables.reserve_plan_ids(1, RESERVED_PLAN_IDS)
            self._reserved_up_to = self._next_id + RESERVED_PLAN_IDS
            self._link.start(tables)
        except BaseException:
            tables.close()
            raise
        self._changed_models.clear()

    def close(self) -> None:
        self._link.close()

    # How it stands.

    @property
    def size_bytes(self) -> int | None:
        return self._link.size_bytes

    @property
    def errors(self) -> int:
        return self._link.errors

    @property
    def is_degraded(self) -> bool:
        return self._link.is_degraded

    # What other replicas do.

    @property
    def is_elected(self) -> bool:
        """Whether this replica is the one that learns."""
        return self._link.is_elected

    @property
    def elections(self) -> int:
        """How often this replica was elected; others may have been in between."""
        return self._link.elections

    def on_news(self, told: Callable[[], None]) -> None:
        """``told`` is called, in another thread, whenever one of the following has something new."""
        self._link.told = told

    def take_published(self) -> dict[str, list[WeightsRow]]:
        """All versions of every model whose weights are others than before."""
        with self._lock:
            changed, self._changed_models = self._changed_models, set()
            return {digest: _by_version(self._weights.get(digest, {})) for digest in changed}

    def take_others(self, limit: int) -> list[Replayed]:
        """Replayed tasks that other replicas have kept since this one was elected; damaged ones are left out."""
        found: list[Replayed] = []
        while self._link.others and len(found) < limit:
            task = _replayed(self._link.others.popleft())
            if task is not None:
                found.append(task)
        return found

    def take_moved(self) -> list[tuple[str, int]]:
        """Devices that have attached to another replica, and the epochs of that."""
        moved = self._link.moved
        return [moved.popleft() for _ in range(len(moved))]

    def known_models(self) -> list[str]:
        """Digests of all models whose manifest is kept."""
        with self._lock:
            return list(self._manifests)

    async def claimed(self, device_id: str, model_digest: str, epoch: int) -> Claim | None:
        """A device attaches here under an ``epoch`` that it announces (0: none): what was kept of it. What other
        replicas still write of it is refused from now on.

        Returns:
            ``None``: the database does not answer now. The device is served all the same.
        """
        try:
            waits: list[asyncio.Future[Any]] = []
            if model_digest not in self._manifests:
                # Others may wait for the same: whoever waits no longer must not cancel it.
                waits.append(asyncio.shield(asyncio.wrap_future(self._asked_model(model_digest))))
            # Not shielded: made later, it would take the device from where it has gone by then.
            waits.append(asyncio.wrap_future(self._link.claim(device_id, epoch)))
            found = await asyncio.wait_for(asyncio.gather(*waits), _CLAIM_S)
        except (StorageError, asyncio.TimeoutError):
            return None
        claim: Claim = found[-1]
        return claim

    async def kept(self, device_ids: Sequence[str]) -> dict[str, Claim] | None:
        """What is kept of devices, without claiming them: each with the epoch that it is kept under.

        Returns:
            ``None``: the database does not answer now.
        """
        return await self._claims(lambda tables: tables.kept(device_ids))

    async def reclaimed(self, device_ids: Sequence[str]) -> dict[str, Claim] | None:
        """Claim devices that are attached here, whatever they are kept under; they do not wait for it.

        Returns:
            ``None``: the database does not answer now.
        """
        return await self._claims(lambda tables: tables.claim(dict.fromkeys(device_ids, 0)))

    # Memory.

    def next_plan_id(self) -> int:
        with self._lock:
            if self._next_id >= self._reserved_up_to and self._spare_id is not None:
                self._next_id = max(self._next_id, self._spare_id)
                self._reserved_up_to, self._spare_id = self._spare_id + RESERVED_PLAN_IDS, None
            plan_id = self._next_id
            self._next_id += 1
            is_low = self._reserved_up_to - self._next_id < RESERVED_PLAN_IDS // 2
            is_due = is_low and self._spare_id is None and not self._is_reserving
            self._is_reserving = self._is_reserving or is_due
        if is_due:
            self._reserve(max(plan_id, self._reserved_up_to) + 1)
        # Beyond the reserved ones planning goes on; devices tell when they attach (plan_id_seen).
        return plan_id

    def plan_id_seen(self, plan_id: int) -> None:
        with self._lock:
            self._next_id = max(self._next_id, plan_id + 1)

    def manifest(self, digest: str) -> bytes | None:
        return self._manifests.get(digest)

    def keep_manifest(self, digest: str, data: bytes) -> None:
        self._link.put(lambda tables: tables.keep_manifest(digest, data), len(data))
        with self._lock:
            self._hold_manifest(digest, data)

    def documents(self) -> list[Document]:
        return self._read(lambda tables: tables.documents())

    def keep_documents(self, documents: Iterable[Document]) -> None:
        rows = [(document.device_id, document.epoch, document.to_json()) for document in documents]
        if rows:
            size_bytes = sum(len(json) for _, _, json in rows)
            self._link.put(lambda tables: tables.keep_documents(rows), size_bytes)

    def keep_replay(self, tasks: Sequence[Replayed]) -> None:
        rows = [ReplayRow(task.model_digest, task.device_id, self._counted(), task.to_bytes()) for task in tasks]
        self._link.put(lambda tables: tables.keep_replay(rows), sum(len(row.data) for row in rows))

    def replay(self, model_digest: str, limit: int) -> list[Replayed]:
        read = map(_replayed, self.replay_records(model_digest, limit))
        return [task for task in read if task is not None]

    def replay_records(self, model_digest: str, limit: int) -> Iterator[bytes]:
        before = self._read(lambda tables: tables.id_before_newest(model_digest, limit))
        return self._pages(lambda tables, after: tables.replay_page(model_digest, after, _PAGE), before)

    def keep_weights(self, row: WeightsRow) -> None:
        with self._lock:  # the thread may find at once that they are not to be published
            self._link.put(lambda tables: tables.keep_weights(row), len(row.data), is_learners=True)
            keep_version(self._weights.setdefault(row.model_digest, {}), row)

    def weights(self, model_digest: str | None = None) -> list[WeightsRow]:
        with self._lock:
            digests = sorted(self._weights) if model_digest is None else [model_digest]
            return [row for digest in digests for row in _by_version(self._weights.get(digest, {}))]

    def keep_calibration(self, model_digest: str, text: str) -> None:
        self._link.put(lambda tables: tables.keep_calibration(model_digest, text), len(text))
        self._calibrations[model_digest] = text

    def calibration(self, model_digest: str) -> str | None:
        return self._calibrations.get(model_digest)

    def keep_trace(self, lines: bytes) -> None:
        number = self._counted()
        self._link.put(lambda tables: tables.keep_trace(number, lines), len(lines))

    def traces(self) -> Iterator[bytes]:
        return self._pages(lambda tables, after: tables.traces_page(after, _PAGE), 0)

    # How it is done.

    def _counted(self) -> int:
        self._number += 1
        return self._number

    async def _claims(self, run: Callable[[PostgresTables], dict[str, Claim]]) -> dict[str, Claim] | None:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._link.ask(run)), _READ_S)
        except (StorageError, asyncio.TimeoutError):
            return None

    def _read(self, run: Callable[[PostgresTables], T]) -> T:
        """Wait for what the database says.

        Raises:
            StorageError: it does not answer.
        """
        try:
            found: T = self._link.ask(run).result(_READ_S)
        except FutureTimeoutError:
            raise StorageError(f"{self._link.place}: the database does not answer within {_READ_S:g} s") from None
        return found

    def _pages(self, page: Callable[[PostgresTables, int], list[tuple[int, bytes]]], after_id: int) -> Iterator[bytes]:
        while rows := self._read(lambda tables: page(tables, after_id)):  # noqa: B023 - it is waited for
            for row_id, data in rows:
                after_id = row_id
                yield bytes(data)

    def _reserve(self, at_least: int) -> None:
        def reserve(tables: PostgresTables) -> None:
            first = tables.reserve_plan_ids(at_least, RESERVED_PLAN_IDS)
            with self._lock:
                self._spare_id = first

        def ended(_: Future[Any]) -> None:
            self._is_reserving = False

        try:
            self._link.ask(reserve).add_done_callback(ended)
        except StorageError:
            self._is_reserving = False

    def _asked_model(self, model_digest: str) -> Future[Any]:
        """Ask for a model that is not known here, once for all devices that bring it at the same time."""
        for digest in [digest for digest, future in self._asked_models.items() if future.done()]:
            del self._asked_models[digest]
        if model_digest not in self._asked_models:
            self._asked_models[model_digest] = self._link.ask(lambda tables: self._learn_of_model(tables, model_digest))
        return self._asked_models[model_digest]

    # In the link's thread.

    def _refresh(self, tables: PostgresTables, model_digest: str | None) -> None:
        """Read again what is held here: weights of a model, or of a new session everything."""
        if model_digest is None:
            manifests, calibrations = tables.manifests(), tables.calibrations()
            with self._lock:
                for digest, data in manifests.items():
                    self._hold_manifest(digest, data)
                self._calibrations = {**calibrations, **self._calibrations}
        found: dict[str, dict[int, WeightsRow]] = {}
        for row in tables.weights(model_digest):
            found.setdefault(row.model_digest, {})[row.version] = row
        with self._lock:
            for digest in {*self._weights, *found} if model_digest is None else {model_digest}:
                if self._weights.get(digest, {}) != found.get(digest, {}):
                    self._weights[digest] = found.get(digest, {})
                    self._changed_models.add(digest)

    def _learn_of_model(self, tables: PostgresTables, model_digest: str) -> None:
        """A device attaches with a model that was not known here."""
        manifest, calibration = tables.manifest(model_digest), tables.calibration(model_digest)
        with self._lock:
            if manifest is not None:
                self._hold_manifest(model_digest, manifest)
            if calibration is not None:
                self._calibrations.setdefault(model_digest, calibration)

    def _hold_manifest(self, digest: str, data: bytes) -> None:
        self._manifests.pop(digest, None)
        self._manifests[digest] = data
        if len(self._manifests) > MAX_MANIFESTS:
            del self._manifests[next(iter(self._manifests))]


def _by_version(rows: dict[int, WeightsRow]) -> list[WeightsRow]:
    return [rows[version] for version in sorted(rows)]


def _replayed(data: bytes) -> Replayed | None:
    try:
        return Replayed.from_bytes(data)
    except ReplayError as error:
        _log.warning("replay-left-out", cause=str(error), limit_s=_REPEATED_LINE_S)
        return None
