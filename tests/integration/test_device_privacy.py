"""With ``tensors-only`` no input leaves the device, whatever fails: every byte that it sends is looked at."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device.task import Offload
from device.thumbnails import small_jpeg
from tests.integration.device_bench import running_device, running_edge, until, write_frames, write_network
from tests.integration.test_device_twin_link import SpokenTwin, spoken_twin, wire_plan
from tests.onnx_networks import he, parsed, saved
from tests.unit.device.made_up_device import offload_at
from twinsplit.errors import BadMessageError
from twinsplit.model.build import CutSettings, build_model
from twinsplit.model.manifest import Preprocessing
from twinsplit.model.payload import encode_payload
from twinsplit.model.preprocessing import prepare
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.rpc.v1 import twin_pb2
from twinsplit.tensor import EncodedTensor, TensorHeader
from twinsplit.types import Decision, Outcome, Payload, Reason

pytestmark = pytest.mark.slow

WINDOW_BYTES = 24
"""So many bytes in a row that belong to an input are no accident."""


FAULTS = {Reason.EDGE_LOST, Reason.EDGE_REFUSED, Reason.EDGE_TOO_LATE}


class RecordingProxy:
    """Passes TCP on to an edge or twin and keeps every byte that the device sends."""

    def __init__(self, target_port: int) -> None:
        self.sent = bytearray()
        self._target_port = target_port
        self._writers: list[asyncio.StreamWriter] = []

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer_reader, peer_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers += [writer, peer_writer]

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_kept: bool) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    if is_kept:
                        self.sent += data
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(copy(reader, peer_writer, is_kept=True), copy(peer_reader, writer, is_kept=False))

    def cut_connections(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


@asynccontextmanager
async def recording_proxy(target: str) -> AsyncIterator[tuple[RecordingProxy, str]]:
    proxy = RecordingProxy(int(target.rpartition(":")[2]))
    server = await asyncio.start_server(proxy.pass_on, "127.0.0.1", 0)
    try:
        yield proxy, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        proxy.cut_connections()
        await asyncio.sleep(0.05)


def traces_of_inputs(model: Path, frames: list[Path]) -> list[bytes]:
    """Every form in which an input may be sent: file, picture, thumbnail, tensor and all its representations, and the
    same of tensors that show it."""
    runtime = SegmentRuntime.load(model)
    manifest = runtime.manifest
    forms: list[bytes] = []
    for path in frames:
        prepared = prepare(path.read_bytes(), manifest)
        assert prepared.picture is not None
        forms += [path.read_bytes(), prepared.picture.tobytes(), prepared.tensor.tobytes()]
        forms.append(small_jpeg(prepared.picture) or b"")
        tensor = prepared.tensor
        for cut in range(manifest.first_sent_cut(is_tensors_only=True)):
            for index in range(len(manifest.cuts[cut].representations)):
                encoded = encode_payload(manifest, cut, index, tensor, prepared.picture)
                forms.append(bytes(encoded.data))
            tensor = runtime.run_segment(cut, tensor)
    return forms


def found_in(sent: bytes, forms: list[bytes]) -> bool:
    """Whether a window of any form was sent. File headers, which all files share, are left out."""
    return any(
        form[at : at + WINDOW_BYTES] in sent
        for form in forms
        for at in range(64, len(form) - WINDOW_BYTES, WINDOW_BYTES // 2)
        if len(set(form[at : at + WINDOW_BYTES])) > 6
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_frames(tmp_path_factory.mktemp("frames"), 12).iterdir())


@pytest.mark.parametrize("decision", [Decision.OFFLOAD_INPUT, Decision.OFFLOAD_TENSOR])
async def test_where_the_input_may_leave_it_is_found_in_what_was_sent(model, frames, decision):
    """The look itself works."""
    cut = 0 if decision is Decision.OFFLOAD_TENSOR else 1
    async with (
        running_edge(model) as edge,
        recording_proxy(edge.address) as (proxy, address),
        running_device(model) as bench,
    ):
        bench.plan(offload_at(cut, decision), address, representation=0)
        await bench.submit(frames)
        await bench.ended(len(frames))
    assert found_in(bytes(proxy.sent), traces_of_inputs(model, frames))


async def test_with_tensors_only_no_byte_of_it_is_sent_whatever_fails(model, frames):
    async with (
        running_edge(model, queue_capacity=1, emulate_slowdown=500.0) as edge,
        recording_proxy(edge.address) as (proxy, address),
        running_device(
            model, payloads="tensors-only", edge=address, answer_timeout_s=0.2, kept_tensors=3, deadline_s=1.0
        ) as bench,
    ):
        for cut, decision in ((1, Decision.OFFLOAD_INPUT), (0, Decision.OFFLOAD_TENSOR)):
            with pytest.raises(BadMessageError, match="tensors only"):
                bench.plan(offload_at(cut, decision), address, plan_id=99)
        bench.plan(offload_at(1), address, plan_id=1, representation=0)
        await bench.edge_is("closed")
        reasons: set[Reason] = set()
        for number in range(2, 60):
            await bench.submit(frames[:4])
            if number % 3 == 0:
                proxy.cut_connections()
                await until(lambda: bench.device.status()["edge"]["breaker"] != "open")
            if number % 3 == 1:  # without a lease the contingency decides
                bench.plan(offload_at(2), address, plan_id=number, lease_s=0.01, contingency_cut=1)
            if number % 3 == 2:
                bench.plan(offload_at(1), address, plan_id=number, representation=0)
            records = await bench.ended(4 * (number - 1))
            reasons = {r.reason for r in records}
            if reasons >= {Reason.LEASE_ENDED, Reason.OFFLOAD_PAYS} and reasons & FAULTS and len(proxy.sent) > 10_000:
                break
    assert reasons & FAULTS, "things failed"
    assert Reason.LEASE_ENDED in reasons
    assert {r.payload for r in records} == {Payload.TENSOR, None}
    assert len(proxy.sent) > 10_000, "tensors were sent, of 1,024 bytes each"
    assert not found_in(bytes(proxy.sent), traces_of_inputs(model, frames))


@pytest.fixture(scope="module")
def rearranging_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that begins by turning its input round, and is cut there."""
    folder = tmp_path_factory.mktemp("rearranging")
    text = """
    g (float[1,16,16,3] x) => (float[1,4] y) {
        t = Transpose<perm=[0,3,1,2]>(x)
        c = Conv<strides=[2,2]>(t, w)
        m = GlobalAveragePool(c)
        y = Flatten(m)
    }
    """
    whole = saved(parsed(text, {"w": he(4, 3, 3, 3)}), folder / "whole.onnx")
    pictures = Preprocessing(kind="image", layout="nhwc")
    build_model(whole, folder / "1", cutting=CutSettings(cuts=["t", "c"]), preprocessing=pictures)
    return folder / "1"


async def test_a_tensor_that_shows_the_input_is_found_in_what_was_sent(rearranging_model, frames):
    """The look itself works there, too."""
    async with (
        running_edge(rearranging_model) as edge,
        recording_proxy(edge.address) as (proxy, address),
        running_device(rearranging_model) as bench,
    ):
        bench.plan(offload_at(1), address, representation=0)
        await bench.submit(frames)
        await bench.ended(len(frames))
    assert found_in(bytes(proxy.sent), traces_of_inputs(rearranging_model, frames))


async def test_with_tensors_only_no_tensor_that_shows_the_input_is_sent(rearranging_model, frames):
    async with (
        running_edge(rearranging_model) as edge,
        recording_proxy(edge.address) as (proxy, address),
        running_device(rearranging_model, payloads="tensors-only", edge=address, kept_tensors=len(frames)) as bench,
    ):
        for cut, contingency_cut in ((1, None), (2, 1)):
            with pytest.raises(BadMessageError, match="tensors only"):
                bench.plan(offload_at(cut), address, plan_id=99, representation=0, contingency_cut=contingency_cut)
        bench.plan(offload_at(2), address, representation=0)
        await bench.edge_is("closed")
        await bench.submit(frames)
        records = await bench.ended(len(frames))
    assert {record.payload for record in records} == {Payload.TENSOR}
    assert not found_in(bytes(proxy.sent), traces_of_inputs(rearranging_model, frames))


async def test_a_thumbnail_is_found_in_what_was_sent_to_the_twin(model, frames):
    """The look itself works there, too."""
    async with (
        spoken_twin() as twin,
        recording_proxy(twin.address) as (proxy, address),
        running_device(model, twin=address, thumbnails=True) as bench,
    ):
        await twin.hears("heartbeat")
        await bench.submit(frames)
        await until(lambda: len(reported(twin)) == len(frames))
    assert any(task.thumbnail_jpeg for task in reported(twin))
    assert found_in(bytes(proxy.sent), traces_of_inputs(model, frames))


async def test_with_tensors_only_the_twin_hears_of_every_task_and_gets_no_input(model, frames):
    async with (
        running_edge(model) as edge,
        recording_proxy(edge.address) as (to_edge, edge_address),
        spoken_twin(needs_manifest=True) as twin,
        recording_proxy(twin.address) as (to_twin, twin_address),
        running_device(model, payloads="tensors-only", twin=twin_address) as bench,
    ):
        await twin.hears("manifest")
        await twin.say(plan=wire_plan(bench, offload_at(1), edge_address=edge_address, representation=0))
        await bench.edge_is("closed")
        await bench.submit(frames[:6])
        await until(lambda: len(reported(twin)) == 6)
        to_twin.cut_connections()
        await twin.hears("hello", 2)
        await edge.stop()
        to_edge.cut_connections()
        await bench.submit(frames[6:])
        records = await bench.ended(len(frames))
        # This twin confirms nothing, so that the first ones are told again.
        await until(lambda: {task.task_id for task in reported(twin)} == {record.task_id for record in records})
    assert twin_pb2.PAYLOAD_TENSOR in {task.payload for task in reported(twin)}
    assert {record.outcome for record in records} == {Outcome.EDGE, Outcome.DEVICE}
    inputs = traces_of_inputs(model, frames)
    assert not found_in(bytes(to_twin.sent), inputs)
    assert not found_in(bytes(to_edge.sent), inputs)


def reported(twin: SpokenTwin) -> list[twin_pb2.EndedTask]:
    """What the twin was told of tasks that ended."""
    return [task for report in twin.all("task") for task in report.ended]


async def test_the_last_lock_is_in_the_uplink(model):
    async with running_device(model, payloads="tensors-only") as bench:
        offload = Offload(Payload.INPUT, 0, 0, "127.0.0.1:9")
        encoded = EncodedTensor(TensorHeader((1,), "float32", "float32"), b"1234")
        with pytest.raises(AssertionError, match="sends tensors only"):
            bench.device.shell.uplink.send(1, offload, encoded)


def test_the_look_tells_inputs_from_boundary_tensors(model: Path, frames: list[Path]) -> None:
    rng: Any = np.random.default_rng(3)
    other = rng.normal(size=4096).astype(np.float32).tobytes()
    assert not found_in(other, traces_of_inputs(model, frames))
