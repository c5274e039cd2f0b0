"""What surrounds an edge with an engine elsewhere: its twin, its certificates, its start and its settings."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.engine import opening
from edge.models import HeldModel
from edge.service import start_edge
from tests.integration.device_bench import until
from tests.integration.edge_engine.bench import (
    answers,
    output_of,
    plain,
    request,
    running,
    settings,
)
from tests.integration.edge_engine.other_server import OtherServer
from tests.integration.stopping import stopped_after
from tests.integration.test_access import Certificates
from tests.integration.test_edge_twin_link import FakeTwin, start_twin
from twinsplit.certificates.subject import Role
from twinsplit.errors import PeerError, SettingsError
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.transport.channel import open_channel
from twinsplit.transport.tail_stream import infer_call
from twinsplit.transport.tls import TlsFiles


@pytest.mark.slow
async def test_the_twin_is_told_the_tails_times_there_and_the_backlog_behind_the_edge(
    folder: Path, runtime: SegmentRuntime, tensors: list[NDArray[Any]], other: OtherServer
) -> None:
    twin = FakeTwin()
    server = await start_twin(twin)
    other.answer = other.slowly
    async with (
        stopped_after(server),
        running(folder, engine=f"oip://{other.address}", twin=server.address, report_threshold_s=1e-4) as edge,
    ):
        await until(lambda: len(twin.of_kind("hello")) > 0 and edge.link is not None and edge.link.is_attached)
        (model,) = twin.of_kind("hello")[0].hello.models
        assert len(model.tail_s) == len(other.SLEEPS_S)
        assert all(told_s > slept_s for told_s, slept_s in zip(model.tail_s, other.SLEEPS_S, strict=True))
        other.answer = other.never
        async with open_channel(edge.address) as channel:
            call = infer_call(channel)
            for number in range(1, 41):
                await call.write(request(runtime, number, 1, plain(runtime, tensors, 1)))
            await until(lambda: any(each.backlog.backlog.backlog_s > 0.0 for each in twin.of_kind("backlog")))
        assert max(each.backlog.queue_length for each in twin.of_kind("backlog")) > 4, (
            "those that wait at the edge, too"
        )


@pytest.mark.slow
async def test_edges_behind_an_edge_are_reached_by_tls_as_what_its_certificate_says(
    folder: Path,
    models: dict[str, HeldModel],
    runtime: SegmentRuntime,
    tensors: list[NDArray[Any]],
    tmp_path: Path,
) -> None:
    certificates = Certificates(tmp_path)
    behind, front = (certificates.of((Role.EDGE, name)) for name in ("behind", "front"))
    async with running(folder, models, **tls_settings(behind)) as engine:
        oips = f"oips://{engine.address}"
        async with running(folder, engine=oips, **tls_settings(front)) as edge:
            payload = plain(runtime, tensors, 2)
            found = await answers(edge, [request(runtime, 1, 2, payload)], certificates.of((Role.DEVICE, "cam")))
            np.testing.assert_allclose(output_of(found[1]), tensors[-1], atol=1e-5)


@pytest.mark.slow
async def test_a_back_end_that_comes_back_under_a_new_authority_is_reached_by_renewed_files(
    folder: Path,
    models: dict[str, HeldModel],
    runtime: SegmentRuntime,
    tensors: list[NDArray[Any]],
    tmp_path: Path,
) -> None:
    old = Certificates(tmp_path)
    behind, front = (old.of((Role.EDGE, name)) for name in ("behind", "front"))
    async with AsyncExitStack() as stack:
        first = await start_edge(settings(folder, **tls_settings(behind)), models=models)
        oips = f"oips://{first.address}"
        edge = await stack.enter_async_context(running(folder, engine=oips, **tls_settings(front)))
        await first.stop()
        await until(lambda: edge.executor.unready_reason is not None)
        new = Certificates(tmp_path)
        for name in ("behind", "front"):
            new.of((Role.EDGE, name))
        again = running(folder, models, listen=first.address, **tls_settings(behind))
        await stack.enter_async_context(again)
        await until(lambda: edge.executor.unready_reason is None)
        asked = [request(runtime, 1, 2, plain(runtime, tensors, 2))]
        found = await answers(edge, asked, new.of((Role.DEVICE, "cam")))
        np.testing.assert_allclose(output_of(found[1]), tensors[-1], atol=1e-5)


def tls_settings(files: TlsFiles) -> dict[str, object]:
    return {"tls_ca": files.ca, "tls_cert": files.cert, "tls_key": files.key}


@pytest.mark.slow
async def test_an_edge_whose_engine_does_not_come_up_ends_with_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "WAIT_S", 0.2)
    with pytest.raises(PeerError, match=r"has all 3 tails after 0\.2 s"):
        await start_edge(settings(folder, engine="oip://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"engine": "triton"}, "is no engine"),
        ({"engine": "oip://127.0.0.1"}, "HOST:PORT"),
        ({"engine": "oip://a:1,a:1"}, "names a server twice"),
        ({"engine": "oip://a:1", "batch_most": 2}, "--batch-most is for --engine local"),
        ({"engine": "oip://a:1", "emulate_slowdown": 2.0}, "--emulate-slowdown is for"),
        ({"engine": "oip://a:1", "profile": Path("profile.json")}, "--profile is for"),
        ({"engine": "oip://a:1", "threads": 2}, "--threads is for"),
        ({"engine": "oip://a:1", "provider": "cuda"}, "--provider is for"),
        ({"engine_in_flight": 8}, "--engine-in-flight is for --engine oip"),
        ({"engine": "oips://a:1"}, "needs --tls-ca"),
        ({"engine_metrics": ("http://a/metrics",)}, "--engine-metrics is for"),
        ({"engine": "oip://a:1", "engine_metrics": ("a/metrics",)}, "is no page"),
        ({"engine": "oip://a:1,b:1", "engine_metrics": ("http://a/metrics",)}, "2 servers and --engine-metrics 1"),
    ],
)
async def test_settings_that_do_not_go_together_are_refused(
    folder: Path, changed: dict[str, object], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        await start_edge(settings(folder, **changed))
