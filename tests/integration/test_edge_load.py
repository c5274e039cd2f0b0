"""The load generator against a real edge: every arrival has one end, and the load is the one asked for."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge.load import LoadGenerator, LoadSummary
from edge.load_pattern import LoadShape, Pattern, arrivals_s
from edge.load_payloads import load_tails
from edge.models import HeldModel, load_models
from edge.service import EdgeService, start_edge
from edge.settings import EdgeSettings
from tests.integration.device_bench import until
from tests.integration.stopping import stopped_after
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.clock import SystemClock
from twinsplit.errors import PeerError, SettingsError, SourceError, WrongDigestError
from twinsplit.transport.channel import open_channel

SEGMENT_S = 0.003


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, HeldModel]:
    return {
        digest: HeldModel(m.manifest, digest, m.runtime, (SEGMENT_S / 2,) * 3, m.decode_s, 2.0)
        for digest, m in load_models(folder, clock=SystemClock()).items()
    }


def settings(**changed: object) -> EdgeSettings:
    given: dict[str, Any] = {"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0", "models": "unused", "drain_s": 0.0}
    return EdgeSettings(**given | changed)


@pytest.fixture
async def edge(models: dict[str, HeldModel]) -> AsyncIterator[EdgeService]:
    service = await start_edge(settings(queue_capacity=8), models=models)
    yield service
    await service.stop()


def assert_adds_up(summary: LoadSummary) -> None:
    ends = summary.answered + summary.refused_total + summary.lost
    assert summary.sent == ends
    assert summary.pending == 0
    assert summary.arrivals == summary.sent + summary.unsent


@pytest.mark.slow
async def test_the_offered_load_keeps_the_edge_busy_for_its_share(edge: EdgeService, folder: Path) -> None:
    shape = LoadShape(Pattern.POISSON, offered_load=0.5)
    async with open_channel(edge.address) as channel:
        generator = LoadGenerator(channel, edge.address, load_tails(folder), shape, seed=3)
        seen: list[int] = []
        summary = await generator.run(1.5, progress=lambda s: seen.append(s.arrivals), progress_s=0.2)
    assert_adds_up(summary)
    # Emulated, and so never less than that; a busy machine makes it more.
    assert summary.assumed_service_s > 0.95 * 3 * SEGMENT_S
    assert summary.mean_service_s is not None
    assert summary.mean_service_s > 0.95 * 3 * SEGMENT_S
    assert summary.answered > 0
    due = itertools.takewhile(lambda at_s: at_s <= 1.5, arrivals_s(shape, summary.assumed_service_s, 3))
    assert summary.arrivals == sum(1 for _ in due)
    assert summary.elapsed_s >= 1.5
    assert summary.offered_load == pytest.approx(summary.arrivals * summary.assumed_service_s / summary.elapsed_s)
    assert seen == sorted(seen)
    assert seen
    assert summary.as_dict()["offered_load"] == summary.offered_load


@pytest.mark.slow
async def test_bursts_above_capacity_are_refused_and_counted_by_name(edge: EdgeService, folder: Path) -> None:
    shape = LoadShape(Pattern.ONOFF, offered_load=2.0, burst_s=0.2, peak_load=4.0, burst_variation=0.0)
    async with open_channel(edge.address) as channel:
        tails = load_tails(folder, cut=1)
        generator = LoadGenerator(channel, edge.address, tails, shape, seed=1, service_s=2 * SEGMENT_S)
        summary = await generator.run(1.0)
    assert_adds_up(summary)
    assert summary.refused["EDGE_FULL"] > 0
    assert summary.refused["EDGE_FULL"] == edge.servicer.refused_tails
    assert summary.latest_backlog_s >= 0.0


@pytest.mark.slow
async def test_the_same_seed_sends_the_same_number_of_tails(edge: EdgeService, folder: Path) -> None:
    shape = LoadShape(Pattern.POISSON, offered_load=0.4)
    sent = []
    for _ in range(2):
        async with open_channel(edge.address) as channel:
            tails = load_tails(folder, count=2)
            summary = await LoadGenerator(channel, edge.address, tails, shape, 5, service_s=0.01).run(0.3)
            sent.append(summary.arrivals)
    assert sent[0] == sent[1] > 0


@pytest.mark.slow
async def test_an_edge_that_dies_is_counted_and_the_run_goes_on(models: dict[str, HeldModel], folder: Path) -> None:
    service = await start_edge(settings(), models=models)
    shape = LoadShape(Pattern.POISSON, offered_load=0.5)
    async with stopped_after(service), open_channel(service.address) as channel:
        generator = LoadGenerator(channel, service.address, load_tails(folder, count=1), shape, 1, service_s=0.005)
        run = asyncio.ensure_future(generator.run())
        try:
            await until(lambda: generator.summary.answered > 0)
            await service.stop()
            missed = generator.summary.unsent
            await until(lambda: generator.summary.unsent > missed)
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
    assert_adds_up(generator.summary)


async def test_a_load_of_another_model_is_told_so_before_the_run(edge: EdgeService, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", seed=9)
    async with open_channel(edge.address) as channel:
        generator = LoadGenerator(channel, edge.address, load_tails(other, count=1), LoadShape(), 0)
        with pytest.raises(WrongDigestError, match="copy the same model folder"):
            await generator.run(1.0)


async def test_an_edge_that_is_not_there_is_told_with_its_address(folder: Path) -> None:
    async with open_channel("127.0.0.1:1") as channel:
        generator = LoadGenerator(channel, "127.0.0.1:1", load_tails(folder, count=1), LoadShape(), 0)
        with pytest.raises(PeerError, match=r"127\.0\.0\.1:1"):
            await generator.run(1.0)


def test_pictures_of_a_folder_become_payloads_in_the_smallest_representation(folder: Path, tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (64, 48), (number * 40, 90, 30)).save(tmp_path / f"{number}.png")
    tails = load_tails(folder, frames=tmp_path, count=2)
    assert len(tails.payloads) == 2
    assert tails.cut == 0
    named = load_tails(folder, frames=tmp_path, representation="jpeg90", count=3)
    assert {payload.header.representation for payload in named.payloads} == {"jpeg"}
    inner = load_tails(folder, frames=tmp_path, cut=2, representation="uint8+zstd")
    assert inner.payloads[0].header.shape == (1, 8, 4, 4)


def test_frames_of_a_network_that_takes_tensors_are_tensors(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"preprocessing": {"kind": "none"}}))
    tensor = np.full(manifest["cuts"][0]["tensor"]["shape"], 0.25, dtype=np.float32)
    frames = tmp_path / "frames"
    frames.mkdir()
    np.save(frames / "0.npy", tensor)
    (payload,) = load_tails(folder, frames=frames, representation="float32").payloads
    assert bytes(payload.data) == tensor.tobytes()
    with pytest.raises(SettingsError, match="jpeg90: cut 0 of tiny offers"):
        load_tails(folder, frames=frames, representation="jpeg90")


def test_a_cut_representation_or_folder_that_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--cut 3: tiny has tails after cuts 0\.\.2"):
        load_tails(folder, cut=3)
    with pytest.raises(SettingsError, match="offers float32"):
        load_tails(folder, cut=1, representation="jpeg90")
    with pytest.raises(SourceError, match="holds no frames"):
        load_tails(folder, frames=tmp_path)
    with pytest.raises(SourceError, match="no such folder"):
        load_tails(folder, frames=tmp_path / "none")
