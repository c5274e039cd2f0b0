from __future__ import annotations

import sys

import pytest

from twin_service.store.address import connection_parameters, is_embedded, place_of
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
    found = connection_parameters("postgresql://twin:a%40b%2F@db.plant:5433/state?sslmode=verify-full&sslrootcert=/ca.pem")
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
