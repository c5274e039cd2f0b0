"""The tables of the database that replicas share, over one session, which also holds the right to learn.

Every method waits for the database; :class:`twin_service.store.postgres.PostgresStore` calls them in a thread. What a
writer hands over twice, since the connection was lost before the answer came, is kept once.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from twin_service.documents import Document, readable_document, readable_documents
from twin_service.memory import MAX_REFUSED, REFUSED, Claim, WeightsRow, readable_weights
from twin_service.store.interface import FORGOTTEN_SHARE, MAX_MANIFESTS, Bounds
from twin_service.store.postgres_session import PostgresSession
from twinsplit.telemetry.logs import EventLog

if TYPE_CHECKING:
    from typing import LiteralString

LEARNER_LOCK = 0x7473_0002
"""Advisory lock of the replica that learns; see :data:`twin_service.store.postgres_schema.MIGRATION_LOCK`."""
WEIGHTS_CHANNEL = "twinsplit_weights"
CLAIMS_CHANNEL = "twinsplit_claims"
_FORGET_IDS: dict[str, LiteralString] = {
    "replay": "DELETE FROM replay WHERE id <= (SELECT min(id) + (%s * (max(id) - min(id)))::bigint FROM replay) "
    "RETURNING octet_length(bytes)",
    "traces": "DELETE FROM traces WHERE id <= (SELECT min(id) + (%s * (max(id) - min(id)))::bigint FROM traces) "
    "RETURNING octet_length(bytes)",
}
_REPEATED_LINE_S = 60.0

_log = EventLog("twin.store")


class ReplayRow(NamedTuple):
    """A replayed task as it is kept."""

    model_digest: str
    device_id: str
    number: int
    """Counts what this writer has handed over."""
    data: bytes


class OthersReplay(NamedTuple):
    """Replayed tasks that other replicas have handed over."""

    records: list[bytes]
    last_id: int
    """Ask for those after it the next time."""


class PostgresTables(PostgresSession):
    """What is kept, table by table.

    Args:
        parameters: Of libpq.
        bounds: What is kept at most, of all replicas together.
        writer: Tells this replica from others.
        unix_s: Unix time.
        told: Called with channel and text of what other sessions (and this one) notify of.

    Raises:
        StorageError: the database cannot be reached or used, or is of a newer version.
    """

    def __init__(
        self,
        parameters: Mapping[str, str],
        bounds: Bounds,
        writer: uuid.UUID,
        unix_s: Callable[[], float],
        told: Callable[[str, str], None] = lambda _channel, _text: None,
    ) -> None:
        self._bounds = bounds
        self._writer = writer
        self._unix_s = unix_s
        super().__init__(parameters, told)

    # Who learns, what happens elsewhere.

    def lead(self) -> bool:
        """Ask for the right to learn; held until the session ends."""
        return bool(self._value("SELECT pg_try_advisory_lock(%s)", LEARNER_LOCK))

    def claim(self, devices: Mapping[str, int]) -> dict[str, Claim]:
        """Devices attach here, each under an epoch that it announces (0: none): what was kept of them. What another
        replica still writes of them is refused."""
        names = list(devices)
        with self._transaction("written"):
            # All who write documents lock them by name, new ones among them, so that no two wait for each other.
            before = self._rows(
                "INSERT INTO documents (device_id, epoch) SELECT device_id, 0 FROM unnest(%s::text[]) AS t (device_id) "
                "ORDER BY device_id ON CONFLICT (device_id) DO UPDATE SET kept = excluded.kept "
                "RETURNING device_id, epoch, json, xmax = 0",
                names,
            )
            after = dict(
                self._rows(
                    "UPDATE documents SET epoch = greatest(documents.epoch + 1, t.epoch) "
                    "FROM unnest(%s::text[], %s::bigint[]) AS t (device_id, epoch) "
                    "WHERE documents.device_id = t.device_id RETURNING documents.device_id, documents.epoch",
                    names,
                    list(devices.values()),
                )
            )
            if any(is_new for *_, is_new in before):
                self._forget_documents()
            self._rows(
                "SELECT pg_notify('twinsplit_claims', told) FROM unnest(%s::text[]) AS t (told)",
                [f"{self._writer} {after[device_id]} {device_id}" for device_id, _, _, is_new in before if not is_new],
            )
        return {
            device_id: Claim(after[device_id], None if json is None else readable_document(json, epoch))
            for device_id, epoch, json, _ in before
        }

    def others_replay(self, after_id: int, limit: int) -> OthersReplay:
        """The oldest ``limit`` replayed tasks after ``after_id`` that other replicas have handed over."""
        rows = self._rows(
            "SELECT id, bytes FROM replay WHERE id > %s AND writer != %s ORDER BY id LIMIT %s",
            after_id,
            self._writer,
            limit,
        )
        return OthersReplay([data for _, data in rows], max((row_id for row_id, _ in rows), default=after_id))

    def last_replay_id(self) -> int:
        """Id of the newest replayed task; 0: there is none."""
        return int(self._value("SELECT COALESCE(max(id), 0) FROM replay"))

    def reserve_plan_ids(self, at_least: int, count: int) -> int:
        """The first of ``count`` plan ids that nobody else gets, not below ``at_least``."""
        return int(
            self._value(
                "UPDATE plan_ids SET next_id = greatest(next_id, %s) + %s RETURNING next_id - %s",
                at_least,
                count,
                count,
            )
        )

    # Reading.

    @property
    def size_bytes(self) -> int:
        """Size of all tables on the server's disk."""
        return int(
            self._value(
                "SELECT COALESCE(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c "
                "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'twinsplit' AND c.relkind = 'r'"
            )
        )

    def manifests(self) -> dict[str, bytes]:
        """All manifests by digest, the one kept first first."""
        return dict(self._rows("SELECT digest, bytes FROM manifests ORDER BY kept"))

    def manifest(self, digest: str) -> bytes | None:
        """One manifest; ``None``: not known."""
        rows = self._rows("SELECT bytes FROM manifests WHERE digest = %s", digest)
        return bytes(rows[0][0]) if rows else None

    def documents(self) -> list[Document]:
        """All documents, the longest unchanged first."""
        rows = self._rows("SELECT json, epoch FROM documents WHERE json IS NOT NULL ORDER BY kept")
        return readable_documents(rows)

    def kept(self, device_ids: Sequence[str]) -> dict[str, Claim]:
        """What is kept of devices, without claiming them."""
        rows = self._rows("SELECT device_id, epoch, json FROM documents WHERE device_id = ANY(%s)", list(device_ids))
        return {
            device_id: Claim(epoch, None if json is None else readable_document(json, epoch))
            for device_id, epoch, json in rows
        }

    def id_before_newest(self, model_digest: str, limit: int) -> int:
        """The newest ``limit`` replayed tasks of a model are those after this id."""
        rows = self._rows(
            "SELECT id FROM replay WHERE model_digest = %s ORDER BY id DESC OFFSET %s LIMIT 1", model_digest, limit
        )
        return int(rows[0][0]) if rows else 0

    def replay_page(self, model_digest: str, after_id: int, page: int) -> list[tuple[int, bytes]]:
        """The first ``page`` replayed tasks of a model after ``after_id``, with their ids."""
        return self._rows(
            "SELECT id, bytes FROM replay WHERE model_digest = %s AND id > %s ORDER BY id LIMIT %s",
            model_digest,
            after_id,
            page,
        )

    def traces_page(self, after_id: int, page: int) -> list[tuple[int, bytes]]:
        """The first ``page`` batches of trace records after ``after_id``, with their ids."""
        return self._rows("SELECT id, bytes FROM traces WHERE id > %s ORDER BY id LIMIT %s", after_id, page)

    def weights(self, model_digest: str | None = None) -> list[WeightsRow]:
        """All versions of a model (``None``: of all models), by model and version."""
        rows = self._rows(
            "SELECT model_digest, version, state, created_unix_s, scores_json, bytes FROM weights "
            "WHERE %s::text IS NULL OR model_digest = %s ORDER BY 1, 2",
            model_digest,
            model_digest,
        )
        return readable_weights(rows)

    def calibrations(self) -> dict[str, str]:
        """What was learnt of every model's exits."""
        return dict(self._rows("SELECT model_digest, json FROM calibration"))

    def calibration(self, model_digest: str) -> str | None:
        """The same of one model; ``None``: nothing."""
        rows = self._rows("SELECT json FROM calibration WHERE model_digest = %s", model_digest)
        return str(rows[0][0]) if rows else None

    # Writing.

    def shrink(self) -> None:
        """Let go what the bounds, which may have been drawn closer, do not allow."""
        with self._adding():
            self._forget(0)
            self._forget_documents()

    def keep_manifest(self, digest: str, data: bytes) -> None:
        """Remember a manifest; the one kept first goes when there are too many."""
        with self._transaction("written"):
            self._rows(
                "INSERT INTO manifests (digest, bytes) VALUES (%s, %s) ON CONFLICT (digest) DO UPDATE "
                "SET bytes = excluded.bytes, kept = excluded.kept",
                digest,
                data,
            )
            self._rows(
                "DELETE FROM manifests WHERE kept <= (SELECT kept FROM manifests ORDER BY kept DESC OFFSET %s LIMIT 1)",
                MAX_MANIFESTS,
            )

    def keep_documents(self, rows: Sequence[tuple[str, int, str]]) -> None:
        """Remember documents: device, epoch, JSON. One of an earlier epoch than the kept one's is left."""
        newest = {device_id: (epoch, json) for device_id, epoch, json in rows}
        with self._transaction("written"):
            kept = self._rows(  # in the order of claims
                "INSERT INTO documents (device_id, epoch, json) SELECT device_id, epoch, json FROM "
                "unnest(%s::text[], %s::bigint[], %s::text[]) AS t (device_id, epoch, json) "
                "ORDER BY device_id ON CONFLICT (device_id) DO UPDATE "
                "SET epoch = excluded.epoch, json = excluded.json, kept = excluded.kept "
                "WHERE documents.epoch <= excluded.epoch RETURNING xmax = 0",
                list(newest),
                [epoch for epoch, _ in newest.values()],
                [json for _, json in newest.values()],
            )
            if any(is_new for (is_new,) in kept):
                self._forget_documents()

    def keep_replay(self, rows: Sequence[ReplayRow]) -> None:
        """Remember replayed tasks; the oldest go when there are too many."""
        with self._adding():
            added = self._rows(
                "INSERT INTO replay (model_digest, device_id, at_unix_s, writer, number, bytes) "
                "SELECT model_digest, device_id, %s, %s, number, bytes FROM "
                "unnest(%s::text[], %s::text[], %s::bigint[], %s::bytea[]) AS t "
                "(model_digest, device_id, number, bytes) ORDER BY number ON CONFLICT DO NOTHING "
                "RETURNING octet_length(bytes)",
                self._unix_s(),
                self._writer,
                [row.model_digest for row in rows],
                [row.device_id for row in rows],
                [row.number for row in rows],
                [row.data for row in rows],
            )
            self._forget(_sum(added))

    def keep_trace(self, number: int, lines: bytes) -> None:
        """Remember a batch of trace records; the oldest go when there are too many."""
        with self._adding():
            added = self._rows(
                "INSERT INTO traces (at_unix_s, writer, number, bytes) VALUES (%s, %s, %s, %s) "
                "ON CONFLICT DO NOTHING RETURNING octet_length(bytes)",
                self._unix_s(),
                self._writer,
                number,
                lines,
            )
            self._forget(_sum(added))

    def keep_weights(self, row: WeightsRow) -> None:
        """Publish a version of weights; the oldest refused ones go when there are too many."""
        with self._transaction("written"):
            self._rows(
                "INSERT INTO weights (model_digest, version, state, created_unix_s, scores_json, bytes) "
                "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (model_digest, version) DO UPDATE SET "
                "state = excluded.state, created_unix_s = excluded.created_unix_s, "
                "scores_json = excluded.scores_json, bytes = excluded.bytes",
                row.model_digest,
                row.version,
                row.state,
                row.created_unix_s,
                row.scores_json,
                row.data,
            )
            self._rows(
                "DELETE FROM weights WHERE model_digest = %s AND state = %s AND version NOT IN "
                "(SELECT version FROM weights WHERE model_digest = %s AND state = %s ORDER BY version DESC LIMIT %s)",
                row.model_digest,
                REFUSED,
                row.model_digest,
                REFUSED,
                MAX_REFUSED,
            )
            self._rows("SELECT pg_notify('twinsplit_weights', %s)", row.model_digest)

    def keep_calibration(self, model_digest: str, text: str) -> None:
        """Remember what was learnt of a model's exits; of several replicas the last one's word stands."""
        self._rows(
            "INSERT INTO calibration VALUES (%s, %s) ON CONFLICT (model_digest) DO UPDATE SET json = excluded.json",
            model_digest,
            text,
        )

    # How it is done.

    @contextmanager
    def _adding(self) -> Iterator[None]:
        """A transaction on what is bounded in size, one after the other: ids can be seen in their order, and no two
        wait for each other's rows."""
        with self._transaction("written"):
            self._rows("SELECT bytes FROM bytes_kept FOR UPDATE")
            yield

    def _forget_documents(self) -> None:
        """Let go the documents beyond their bound, but for those that another replica is writing; within a
        transaction."""
        self._rows(
            "DELETE FROM documents WHERE device_id IN (SELECT device_id FROM documents WHERE kept <= "
            "(SELECT kept FROM documents ORDER BY kept DESC OFFSET %s LIMIT 1) FOR UPDATE SKIP LOCKED)",
            self._bounds.max_documents,
        )

    def _forget(self, added_bytes: int) -> None:
        """Let go what is too old, and the oldest while all of it is too large; within :meth:`_adding`."""
        oldest_s = self._unix_s() - self._bounds.max_age_s
        gone = _sum(self._rows("DELETE FROM replay WHERE at_unix_s < %s RETURNING octet_length(bytes)", oldest_s))
        gone += _sum(self._rows("DELETE FROM traces WHERE at_unix_s < %s RETURNING octet_length(bytes)", oldest_s))
        kept = int(self._value("UPDATE bytes_kept SET bytes = bytes + %s RETURNING bytes", added_bytes - gone))
        while kept > self._bounds.max_bytes:
            gone = sum(_sum(self._rows(statement, FORGOTTEN_SHARE)) for statement in _FORGET_IDS.values())
            if gone == 0:
                return
            kept = int(self._value("UPDATE bytes_kept SET bytes = bytes - %s RETURNING bytes", gone))


def _sum(rows: Iterable[tuple[int]]) -> int:
    return sum(length for (length,) in rows)
