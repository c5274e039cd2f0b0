"""What an edge with an engine elsewhere is tried with: servers that are no edge."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.edge_engine.other_server import OtherServer
from twinsplit.model.runtime import SegmentRuntime


@pytest.fixture
async def other(runtime: SegmentRuntime) -> AsyncIterator[OtherServer]:
    server = OtherServer(runtime)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def second(runtime: SegmentRuntime) -> AsyncIterator[OtherServer]:
    server = OtherServer(runtime)
    await server.start()
    yield server
    await server.stop()
