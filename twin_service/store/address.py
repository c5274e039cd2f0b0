"""The setting ``store``: which store is meant, and how a database is reached. Nothing here is shown with its password.

What is wrong is named without repeating the address: a password with an unescaped character can end up in any part.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from twinsplit.errors import SettingsError

EMBEDDED = "sqlite"
_SCHEMES = ("postgresql", "postgres")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_FORM = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full"
_ESCAPE = "write characters such as @ : / ? # in user and password as %40 %3A %2F %3F %23"


def is_embedded(store: str) -> bool:
    """Whether ``store`` is the database in the state folder; else it is the address of one that replicas share.

    Raises:
        SettingsError: it is neither.
    """
    if store == EMBEDDED:
        return True
    scheme = store.partition("://")[0] if "://" in store else ""
    if scheme in _SCHEMES:
        return False
    found = f"no store has the scheme {scheme!r}" if re.fullmatch(r"[a-z0-9+.-]{1,30}", scheme) else "is no store"
    raise SettingsError(f"--store: {found}; give {EMBEDDED}, or {_FORM}")


def connection_parameters(store: str) -> dict[str, str]:
    """Parameters of libpq in the address of a PostgreSQL database.

    Raises:
        SettingsError: it is not such an address, psycopg is not installed, or libpq does not know a parameter.
    """
    try:
        from psycopg import Error, pq
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as error:
        raise SettingsError(
            f"--store postgresql://... needs the package {error.name or 'psycopg'}, which is not installed or finds no "
            "libpq; pip install 'twinsplit[postgres]'"
        ) from None
    try:
        parts = urlsplit(store)
        is_clear = parts.netloc.count("@") <= 1 and "@" not in parts.path + parts.query and not parts.fragment
    except ValueError:
        is_clear = False
    if not is_clear:
        raise SettingsError(f"--store: is not an address of the form {_FORM}; {_ESCAPE}")
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:
            raise SettingsError(f"--store: {name[:30]!r} is no parameter of a PostgreSQL address")
        if name == "sslmode" and value not in _SSL_MODES:
            raise SettingsError(f"--store: sslmode {value[:30]!r} is none; give one of {', '.join(_SSL_MODES)}")
    try:
        found = conninfo_to_dict(store)
    except Error:
        raise SettingsError(f"--store: is not an address of the form {_FORM}; {_ESCAPE}") from None
    for port in str(found.get("port", "")).split(","):
        if port and not (port.isdecimal() and 0 < int(port) < 65536):
            raise SettingsError(f"--store: its port is none; give {_FORM}; {_ESCAPE}")
    return {name: str(value) for name, value in found.items() if value is not None}


def files_of(store: str) -> dict[str, Path]:
    """Files that an address names, by ``store (PARAMETER)``; none of an address that is none."""
    try:
        named = parse_qsl(urlsplit(store).query)
    except ValueError:
        return {}
    return {f"store ({name})": Path(value) for name, value in named if name in _FILES and value.startswith("/")}


def place_of(parameters: dict[str, str]) -> str:
    """How people know a database: ``HOST:PORT/DATABASE``."""
    host = parameters.get("host", parameters.get("hostaddr", "localhost"))
    return f"{host}:{parameters.get('port', '5432')}/{parameters.get('dbname', parameters.get('user', ''))}"
