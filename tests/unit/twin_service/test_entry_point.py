"""What ``twinsplit twin serve`` sets for its process before it serves."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from twin_service import service
from twin_service.cli import twin
from twinsplit.garbage import YOUNG_OBJECTS


@pytest.fixture(autouse=True)
def own_thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_it_looks_for_garbage_rarely_but_it_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []

    async def serve(_settings: object) -> None:
        seen.append(gc.get_threshold())

    monkeypatch.setattr(service, "serve", serve)
    before = gc.get_threshold()
    result = CliRunner().invoke(twin, ["serve", "--state", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert seen == [(YOUNG_OBJECTS, *before[1:])]
    assert gc.isenabled()
