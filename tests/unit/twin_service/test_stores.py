"""The memory of tests and simulator, and the embedded database; that of replicas is in tests/system."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.store.contract import MemoryContract, StoreContract, Time
from twin_service.memory import VolatileMemory
from twin_service.store.interface import Bounds
from twin_service.store.sqlite import FILE_NAME, SqliteStore


@dataclass
class Folder:
    path: Path

    def open(self, bounds: Bounds, time: Time) -> SqliteStore:
        return SqliteStore(self.path, bounds, unix_s=lambda: time.unix_s)

    def damage_replay(self, task_id: int) -> None:
        self._run(f"UPDATE replay SET bytes = x'00ff' WHERE id = {task_id + 1}")

    def set_version(self, version: int) -> None:
        self._run(f"PRAGMA user_version = {version}")

    def _run(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path / FILE_NAME)) as database:
            database.execute(statement)
            database.commit()


class TestVolatileMemory(MemoryContract):
    @pytest.fixture
    def store(self) -> VolatileMemory:
        return VolatileMemory()


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Folder:
        return Folder(tmp_path)
