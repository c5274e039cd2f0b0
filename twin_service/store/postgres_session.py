"""One session on the database that replicas share: connecting, statements, and what goes wrong, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.errors import DataError, DeadlockDetected, IntegrityError, SerializationFailure

from twin_service.store.address import place_of
from twin_service.store.postgres_schema import migrate
from twinsplit.credentials import without_password
from twinsplit.errors import StorageError

if TYPE_CHECKING:
    from typing import LiteralString

_DEFAULTS = {
    "connect_timeout": "5",
    "application_name": "twinsplit-twin",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""What the address may say otherwise. A silent network is found out within seconds, here and at the server."""
_SESSION: tuple[LiteralString, ...] = (
    "SET client_encoding TO 'UTF8'",
    "SET statement_timeout TO '30s'",
    "SET lock_timeout TO '10s'",
    # A replica that is stopped or cut off loses its session, and with it the right to learn.
    "SET idle_session_timeout TO '15s'",
    "SET idle_in_transaction_session_timeout TO '15s'",
    "SET tcp_keepalives_idle TO 5",
    "SET tcp_keepalives_interval TO 2",
    "SET tcp_keepalives_count TO 3",
)
_OLDEST = 140_000
"""PostgreSQL 14, the first that ends a session which says nothing."""


class RejectedError(StorageError):
    """The database refuses what was to be kept; handing it over again would be in vain."""


class CollidedError(StorageError):
    """Another session was in the way, and nothing was kept; the session is well, and a second try may succeed."""


class PostgresSession:
    """A connection whose namespace is brought to this build's schema.

    Args:
        parameters: Of libpq.
        told: Called with channel and text of what other sessions (and this one) notify of.

    Raises:
        StorageError: the database cannot be reached or used, or is of a newer version.
    """

    def __init__(self, parameters: Mapping[str, str], told: Callable[[str, str], None]) -> None:
        self.place = place_of(dict(parameters))
        with self._named("opened"):
            self._connection = psycopg.connect(make_conninfo(**{**_DEFAULTS, **parameters}), autocommit=True)
        try:
            if (found := self._connection.info.server_version) < _OLDEST:
                raise StorageError(
                    f"{self.place}: runs PostgreSQL {found // 10_000}; twinsplit needs {_OLDEST // 10_000} or newer"
                )
            with self._named("opened"):
                for statement in _SESSION:
                    self._connection.execute(statement)
                migrate(self._connection, self.place)
                self._connection.add_notify_handler(lambda note: told(note.channel, note.payload))
                self._connection.execute("LISTEN twinsplit_weights")
                self._connection.execute("LISTEN twinsplit_claims")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the session."""
        self._connection.close()

    def fileno(self) -> int:
        """Readable when the server has something to say."""
        return self._connection.fileno()

    @property
    def is_private(self) -> bool:
        """Whether nobody on the network can read along: TLS, this machine, or a socket of it."""
        host = self._connection.info.host
        return bool(self._connection.pgconn.ssl_in_use) or host.startswith(("/", "127.", "localhost", "::1"))

    def heartbeat(self) -> None:
        """Show that the session lives; what others notified of is passed on."""
        self._rows("SELECT 1")

    def _rows(self, statement: LiteralString, *values: object) -> list[Any]:
        with self._named("used"):
            cursor = self._connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def _value(self, statement: LiteralString, *values: object) -> Any:
        return self._rows(statement, *values)[0][0]

    @contextmanager
    def _transaction(self, what: str) -> Iterator[None]:
        with self._named(what), self._connection.transaction():
            yield

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except (DataError, IntegrityError) as error:
            raise RejectedError(f"{self.place}: the database refuses what was to be kept ({_cause(error)})") from None
        except (DeadlockDetected, SerializationFailure) as error:
            raise CollidedError(f"{self.place}: another session was in the way ({_cause(error)})") from None
        except (psycopg.Error, OSError) as error:
            raise StorageError(
                f"{self.place}: the state cannot be {what} ({_cause(error)}); see that the database runs, that host, "
                "user, password and TLS files in --store are right, and that this user may write there"
            ) from None


def _cause(error: BaseException) -> str:
    """What libpq or the server says, in a line and without a password."""
    return without_password(" ".join(str(error).split())) or type(error).__name__
