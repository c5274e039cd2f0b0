"""The embedded database of the twin service: plan ids, manifests, documents, replay, weights (design section 6).

One sqlite file with a schema version (:mod:`twin_service.store.sqlite_schema`), bounded in every table: replay and
traces by age and by the size of the whole, all else by number.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from twin_service.documents import Document, readable_documents
from twin_service.memory import MAX_REFUSED, REFUSED, WeightsRow, readable_weights
from twin_service.store.interface import FORGOTTEN_SHARE, MAX_MANIFESTS, RESERVED_PLAN_IDS, Bounds
from twin_service.store.sqlite_schema import migrate
from twin_service.workload.replayed import Replayed
from twinsplit.errors import ReplayError, StorageError
from twinsplit.telemetry.logs import EventLog

FILE_NAME = "twin.sqlite"
_BOUNDED = ("replay", "traces")
"""Tables bounded by age and size: what they hold is worth most when it is new."""

_MOST_PLAN_ID = 1 << 62
_REPEATED_LINE_S = 60.0

_log = EventLog("twin.store")


class SqliteStore:
    """The memory of :class:`twin_service.core.TwinCore` on disk.

    Args:
        folder: Where the file is; it is made if it is missing.
        bounds: What is kept at most.
        unix_s: Unix time.

    Raises:
        StorageError: the folder or file cannot be used, is not ours, or is of a newer version.
    """

    is_shared = False

    def __init__(
        self,
        folder: Path,
        bounds: Bounds | None = None,
        *,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self.path = folder / FILE_NAME
        self.errors = 0
        self.is_degraded = False
        self._bounds = bounds or Bounds()
        self._unix_s = unix_s
        self._next_id = self._reserved_up_to = 0
        with self._named("opened"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=1.0, isolation_level=None)
            self._file = self.path.stat()
        try:
            self._open()
        except BaseException:
            self._connection.close()
            raise

    def _open(self) -> None:
        with self._named("opened"):
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            migrate(self._connection, self.path)
            self._shrink()
            self._connection.execute("INSERT OR IGNORE INTO plan_ids VALUES (1, 1)")
            (next_id,) = self._connection.execute("SELECT next_id FROM plan_ids").fetchone()
        if not isinstance(next_id, int) or not 0 < next_id <= _MOST_PLAN_ID:
            raise StorageError(
                f"{self.path}: the number of the next plan cannot be read; move the --state folder away, or put a copy "
                "of it back"
            )
        self._next_id = next_id
        self._reserved_up_to = self._next_id
        self._reserve()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def size_bytes(self) -> int:
        """Size of the state on disk, the copy of an older version included."""
        return sum(part.stat().st_size for part in self.path.parent.glob(f"{FILE_NAME}*"))

    def next_plan_id(self) -> int:
        if self._next_id >= self._reserved_up_to:
            try:
                self._reserve()
            except StorageError:
                # Planning goes on; what the disk could not keep, devices tell when they attach (plan_id_seen).
                self._reserved_up_to = self._next_id + 1
        plan_id = self._next_id
        self._next_id += 1
        return plan_id

    def plan_id_seen(self, plan_id: int) -> None:
        self._next_id = max(self._next_id, plan_id + 1)

    def manifest(self, digest: str) -> bytes | None:
        with self._named("read"):
            row = self._connection.execute("SELECT bytes FROM manifests WHERE digest = ?", (digest,)).fetchone()
        return _bytes(row)

    def keep_manifest(self, digest: str, data: bytes) -> None:
        with self._transaction() as write:
            write(
                "REPLACE INTO manifests VALUES (?, ?, (SELECT 1 + COALESCE(MAX(kept), 0) FROM manifests))", digest, data
            )
            write(
                "DELETE FROM manifests WHERE digest NOT IN (SELECT digest FROM manifests ORDER BY kept DESC LIMIT ?)",
                MAX_MANIFESTS,
            )

    def documents(self) -> list[Document]:
        with self._named("read"):
            rows = self._connection.execute("SELECT json, epoch FROM documents ORDER BY kept").fetchall()
        return readable_documents(rows)

    def keep_documents(self, documents: Iterable[Document]) -> None:
        with self._transaction() as write:
            for document in documents:
                write(
                    "INSERT INTO documents (device_id, json, epoch, kept) "
                    "VALUES (?, ?, ?, (SELECT 1 + COALESCE(MAX(kept), 0) FROM documents)) "
                    "ON CONFLICT (device_id) DO UPDATE SET json = excluded.json, epoch = excluded.epoch, "
                    "kept = excluded.kept WHERE documents.epoch <= excluded.epoch",
                    document.device_id,
                    document.to_json(),
                    document.epoch,
                )
            self._forget_documents(write)

    def keep_replay(self, tasks: Sequence[Replayed]) -> None:
        now_unix_s = self._unix_s()
        with self._transaction() as write:
            for task in tasks:
                write(
                    "INSERT INTO replay (model_digest, device_id, at_unix_s, bytes) VALUES (?, ?, ?, ?)",
                    task.model_digest,
                    task.device_id,
                    now_unix_s,
                    task.to_bytes(),
                )
            self._forget(write)

    def replay(self, model_digest: str, limit: int) -> list[Replayed]:
        with self._named("read"):
            rows = self._connection.execute(
                "SELECT bytes FROM replay WHERE model_digest = ? ORDER BY id DESC LIMIT ?", (model_digest, limit)
            ).fetchall()
        read = (_replayed(_bytes(row)) for row in reversed(rows))
        return [task for task in read if task is not None]

    def replay_records(self, model_digest: str, limit: int) -> Iterator[bytes]:
        with self._named("read"):
            found = self._connection.execute(
                "SELECT id FROM replay WHERE model_digest = ? ORDER BY id DESC LIMIT ?", (model_digest, limit)
            ).fetchall()
            for (row_id,) in reversed(found):
                row = self._connection.execute("SELECT bytes FROM replay WHERE id = ?", (row_id,)).fetchone()
                if (data := _bytes(row)) is not None:
                    yield data

    def keep_weights(self, row: WeightsRow) -> None:
        with self._transaction() as write:
            write(
                "REPLACE INTO weights VALUES (?, ?, ?, ?, ?, ?)",
                row.model_digest,
                row.version,
                row.state,
                row.created_unix_s,
                row.scores_json,
                row.data,
            )
            write(
                "DELETE FROM weights WHERE model_digest = ? AND state = ? AND version NOT IN "
                "(SELECT version FROM weights WHERE model_digest = ? AND state = ? ORDER BY version DESC LIMIT ?)",
                *(row.model_digest, REFUSED, row.model_digest, REFUSED, MAX_REFUSED),
            )

    def weights(self, model_digest: str | None = None) -> list[WeightsRow]:
        with self._named("read"):
            rows = self._connection.execute(
                "SELECT * FROM weights WHERE ? IS NULL OR model_digest = ? ORDER BY model_digest, version",
                (model_digest, model_digest),
            ).fetchall()
        return readable_weights(rows)

    def keep_calibration(self, model_digest: str, text: str) -> None:
        with self._transaction() as write:
            write("REPLACE INTO calibration VALUES (?, ?)", model_digest, text)

    def calibration(self, model_digest: str) -> str | None:
        with self._named("read"):
            row = self._connection.execute(
                "SELECT json FROM calibration WHERE model_digest = ?", (model_digest,)
            ).fetchone()
        return None if row is None else str(row[0])

    def keep_trace(self, lines: bytes) -> None:
        with self._transaction() as write:
            write("INSERT INTO traces (at_unix_s, bytes) VALUES (?, ?)", self._unix_s(), lines)
            self._forget(write)

    def traces(self) -> Iterator[bytes]:
        with self._named("read"):
            ids = [row[0] for row in self._connection.execute("SELECT id FROM traces ORDER BY id").fetchall()]
            for row_id in ids:
                row = self._connection.execute("SELECT bytes FROM traces WHERE id = ?", (row_id,)).fetchone()
                if (data := _bytes(row)) is not None:
                    yield data

    def _reserve(self) -> None:
        up_to = self._next_id + RESERVED_PLAN_IDS
        with self._transaction() as write:
            write("UPDATE plan_ids SET next_id = ?", up_to)
        self._reserved_up_to = up_to

    def _shrink(self) -> None:
        """Let go what the bounds, which may have been drawn closer, do not allow."""
        with self._transaction() as write:
            self._forget_documents(write)
        if self._used_bytes() > self._bounds.max_bytes:
            with self._transaction() as write:
                self._forget(write)
            self._connection.execute("VACUUM")

    def _used_bytes(self) -> int:
        pages, free, page_bytes = (
            int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * page_bytes

    def _forget_documents(self, write: Callable[..., None]) -> None:
        write(
            "DELETE FROM documents WHERE kept <= (SELECT kept FROM documents ORDER BY kept DESC LIMIT 1 OFFSET ?)",
            self._bounds.max_documents,
        )

    def _forget(self, write: Callable[..., None]) -> None:
        """Let go what is too old, and the oldest while the file is too large."""
        oldest_s = self._unix_s() - self._bounds.max_age_s
        for table in _BOUNDED:
            write(f"DELETE FROM {table} WHERE at_unix_s < ?", oldest_s)  # nosec B608 # a name of this module's tables
        while self._used_bytes() > self._bounds.max_bytes:
            changes = self._connection.total_changes
            for table in _BOUNDED:
                write(
                    f"DELETE FROM {table} WHERE id <= "  # nosec B608 # likewise
                    f"(SELECT MIN(id) + CAST(? * (MAX(id) - MIN(id)) AS INTEGER) FROM {table})",
                    FORGOTTEN_SHARE,
                )
            if self._connection.total_changes == changes:
                return

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., None]]:
        self.is_degraded = True
        with self._named("written"):
            self._check_is_there()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._write
            except BaseException:
                if self._connection.in_transaction:  # a full disk ends it by itself
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        self.is_degraded = False

    def _check_is_there(self) -> None:
        """sqlite itself goes on in a file that was removed, and all of it ends with the process.

        Raises:
            OSError: the file is no longer in its place.
        """
        if not self.path.exists() or not os.path.samestat(self.path.stat(), self._file):
            raise OSError("it was moved or removed while the service ran: put it back, or start the service again")

    def _write(self, statement: str, *values: object) -> None:
        self._connection.execute(statement, values)

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self.errors += 1
            raise StorageError(
                f"{self.path}: the state cannot be {what} ({error}); see that the disk has room, that the folder "
                "can be written and that no other twin service uses it, or name another --state folder"
            ) from None


def _bytes(row: tuple[object] | None) -> bytes | None:
    """What a row holds; ``None``: there is none, or it holds something else."""
    return row[0] if row is not None and isinstance(row[0], bytes) else None


def _replayed(data: bytes | None) -> Replayed | None:
    try:
        return Replayed.from_bytes(data or b"")
    except ReplayError as error:
        _log.warning("replay-left-out", cause=str(error), limit_s=_REPEATED_LINE_S)
        return None
