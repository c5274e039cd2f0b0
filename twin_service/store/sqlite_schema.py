"""The schema of the twin service's database, step by step, and how an older file becomes a newer one.

A new file takes all steps, an older one those it lacks, so that both end alike. Before an older one is touched, a copy
of it is kept beside it; copies of still older ones go when the file has become a newer one.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from twinsplit.errors import StorageError

_STEPS = (
    # To version 1: plan ids, manifests, documents.
    """
    CREATE TABLE plan_ids (only INTEGER PRIMARY KEY CHECK (only = 1), next_id INTEGER NOT NULL);
    INSERT INTO plan_ids VALUES (1, 1);
    CREATE TABLE manifests (digest TEXT PRIMARY KEY, bytes BLOB NOT NULL, kept INTEGER NOT NULL);
    CREATE TABLE documents (device_id TEXT PRIMARY KEY, json TEXT NOT NULL, kept INTEGER NOT NULL);
    CREATE INDEX documents_kept ON documents (kept);
    """,
    # To version 2: what the workload twin and the learner remember.
    """
    CREATE TABLE replay (
        id INTEGER PRIMARY KEY, model_digest TEXT NOT NULL, device_id TEXT NOT NULL, at_unix_s REAL NOT NULL,
        bytes BLOB NOT NULL
    );
    CREATE INDEX replay_model ON replay (model_digest, id);
    CREATE INDEX replay_age ON replay (at_unix_s);
    CREATE TABLE traces (id INTEGER PRIMARY KEY, at_unix_s REAL NOT NULL, bytes BLOB NOT NULL);
    CREATE INDEX traces_age ON traces (at_unix_s);
    CREATE TABLE weights (
        model_digest TEXT NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL, created_unix_s REAL NOT NULL,
        scores_json TEXT NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (model_digest, version)
    );
    CREATE TABLE calibration (model_digest TEXT PRIMARY KEY, json TEXT NOT NULL);
    """,
    # To version 3: the number of a device's newest attachment.
    """
    ALTER TABLE documents ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
    """,
)

SCHEMA_VERSION = len(_STEPS)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the file at ``path`` to :data:`SCHEMA_VERSION`.

    Raises:
        StorageError: it is of a newer version.
        sqlite3.Error: it cannot be read, or its copy or it cannot be written; then it is as it was.
        OSError: an older copy cannot be deleted.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version == SCHEMA_VERSION:
        return
    if not 0 <= version < SCHEMA_VERSION:
        raise StorageError(
            f"{path}: has schema version {version}, this build reads up to {SCHEMA_VERSION}; start the version of "
            "twinsplit that wrote it, or name another --state folder"
        )
    if version > 0:
        _keep_copy(connection, copy_path(path, version))
    steps = "".join(_STEPS[version:])
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    for older in range(1, version):
        copy_path(path, older).unlink(missing_ok=True)


def copy_path(path: Path, version: int) -> Path:
    """Where the copy of a file of an older ``version`` is kept."""
    return path.with_name(f"{path.name}.version-{version}")


def _keep_copy(connection: sqlite3.Connection, copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as target:
        connection.backup(target)
