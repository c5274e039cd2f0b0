"""``twinsplit twin tune`` reads recorded tasks from a running twin service over gRPC."""

from __future__ import annotations

import asyncio
from pathlib import Path

from click.testing import CliRunner, Result

from tests.integration.test_twin_replays import told
from tests.integration.test_twin_streams import running
from tests.unit.twin_service.made_up_twins import DIGEST, MANIFEST
from twin_service.cli import twin as twin_command
from twin_service.reader import reading
from twin_service.workload.replayed import Replayed
from twinsplit.errors import SettingsError
from twinsplit.model.manifest import parse_manifest
from twinsplit.transport.tls import TlsFiles


async def test_a_task_that_has_just_ended_is_read_with_its_model(tmp_path: Path) -> None:
    async with running(tmp_path) as twin:
        await told(twin)
        async with reading(twin.address, TlsFiles()) as reader:
            head, batch = [each async for each in reader.replay(DIGEST[:8], 10)]
            assert [each async for each in reader.replay("ff", 10)] == []
    assert (head.model_digest, head.records) == (DIGEST, ())
    assert parse_manifest(head.manifest_json) == MANIFEST
    task = Replayed.from_bytes(batch.records[0])
    assert (task.device_id, task.task_id) == ("cam", 1)
    assert task.conditions is not None
    assert task.conditions.goodput_bytes_per_s > 0.0


async def test_the_command_asks_a_running_twin_service(tmp_path: Path) -> None:
    def tune(address: str) -> Result:
        return CliRunner().invoke(twin_command, ["tune", "--accuracy", "0.9", "--twin", address])

    async with running(tmp_path) as twin:
        await told(twin)
        result = await asyncio.to_thread(tune, twin.address)
    assert isinstance(result.exception, SettingsError)
    assert "too few recorded tasks: 1, tuning takes 100" in str(result.exception)
