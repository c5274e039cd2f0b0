"""The edge's stream to the twin over real gRPC: hello, reports, heartbeats, refusals, reconnection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from edge.models import HeldModel, load_models
from edge.service import EdgeService, start_edge
from edge.settings import EdgeSettings
from tests.integration.device_bench import until
from tests.integration.gate import Gate
from tests.integration.stopping import stopped_after
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.clock import SystemClock
from twinsplit.errors import BadMessageError, RefusedError, StaleWriteError
from twinsplit.model.payload import encode_payload
from twinsplit.model.profile import made_up_input
from twinsplit.reckoning import predicted_backlog_s
from twinsplit.rpc.v1 import twin_pb2, twin_pb2_grpc
from twinsplit.transport.channel import open_channel
from twinsplit.transport.convert import backlog_from_wire
from twinsplit.transport.server import RunningServer, start_server
from twinsplit.transport.status import error_to_wire
from twinsplit.transport.tail_stream import InferRequest, infer_call

SEGMENT_S = 0.04


class FakeTwin(twin_pb2_grpc.TwinServiceServicer):
    """Welcomes edges and keeps what they say."""

    def __init__(self) -> None:
        self.messages: list[tuple[float, twin_pb2.AttachEdgeRequest]] = []
        self.streams = 0
        self.open_streams = 0
        self.heartbeat_s = 60.0
        self.refusal: RefusedError | None = None
        self.answers_heartbeats = False
        self.ceiling_s: float | None = None
        """Told right before the welcome, so that whoever is welcomed knows it."""

    async def AttachEdge(self, _requests: Any, context: Any) -> None:  # noqa: N802 - named by the protocol
        self.streams += 1
        self.open_streams += 1
        try:
            await self._listen(context)
        finally:
            self.open_streams -= 1

    async def _listen(self, context: Any) -> None:
        while isinstance(message := await context.read(), twin_pb2.AttachEdgeRequest):
            self.messages.append((SystemClock().monotonic_s(), message))
            if message.HasField("heartbeat") and self.answers_heartbeats:
                await context.write(self._answer())
            if message.HasField("hello"):
                if self.ceiling_s is not None:
                    interest = twin_pb2.BacklogInterest(ceiling_s=self.ceiling_s)
                    await context.write(twin_pb2.AttachEdgeResponse(interest=interest))
                await context.write(self._answer())

    def _answer(self) -> twin_pb2.AttachEdgeResponse:
        clock = twin_pb2.ClockEcho(sent_s=123.0)
        if self.refusal is not None:
            return twin_pb2.AttachEdgeResponse(clock=clock, error=error_to_wire(self.refusal))
        return twin_pb2.AttachEdgeResponse(clock=clock, welcome=twin_pb2.Welcome(heartbeat_s=self.heartbeat_s))

    def of_kind(self, kind: str) -> list[twin_pb2.AttachEdgeRequest]:
        return [message for _, message in self.messages if message.WhichOneof("kind") == kind]


async def start_twin(twin: FakeTwin, listen: str = "127.0.0.1:0") -> RunningServer:
    def register(server: grpc.aio.Server) -> None:
        twin_pb2_grpc.add_TwinServiceServicer_to_server(twin, server)

    return await start_server(register, listen)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, HeldModel]:
    loaded = load_models(write_tiny_model(tmp_path_factory.mktemp("tiny")), clock=SystemClock())
    return {
        digest: HeldModel(m.manifest, digest, m.runtime, (SEGMENT_S / 2,) * 3, m.decode_s, 2.0)
        for digest, m in loaded.items()
    }


@asynccontextmanager
async def attached_edge(
    fake: FakeTwin, models: dict[str, HeldModel], **changed: object
) -> AsyncIterator[tuple[EdgeService, RunningServer]]:
    server = await start_twin(fake)
    given: dict[str, Any] = {
        "id": "edge-1",
        "listen": "127.0.0.1:0",
        "http_listen": "127.0.0.1:0",
        "models": Path("unused"),
        "twin": server.address,
        "drain_s": 0.0,
    }
    async with (
        stopped_after(server),
        stopped_after(await start_edge(EdgeSettings(**given | changed), models=models)) as edge,
    ):
        yield edge, server


async def send_tails(edge: EdgeService, models: dict[str, HeldModel], count: int, device_id: str = "") -> None:
    (model,) = models.values()
    payload = encode_payload(model.manifest, 0, 0, made_up_input(model.manifest).tensor)
    async with open_channel(edge.address) as channel:
        call = infer_call(channel, device_id=device_id)
        for request_id in range(1, count + 1):
            await call.write(InferRequest(request_id, model.digest, 0, None, False, payload))
        for _ in range(count):
            await asyncio.wait_for(call.read(), 20.0)


async def test_the_first_message_is_a_hello_with_models_address_and_backlog(models: dict[str, HeldModel]) -> None:
    twin = FakeTwin()
    async with attached_edge(twin, models, advertise="edge.example:7100") as (edge, _):
        await until(lambda: edge.link is not None and edge.link.is_attached)
        first = twin.messages[0][1]
    (model,) = models.values()
    assert first.hello.edge_id == "edge-1"
    assert first.hello.advertise_address == "edge.example:7100"
    assert first.hello.models[0].model_digest.hex() == model.digest
    assert list(first.hello.models[0].tail_s) == pytest.approx(model.tail_s)
    assert first.hello.report_threshold_s == pytest.approx(0.1)
    assert first.hello.backlog.backlog.backlog_s == 0.0
    assert first.clock.sent_s > 0.0


async def test_the_address_it_listens_on_is_advertised_with_its_real_port(models: dict[str, HeldModel]) -> None:
    twin = FakeTwin()
    async with attached_edge(twin, models) as (edge, _):
        await until(lambda: bool(twin.messages))
        assert twin.messages[0][1].hello.advertise_address == edge.address


async def test_an_idle_edge_sends_nothing_between_heartbeats(models: dict[str, HeldModel]) -> None:
    twin = FakeTwin()
    twin.heartbeat_s = 0.1
    async with attached_edge(twin, models) as (edge, _):
        await until(lambda: len(twin.of_kind("heartbeat")) >= 3)
        assert edge.link is not None
        sent = edge.signalling.by_kind()
    assert twin.of_kind("backlog") == []
    assert set(sent) == {"hello", "heartbeat"}
    assert sent["hello"].messages == 1
    assert sent["hello"].bytes == len(twin.messages[0][1].SerializeToString())
    heartbeat = twin.of_kind("heartbeat")[1]
    assert heartbeat.clock.echo_sent_s == 123.0
    assert heartbeat.clock.echo_received_s > 0.0


@pytest.mark.slow
async def test_a_burst_is_reported_with_few_messages_and_the_mirror_stays_near(models: dict[str, HeldModel]) -> None:
    twin, gate, count = FakeTwin(), Gate(), 8
    gate.shut()
    async with attached_edge(twin, gate.within(models), report_threshold_s=0.05, report_patience_s=0.2) as (edge, _):
        await until(lambda: edge.link is not None and edge.link.is_attached)
        sending = asyncio.ensure_future(send_tails(edge, models, count))
        await until(lambda: any(report.backlog.queue_length == count for report in twin.of_kind("backlog")))
        held = len(twin.of_kind("backlog"))
        whole_s = twin.of_kind("backlog")[-1].backlog.backlog.backlog_s
        gate.open()
        errors_s = []
        while not sending.done():
            await asyncio.sleep(0.01)
            now_s = SystemClock().monotonic_s()
            received_s, message = twin.messages[-1]
            report = message.hello.backlog if message.HasField("hello") else message.backlog
            believed_s = predicted_backlog_s(backlog_from_wire(report.backlog, received_s), now_s)
            errors_s.append(abs(edge.executor.backlog_s() - believed_s))
        await sending
        reports = twin.of_kind("backlog")
    assert len(reports) - held <= count
    assert whole_s > 0.5 * count * 3 * SEGMENT_S
    assert reports[-1].backlog.arrived_work_s[2] > 0.0
    errors_s.sort()
    # A twin that heard of nothing would be wrong by half of the work in the median, 0.48 s.
    assert errors_s[len(errors_s) // 2] < 0.2


async def test_what_nobody_decides_by_is_not_reported(models: dict[str, HeldModel]) -> None:
    twin = FakeTwin()
    twin.ceiling_s = 0.0
    async with attached_edge(twin, models, report_threshold_s=0.1, report_patience_s=0.0) as (edge, _):
        await until(lambda: edge.link is not None and edge.link.is_attached)
        await send_tails(edge, models, 3)  # 0.36 s of work at most, of which an eighth counts
        assert twin.of_kind("backlog") == []


async def test_all_that_arrived_is_told_once_with_its_owner_and_no_message_is_sent_for_it(
    models: dict[str, HeldModel],
) -> None:
    twin = FakeTwin()
    twin.heartbeat_s = 0.3
    async with attached_edge(twin, models, report_threshold_s=9.0) as (edge, _):
        await until(lambda: edge.link is not None and edge.link.is_attached)
        await send_tails(edge, models, 2, "cam-1")
        await send_tails(edge, models, 1)
        await until(lambda: len(told_arrivals(twin)) >= 3)
        beats = len(twin.of_kind("heartbeat"))
        await until(lambda: len(twin.of_kind("heartbeat")) > beats)
    logs = [message.heartbeat.backlog.arrivals for message in twin.of_kind("heartbeat")]
    told = [
        (log.device_ids[position - 1] if position else "", task_id)
        for log in logs
        for position, task_id in zip(log.device, log.task_id, strict=True)
    ]
    assert told == [("cam-1", 1), ("cam-1", 2), ("", 0)]
    (model,) = models.values()
    first_s, *others_s = (work_s for log in logs for work_s in log.work_s)
    assert first_s == pytest.approx(model.tail_s[0])
    assert len(others_s) == 2
    assert min(others_s) > 0.5 * model.tail_s[0], "as the edge's pace has been since, which a busy machine makes slower"
    assert twin.of_kind("backlog") == []


async def test_a_twin_that_comes_back_is_attached_to_again(models: dict[str, HeldModel]) -> None:
    twin = FakeTwin()
    async with attached_edge(twin, models) as (edge, server):
        link = edge.link
        assert link is not None
        await until(lambda: link.is_attached)
        await server.stop()
        await until(lambda: not link.is_attached)
        async with stopped_after(await start_twin(twin, server.address)):
            await until(lambda: link.is_attached)
    assert link.attached_times == 2
    assert len(twin.of_kind("hello")) == 2


async def test_every_replica_is_told_the_backlog_and_all_that_arrives(models: dict[str, HeldModel]) -> None:
    one, two = FakeTwin(), FakeTwin()
    one.heartbeat_s = two.heartbeat_s = 0.2
    second = await start_twin(two)
    async with (
        stopped_after(second),
        stopped_after(await start_twin(one)) as first,
        attached_edge(FakeTwin(), models, twin=f"{first.address},{second.address}") as (edge, _),
    ):
        await until(lambda: edge.link is not None and edge.link.is_attached)
        assert (edge.link.listed, edge.link.attached, edge.link.attached_times) == (2, 2, 2)
        await send_tails(edge, models, 2, "cam-1")
        for twin in (one, two):
            await until(lambda twin=twin: len(told_arrivals(twin)) == 2)
        await second.stop()
        await until(lambda: edge.link is not None and edge.link.attached == 1)
        assert not edge.link.is_attached, "a replica without this edge plans without it"
        await send_tails(edge, models, 1, "cam-2")
        await until(lambda: len(told_arrivals(one)) == 3)
        async with stopped_after(await start_twin(two, second.address)):
            await until(lambda: len(told_arrivals(two)) == 3)
    assert told_arrivals(one) == told_arrivals(two) == ["cam-1", "cam-1", "cam-2"]
    assert len(one.of_kind("hello")) == 1


async def test_replicas_come_and_go_with_the_list_in_a_file(
    models: dict[str, HeldModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinsplit.replicas.listing.LOOK_S", 0.02)
    one, two = FakeTwin(), FakeTwin()
    path = tmp_path / "replicas"
    async with stopped_after(await start_twin(one)) as first, stopped_after(await start_twin(two)) as second:
        path.write_text(first.address)
        async with attached_edge(FakeTwin(), models, twin=f"@{path}") as (edge, _):
            await until(lambda: edge.link is not None and edge.link.attached_times == 1)
            path.write_text(f"{first.address}\n{second.address}\n")
            await until(lambda: edge.link is not None and (edge.link.listed, edge.link.attached) == (2, 2))
            path.write_text(second.address)
            await until(lambda: edge.link is not None and (edge.link.listed, edge.link.attached) == (1, 1))
            assert edge.link.attached_times == 2, "those of a replica that has gone count"
            await until(lambda: one.open_streams == 0)
    assert (len(one.of_kind("hello")), len(two.of_kind("hello"))) == (1, 1)


def told_arrivals(twin: FakeTwin) -> list[str]:
    """Whose tails a replica was told of."""
    reports = [m.heartbeat.backlog if m.HasField("heartbeat") else m.backlog for _, m in twin.messages]
    return [report.arrivals.device_ids[n - 1] if n else "" for report in reports for n in report.arrivals.device]


async def test_tails_are_served_without_a_twin(models: dict[str, HeldModel]) -> None:
    given: dict[str, Any] = {"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0", "models": "unused", "drain_s": 0.0}
    async with stopped_after(await start_edge(EdgeSettings(**given, twin="127.0.0.1:1"), models=models)) as edge:
        await send_tails(edge, models, 1)
        assert edge.link is not None
        assert not edge.link.is_attached


async def test_an_edge_that_the_twin_refuses_tries_again(models: dict[str, HeldModel]) -> None:
    twin = FakeTwin()
    twin.refusal = BadMessageError("edge_id: is taken; choose another --id")
    async with attached_edge(twin, models) as (edge, _):
        await until(lambda: twin.streams >= 1 and bool(twin.messages))
        assert edge.link is not None
        assert not edge.link.is_attached
        twin.refusal = None
        await until(lambda: edge.link is not None and edge.link.is_attached)
    assert twin.streams >= 2


async def test_an_edge_that_is_told_that_another_stream_speaks_for_it_attaches_again(
    models: dict[str, HeldModel],
) -> None:
    fake = FakeTwin()
    fake.heartbeat_s = 0.05
    async with attached_edge(fake, models):
        await until(lambda: bool(fake.of_kind("heartbeat")))
        fake.refusal, fake.answers_heartbeats = StaleWriteError("attached again on another stream"), True
        await until(lambda: len(fake.of_kind("hello")) >= 2)
