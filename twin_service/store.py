"""The embedded database of the twin service: plan ids, manifests, documents (design section 6).

One sqlite file with a schema version, bounded in every table. The next issue adds replay and weights as further tables
and raises the version.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from twin_service.documents import Document
from twinsplit.errors import StorageError

SCHEMA_VERSION = 1
FILE_NAME = "twin.sqlite"
MAX_MANIFESTS = 256
_RESERVED_PLAN_IDS = 1000
"""Plan ids reserved by one write; those left over at a restart are skipped, so that ids only grow."""

_SCHEMA = """
CREATE TABLE plan_ids (only INTEGER PRIMARY KEY CHECK (only = 1), next_id INTEGER NOT NULL);
INSERT INTO plan_ids VALUES (1, 1);
CREATE TABLE manifests (digest TEXT PRIMARY KEY, bytes BLOB NOT NULL, kept INTEGER NOT NULL);
CREATE TABLE documents (device_id TEXT PRIMARY KEY, json TEXT NOT NULL, kept INTEGER NOT NULL);
CREATE INDEX documents_kept ON documents (kept);
"""


class Store:
    """The memory of :class:`twin_service.core.TwinCore` on disk.

    Args:
        folder: Where the file is; it is made if it is missing.
        max_documents: Documents kept; the longest unchanged go first.

    Raises:
        StorageError: the folder or file cannot be used, is not ours, or is of another version.
    """

    def __init__(self, folder: Path, *, max_documents: int = 20_000) -> None:
        self.path = folder / FILE_NAME
        self._max_documents = max_documents
        self._next_id = self._reserved_up_to = 0
        with self._named("opened"):
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=1.0, isolation_level=None)
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
            self._migrate()
            self._next_id = int(self._connection.execute("SELECT next_id FROM plan_ids").fetchone()[0])
        self._reserved_up_to = self._next_id
        self._reserve()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def size_bytes(self) -> int:
        """Size of the state on disk."""
        parts = (self.path, self.path.with_name(f"{FILE_NAME}-wal"))
        return sum(part.stat().st_size for part in parts if part.exists())

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
        return None if row is None else bytes(row[0])

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
            rows = self._connection.execute("SELECT json FROM documents ORDER BY kept").fetchall()
        return [Document.from_json(text) for (text,) in rows]

    def keep_documents(self, documents: Iterable[Document]) -> None:
        with self._transaction() as write:
            for document in documents:
                write(
                    "REPLACE INTO documents VALUES (?, ?, (SELECT 1 + COALESCE(MAX(kept), 0) FROM documents))",
                    document.device_id,
                    document.to_json(),
                )
            write(
                "DELETE FROM documents WHERE device_id NOT IN "
                "(SELECT device_id FROM documents ORDER BY kept DESC LIMIT ?)",
                self._max_documents,
            )

    def _reserve(self) -> None:
        up_to = self._next_id + _RESERVED_PLAN_IDS
        with self._transaction() as write:
            write("UPDATE plan_ids SET next_id = ?", up_to)
        self._reserved_up_to = up_to

    def _migrate(self) -> None:
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version == SCHEMA_VERSION:
            return
        if version != 0:
            raise StorageError(
                f"{self.path}: has schema version {version}, this build reads {SCHEMA_VERSION}; start the version of "
                "twinsplit that wrote it, or name another --state folder"
            )
        self._connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., None]]:
        with self._named("written"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._write
            except BaseException:
                if self._connection.in_transaction:  # a full disk ends it by itself
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _write(self, statement: str, *values: object) -> None:
        self._connection.execute(statement, values)

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"{self.path}: the state cannot be {what} ({error}); see that the disk has room, that the folder "
                "can be written and that no other twin service uses it, or name another --state folder"
            ) from None
