"""A plan or a backlog update that arrives while a task runs changes that very task at its next epoch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.testbed.scenarios import SHIPPED_MODEL
from tests.integration.testbed_peers import (
    ScriptedTwin,
    Submitter,
    device_process,
    edge_connected,
    edge_process,
    plan_for,
    running,
    scripted_twin,
    submitting,
)
from twinsplit.model.manifest import Manifest, manifest_digest, read_manifest
from twinsplit.model.profile import Profile, save_profile
from twinsplit.model.runtime import PROVIDERS
from twinsplit.plan import Plan
from twinsplit.types import Decision

FIRST_SEGMENT_S, SEGMENT_S = 1.5, 0.1
"""The first segment is emulated to last so long that a message arrives well within it on a busy machine, too."""
SLOWDOWN = 100.0
BREAK_S = 0.5

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Stage:
    """A slow device with an edge and a twin that says what the test wants."""

    manifest: Manifest
    manifest_bytes: bytes
    edge_address: str
    twin: ScriptedTwin
    program: Submitter
    frame: bytes

    def plan(self, first_offload: int | None, **changes: Any) -> Plan:
        """Offload from epoch ``first_offload`` on; ``None``: never."""
        epochs = [] if first_offload is None else range(first_offload, self.manifest.held_segments)
        representation = next(i for i, entry in enumerate(self.manifest.cuts[1].representations) if entry.is_offered)
        decisions = dict.fromkeys(epochs, Decision.OFFLOAD_TENSOR)
        return plan_for(
            self.manifest, self.manifest_bytes, self.edge_address, decisions, representation=representation, **changes
        )

    async def start_task(self, task_id: int) -> None:
        """Submit a frame to the idle device and wait until its task is in service."""
        await self.program.send(self.frame)
        await self.twin.hear("start", task_id=task_id)


@asynccontextmanager
async def slow_device(folder: Path) -> AsyncIterator[Stage]:
    manifest, manifest_bytes = read_manifest(SHIPPED_MODEL)
    profile = folder / "profile.json"
    save_profile(
        Profile(
            model_digest=manifest_digest(manifest_bytes),
            provider=PROVIDERS["cpu"],
            threads=1,
            machine="made up",
            repeats=1,
            segment_s=(FIRST_SEGMENT_S / SLOWDOWN, *(SEGMENT_S / SLOWDOWN,) * (manifest.held_segments - 1)),
            exit_s=(1e-5,) * len(manifest.exits),
            encode_s={},
        ),
        profile,
    )
    frame = next((SHIPPED_MODEL / "frames").glob("*.jpg")).read_bytes()
    edge, edge_address = edge_process(SHIPPED_MODEL, folder)
    async with scripted_twin() as (twin, twin_address):
        device, device_address = device_process(
            SHIPPED_MODEL,
            twin_address,
            edge_address,
            folder,
            f"--profile={profile}",
            f"--emulate-slowdown={SLOWDOWN}",
        )
        async with running(edge, device), submitting(device_address) as program:
            await twin.hear("hello")
            await edge_connected(device)
            yield Stage(manifest, manifest_bytes, edge_address, twin, program, frame)


async def test_a_plan_and_updates_that_arrive_within_a_segment_count_at_the_end_of_it(tmp_path: Path) -> None:
    async with slow_device(tmp_path) as stage:
        await stage.twin.send_plan(stage.plan(None))
        await stage.start_task(1)
        newer = await stage.twin.send_plan(stage.plan(1))
        task = await stage.program.answer()
        assert (task["outcome"], task["stop_epoch"], task["plan_id"]) == ("edge", 1, newer)

        by_backlog = stage.plan(1, band_edges_s=(BREAK_S,), bands=[0])
        await stage.twin.send_plan(by_backlog, backlog_s=60.0)
        await stage.start_task(2)
        await stage.twin.send_backlog(0.0)
        task = await stage.program.answer()
        assert (task["outcome"], task["stop_epoch"]) == ("edge", 1)

        await stage.twin.send_plan(by_backlog, backlog_s=0.0)
        await stage.start_task(3)
        await stage.twin.send_backlog(60.0)
        task = await stage.program.answer()
        assert (task["outcome"], task["stop_epoch"]) == ("device", stage.manifest.held_segments)
