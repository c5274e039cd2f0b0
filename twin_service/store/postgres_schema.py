"""The schema of the database that replicas share, step by step, and how an older one becomes a newer one.

All of it lies in the namespace ``twinsplit`` of the database. A new one takes all steps, an older one those it lacks,
in one transaction; before that, its tables are copied into the namespace ``twinsplit_version_N`` of the same database.
One replica does so, the others wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twinsplit.errors import StorageError

if TYPE_CHECKING:
    from typing import LiteralString

    from psycopg import Connection

NAMESPACE = "twinsplit"
MIGRATION_LOCK = 0x7473_0001
"""Advisory locks are numbers that all programs on a database share; these two are ours ("ts")."""

_STEPS: tuple[LiteralString, ...] = (
    # To version 1. bytes_kept is the size of replay and traces together, kept up to date by whoever writes them: the
    # size that the server knows of a table also counts what has been deleted and not yet been used again.
    """
    CREATE TABLE plan_ids (one boolean PRIMARY KEY CHECK (one), next_id bigint NOT NULL);
    INSERT INTO plan_ids VALUES (true, 1);
    CREATE TABLE bytes_kept (one boolean PRIMARY KEY CHECK (one), bytes bigint NOT NULL);
    INSERT INTO bytes_kept VALUES (true, 0);
    CREATE SEQUENCE kept;
    CREATE TABLE manifests (
        digest text PRIMARY KEY, bytes bytea NOT NULL, kept bigint NOT NULL DEFAULT nextval('kept')
    );
    CREATE TABLE documents (
        device_id text PRIMARY KEY, epoch bigint NOT NULL, json text, kept bigint NOT NULL DEFAULT nextval('kept')
    );
    CREATE INDEX documents_kept ON documents (kept);
    CREATE TABLE replay (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, model_digest text NOT NULL, device_id text NOT NULL,
        at_unix_s double precision NOT NULL, writer uuid NOT NULL, number bigint NOT NULL, bytes bytea NOT NULL,
        UNIQUE (writer, number)
    );
    CREATE INDEX replay_model ON replay (model_digest, id);
    CREATE INDEX replay_age ON replay (at_unix_s);
    CREATE TABLE traces (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at_unix_s double precision NOT NULL, writer uuid NOT NULL,
        number bigint NOT NULL, bytes bytea NOT NULL, UNIQUE (writer, number)
    );
    CREATE INDEX traces_age ON traces (at_unix_s);
    CREATE TABLE weights (
        model_digest text NOT NULL, version integer NOT NULL, state text NOT NULL,
        created_unix_s double precision NOT NULL, scores_json text NOT NULL, bytes bytea NOT NULL,
        PRIMARY KEY (model_digest, version)
    );
    CREATE TABLE calibration (model_digest text PRIMARY KEY, json text NOT NULL);
    """,
)

SCHEMA_VERSION = len(_STEPS)


def migrate(connection: Connection[Any], place: str) -> None:
    """Bring the database to :data:`SCHEMA_VERSION`, and look into its namespace from now on.

    Raises:
        StorageError: it is of a newer version, or its text is not UTF-8.
        psycopg.Error: it cannot be read or written; then it is as it was.
    """
    if _version(connection) == SCHEMA_VERSION:
        connection.execute("SET search_path TO twinsplit")
        return
    with connection.transaction():
        # Copying takes what it takes, and whoever waits for it waits.
        connection.execute("SET LOCAL statement_timeout TO 0; SET LOCAL lock_timeout TO 0")
        _check_encoding(connection, place)
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        version = _version(connection)
        if version > SCHEMA_VERSION:
            raise StorageError(
                f"{place}: has schema version {version}, this build reads up to {SCHEMA_VERSION}; start the version of "
                "twinsplit that wrote it, or name another database in --store"
            )
        if version == 0:
            # Not IF NOT EXISTS: that asks for the right to make one also where it is there.
            if not _exists(connection, NAMESPACE):
                connection.execute("CREATE SCHEMA twinsplit")
            connection.execute("CREATE TABLE twinsplit.version (one boolean PRIMARY KEY CHECK (one), number integer)")
            connection.execute("INSERT INTO twinsplit.version VALUES (true, 0)")
        elif version < SCHEMA_VERSION:
            _keep_copy(connection, version)
        connection.execute("SET LOCAL search_path TO twinsplit")
        for step in _STEPS[version:]:
            connection.execute(step)
        connection.execute("UPDATE version SET number = %s", (SCHEMA_VERSION,))
    connection.execute("SET search_path TO twinsplit")


def copy_namespace(version: int) -> str:
    """Where the copy of a state of an older ``version`` is kept."""
    return f"{NAMESPACE}_version_{version}"


def _check_encoding(connection: Connection[Any], place: str) -> None:
    row = connection.execute("SHOW server_encoding").fetchone()
    if row is None or row[0] != "UTF8":
        raise StorageError(
            f"{place}: its text is not UTF-8; make the database with: CREATE DATABASE twinsplit ENCODING 'UTF8' "
            "TEMPLATE template0"
        )


def _exists(connection: Connection[Any], namespace: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (namespace,)).fetchone() is not None


def _version(connection: Connection[Any]) -> int:
    """0: there is nothing yet."""
    # Not to_regclass: it goes by what this session remembers of the catalogue, which after the wait for another replica
    # that has made everything is out of date.
    found = connection.execute(
        "SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = 'version'",
        (NAMESPACE,),
    )
    if found.fetchone() is None:
        return 0
    row = connection.execute("SELECT number FROM twinsplit.version").fetchone()
    return 0 if row is None else int(row[0])


def _keep_copy(connection: Connection[Any], version: int) -> None:
    from psycopg import sql

    copy = sql.Identifier(copy_namespace(version))
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(copy))
    tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (NAMESPACE,)).fetchall()
    for (name,) in tables:
        there, here = sql.Identifier(copy_namespace(version), name), sql.Identifier(NAMESPACE, name)
        connection.execute(sql.SQL("CREATE TABLE {} AS TABLE {}").format(there, here))
