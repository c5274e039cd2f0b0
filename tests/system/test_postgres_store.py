"""The store in PostgreSQL, on Debian's server: the contract of every store, what replicas do to each other, bad input."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.store.contract import StoreContract, Time
from tests.system.postgres_server import PostgresServer, postgres
from twin_service.store.interface import Bounds
from twin_service.store.postgres import PostgresStore

pytestmark = pytest.mark.needs("postgresql")

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres() as server:
        yield server


@dataclass
class Database:
    server: PostgresServer
    name: str

    @property
    def address(self) -> str:
        return self.server.address(self.name)

    def open(self, bounds: Bounds, time: Time) -> PostgresStore:
        return PostgresStore(self.address, bounds, unix_s=lambda: time.unix_s)

    def damage_replay(self, task_id: int) -> None:
        self.run("UPDATE replay SET bytes = '\\x00ff' WHERE id = %s", task_id + 1)

    def set_version(self, version: int) -> None:
        self.run("UPDATE version SET number = %s", version)

    def run(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        place = "?options=-csearch_path%3Dtwinsplit"
        return self.server.run(statement, *values, database=self.name + place)


@pytest.fixture
def place(server: PostgresServer) -> Database:
    name = f"state_{next(_NUMBERS)}"
    server.new_database(name)
    return Database(server, name)


class TestPostgresStore(StoreContract):
    @pytest.fixture
    def place(self, server: PostgresServer) -> Database:
        name = f"state_{next(_NUMBERS)}"
        server.new_database(name)
        return Database(server, name)
