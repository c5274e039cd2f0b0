from __future__ import annotations

import sys
from pathlib import Path

import pytest

from twin_service.settings import TwinSettings
from twin_service.store.address import connection_parameters, files_of, is_embedded, place_of
from twin_service.unit import twin_needs
from twinsplit.errors import SettingsError

SECRET = "pa55w0rd"


def test_sqlite_is_the_one_in_the_state_folder_and_postgresql_is_shared() -> None:
    assert is_embedded("sqlite")
    assert not is_embedded(f"postgresql://u:{SECRET}@db/twinsplit")
    assert not is_embedded("postgres://db")


@pytest.mark.parametrize(
    ("store", "named"),
    [
        (f"mysql://root:{SECRET}@db/x", "no store has the scheme 'mysql'"),
        ("sqlite3", "give sqlite, or postgresql://"),
        ("", "give sqlite, or postgresql://"),
        (f"{SECRET}!://x", "is no store"),
    ],
)
def test_what_is_no_store_is_named_with_those_there_are(store: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named) as refused:
        is_embedded(store)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("store", "named"),
    [
        (f"postgresql://u:{SECRET}@x@127.0.0.1/x", "%40"),
        (f"postgresql://u:{SECRET}/x@127.0.0.1/x", "%2F"),
        (f"postgresql://u:x?{SECRET}@127.0.0.1/x", "%3F"),
        (f"postgresql://u:x#{SECRET}@127.0.0.1/x", "%23"),
        (f"postgresql://u:{SECRET}@127.0.0.1:port/x", "port"),
        (f"postgresql://u:{SECRET}@127.0.0.1:0/x", "port"),
        (f"postgresql://u:{SECRET}/x", "port"),
        (f"postgresql://u:{SECRET}@[::1/x", "form"),
        (f"postgresql://u:{SECRET}@127.0.0.1/x?sslmod=require", "'sslmod' is no parameter"),
        (f"postgresql://u:{SECRET}@127.0.0.1/x?sslmode=always", "verify-full"),
        (f"postgresql://u:%zz{SECRET}@127.0.0.1/x", "form"),
    ],
)
def test_an_address_that_is_none_is_named_without_repeating_it(store: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named) as refused:
        connection_parameters(store)
    assert SECRET not in str(refused.value)


def test_a_good_address_is_taken_apart() -> None:
    found = connection_parameters(
        "postgresql://twin:a%40b%2F@db.plant:5433/state?sslmode=verify-full&sslrootcert=/ca.pem"
    )
    assert found == {
        "user": "twin", "password": "a@b/", "host": "db.plant", "port": "5433", "dbname": "state",
        "sslmode": "verify-full", "sslrootcert": "/ca.pem",
    }  # fmt: skip
    assert place_of(found) == "db.plant:5433/state"
    assert place_of(connection_parameters("postgresql://twin@a:1,b:2/t")) == "a,b:1,2/t"


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError, match=r"pip install 'twinsplit\[postgres\]'"):
        connection_parameters("postgresql://db/x")


def test_files_in_an_address_are_what_a_unit_lets_the_service_read() -> None:
    address = "postgresql://db/x?sslmode=verify-full&sslrootcert=/etc/db/ca.pem&passfile=/etc/db/pass&sslcert=rel.pem"
    found = {"store (sslrootcert)": Path("/etc/db/ca.pem"), "store (passfile)": Path("/etc/db/pass")}
    assert files_of(address) == found
    assert twin_needs(TwinSettings(store=address, rule="/etc/own.py:Rule")).read == {
        "rule": Path("/etc/own.py"),
        **found,
    }
    assert files_of("sqlite") == files_of("postgresql://[::1/x?sslkey=/x") == {}
