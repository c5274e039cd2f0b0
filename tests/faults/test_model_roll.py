"""A model goes from version 1 to 2 while tasks run: both sides agree on digests, and no answer is made of both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.integration.device_bench import (
    DeviceBench,
    expected_labels,
    running_device,
    running_edge,
    until,
    write_frames,
    write_network,
)
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.types import Decision, Outcome, Reason, TaskRecord

pytestmark = pytest.mark.slow

FRAMES = 6
PATIENT = {"answer_timeout_s": 60.0, "drain_s": 60.0}
"""No task ends on the device because the machine is busy with other work."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 and 2 of one network, of the same shapes and with other weights."""
    folder = tmp_path_factory.mktemp("models") / "garments"
    write_network(folder / "1")
    write_tiny_model(folder / "2", seed=7)
    manifest = json.loads((folder / "2/manifest.json").read_text())
    (folder / "2/manifest.json").write_text(json.dumps(manifest | {"version": 2}))
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_frames(tmp_path_factory.mktemp("frames"), FRAMES).iterdir())


def offload_at_1(epoch: int, *_: int) -> Decision:
    return Decision.OFFLOAD_TENSOR if epoch == 1 else Decision.CONTINUE


async def answered_by(bench: DeviceBench, edge: str, frames: Sequence[Path], plan_id: int = 1) -> list[TaskRecord]:
    bench.plan(offload_at_1, edge, plan_id=plan_id, representation=0)
    await bench.edge_is("closed")
    count = len(bench.records)
    await bench.submit(frames)
    return (await bench.ended(count + len(frames)))[count:]


async def test_devices_of_both_versions_are_answered_each_by_its_own(models: Path, frames: list[Path]) -> None:
    labels = {version: expected_labels(models / str(version), frames[0].parent) for version in (1, 2)}
    assert labels[1] != labels[2], "the versions can be told apart"
    async with (
        running_edge(models.parent) as edge,
        running_device(models / "1", id="old", **PATIENT) as old,
        running_device(models / "2", id="new", **PATIENT) as new,
    ):
        assert old.digest != new.digest
        for _ in range(2):
            for bench, version in ((old, 1), (new, 2)):
                records = await answered_by(bench, edge.address, frames, plan_id=len(bench.records) + 1)
                assert {record.outcome for record in records} == {Outcome.EDGE}
                assert {record.frame: record.label for record in records} == labels[version]


async def test_a_device_that_is_rolled_first_finishes_by_itself_until_the_edge_has_its_model(
    models: Path, frames: list[Path]
) -> None:
    labels = {version: expected_labels(models / str(version), frames[0].parent) for version in (1, 2)}
    async with running_edge(models / "1") as edge:
        async with running_device(models / "1", **PATIENT) as old:
            await answered_by(old, edge.address, frames[:3])
            # Rolled while tasks run: what was accepted is finished by the old version.
            await old.submit(frames[3:])
        assert {record.frame: record.label for record in old.records} == labels[1]
        assert old.device.summary()["entered"] == len(old.records) == FRAMES
        async with running_device(models / "2", **PATIENT) as new:
            new.plan(offload_at_1, edge.address, representation=0)
            await new.submit(frames)
            refused = list(await new.ended(FRAMES))
            assert {record.outcome for record in refused} == {Outcome.DEVICE}
            assert refused[0].reason is Reason.EDGE_REFUSED
            assert {record.frame: record.label for record in refused} == labels[2]
            async with running_edge(models.parent) as rolled:
                records = await answered_by(new, rolled.address, frames, plan_id=2)
                assert {record.frame: record.label for record in records} == labels[2]
                await until(lambda: new.device.status()["open"] == 0)
            assert {record.outcome for record in records} == {Outcome.EDGE}
