"""Bad messages to a real twin: each refused by its name, and a good one right after on the same stream is taken."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.fuzz import bad_reports
from tests.fuzz.mutations import UNREADABLE, Bad, floats_in, floats_of
from tests.fuzz.refusals import check_text, wrong_about
from tests.integration.test_twin_streams import running
from tests.unit.twin_service.made_up_twins import MANIFEST_BYTES
from twinsplit.errors import ErrorCode
from twinsplit.rpc.v1 import twin_pb2, twin_pb2_grpc
from twinsplit.transport.channel import open_channel
from twinsplit.transport.status import CODE_METADATA_KEY

PATIENCE_S = 20.0
SERVICE = "/twinsplit.rpc.v1.TwinService"


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    async with running(tmp_path) as twin, open_channel(twin.address) as channel:
        yield channel


class Stream:
    """A stream to the twin on which any bytes can be said."""

    def __init__(self, channel: grpc.aio.Channel, method: str, response: Any) -> None:
        self._call = channel.stream_stream(f"{SERVICE}/{method}", response_deserializer=response.FromString)()
        self.errors: list[Any] = []
        """Refusals heard since they were last looked at."""

    async def say(self, message: bytes | Any) -> None:
        await self._call.write(message if isinstance(message, bytes) else message.SerializeToString())

    async def hear(self, kind: str) -> Any:
        """The next message of ``kind``; refusals before it are kept, others passed over."""
        while True:
            response = await asyncio.wait_for(self._call.read(), PATIENCE_S)
            assert response is not grpc.aio.EOF, f"the stream ended while waiting for {kind}"
            if response.WhichOneof("kind") == "error":
                self.errors.append(response.error)
            if response.WhichOneof("kind") == kind:
                return getattr(response, kind)

    def wrong_about(self, bad: Bad) -> list[str]:
        """What is to say about the refusals heard since then."""
        errors, self.errors = self.errors, []
        return wrong_about(bad, errors)

    def end(self) -> None:
        self._call.cancel()


async def attached(channel: grpc.aio.Channel) -> Stream:
    stream = Stream(channel, "AttachDevice", twin_pb2.AttachDeviceResponse)
    await stream.say(bad_reports.device_says(hello=bad_reports.device_hello()))
    if (await stream.hear("welcome")).needs_manifest:
        await stream.say(bad_reports.device_says(manifest=twin_pb2.ManifestUpload(manifest_json=MANIFEST_BYTES)))
    await stream.hear("plan")
    return stream


async def test_what_the_bad_reports_are_made_of_is_taken(channel: grpc.aio.Channel) -> None:
    stream = await attached(channel)
    for task_id, (kind, report) in enumerate(bad_reports.DEVICE_REPORTS.items()):
        await stream.say(bad_reports.device_says(**{kind: report}))
        await stream.say(bad_reports.device_says(poll=twin_pb2.PollRequest(task_id=task_id)))
        while (await stream.hear("poll")).task_id != task_id:
            pass
        assert stream.errors == [], kind
    stream = Stream(channel, "AttachEdge", twin_pb2.AttachEdgeResponse)
    await stream.say(bad_reports.edge_says(hello=bad_reports.edge_hello()))
    for kind, report in bad_reports.EDGE_REPORTS.items():
        await stream.say(bad_reports.edge_says(**{kind: report}))
    await stream.say(b"")
    await stream.hear("error")
    assert [error.text for error in stream.errors if "nothing" not in error.text] == []


async def test_each_bad_report_of_a_device_is_refused_by_its_name_and_a_task_after_it_is_answered(
    channel: grpc.aio.Channel,
) -> None:
    stream, wrong = await attached(channel), []
    for task_id, bad in enumerate(bad_reports.bad_device_reports(), 1000):
        await stream.say(bad.data)
        await stream.say(bad_reports.device_says(poll=twin_pb2.PollRequest(task_id=task_id)))
        answer = await stream.hear("poll")
        assert answer.task_id == task_id, bad.name
        wrong += stream.wrong_about(bad)
    assert not wrong, "\n".join(wrong)


async def test_each_bad_hello_of_a_device_is_refused_by_its_name_and_a_good_one_after_it_is_welcomed(
    channel: grpc.aio.Channel,
) -> None:
    (await attached(channel)).end()
    wrong = []
    for bad in bad_reports.bad_device_hellos():
        stream = Stream(channel, "AttachDevice", twin_pb2.AttachDeviceResponse)
        await stream.say(bad.data)
        await stream.say(bad_reports.device_says(hello=bad_reports.device_hello()))
        await stream.hear("welcome")
        wrong += stream.wrong_about(bad)
        stream.end()
    assert not wrong, "\n".join(wrong)


async def test_each_manifest_that_is_none_is_refused_by_its_name_and_the_device_is_heard_on(
    channel: grpc.aio.Channel,
) -> None:
    wrong = []
    for name, data in bad_reports.bad_manifests().items():
        stream = Stream(channel, "AttachDevice", twin_pb2.AttachDeviceResponse)
        hello = bad_reports.device_hello()
        hello.model_digest = hashlib.sha256(data).digest()
        await stream.say(bad_reports.device_says(hello=hello))
        assert (await stream.hear("welcome")).needs_manifest
        await stream.say(bad_reports.device_says(manifest=twin_pb2.ManifestUpload(manifest_json=data)))
        await stream.say(bad_reports.device_says(poll=twin_pb2.PollRequest(task_id=1)))
        await stream.hear("poll")
        wrong += stream.wrong_about(Bad(f"manifest: {name}", data, ErrorCode.BAD_MESSAGE))
        stream.end()
    assert not wrong, "\n".join(wrong)


async def test_each_bad_message_of_an_edge_is_refused_by_its_name_and_a_report_after_it_is_taken(
    channel: grpc.aio.Channel,
) -> None:
    stub, wrong = twin_pb2_grpc.TwinServiceStub(channel), []
    hello = bad_reports.edge_says(hello=bad_reports.edge_hello())
    for bad in bad_reports.bad_edge_hellos():
        stream = Stream(channel, "AttachEdge", twin_pb2.AttachEdgeResponse)
        await stream.say(bad.data)
        await stream.say(hello)
        await stream.hear("welcome")
        wrong += stream.wrong_about(bad)
        stream.end()
    stream = Stream(channel, "AttachEdge", twin_pb2.AttachEdgeResponse)
    await stream.say(hello)
    await stream.hear("welcome")
    for length, bad in enumerate(bad_reports.bad_edge_reports(), 1000):
        await stream.say(bad.data)
        await stream.hear("error")
        await stream.say(bad_reports.edge_says(backlog=bad_reports.backlog_report(queue_length=length)))
        await queue_has(stub, length)
        wrong += stream.wrong_about(bad)
    assert not wrong, "\n".join(wrong)


async def queue_has(stub: twin_pb2_grpc.TwinServiceStub, length: int) -> None:
    """Wait until the edge's queue is known to be so long."""
    for _ in range(1000):
        (edge,) = (await stub.ListTwins(twin_pb2.ListTwinsRequest(), timeout=PATIENCE_S)).edges
        if {field.name: field.reported for field in edge.fields}["queue_length"] == length:
            return
        await asyncio.sleep(0.001)
    raise AssertionError("the report was not taken")


UNARY = {
    "ReleaseDevice": twin_pb2.ReleaseDeviceRequest(device_id="cam", attachment_epoch=1),
    "GetTwin": twin_pb2.GetTwinRequest(device_id="cam"),
    "DescribeService": twin_pb2.DescribeServiceRequest(device_id="cam"),
    "ListTwins": twin_pb2.ListTwinsRequest(),
    "WatchTwins": twin_pb2.WatchTwinsRequest(interval_s=1.0),
    "SetDesired": twin_pb2.SetDesiredRequest(device_id="cam", alpha_s=1.0),
    "ExportTraces": twin_pb2.ExportTracesRequest(),
    "ListWeights": twin_pb2.ListWeightsRequest(),
    "ExportReplay": twin_pb2.ExportReplayRequest(model="ab"),
}
DESIRES = {
    "alpha_s": (float("nan"), float("inf"), -1.0),
    "beta_s_per_joule": (float("nan"), float("inf"), -1.0),
    "deadline_s": (float("nan"), float("inf"), -1.0),
}


def bad_calls(version: int) -> list[tuple[str, Bad]]:
    """Method and bytes of single calls that must be refused."""
    found = []
    for method, message in UNARY.items():
        for name, mutate in UNREADABLE.items():
            whole = message.SerializeToString()
            # What has no field cannot be cut off, and protobuf reads field 0 alone as the end of it.
            if whole or name not in ("cut off", "field number 0"):
                found.append((method, Bad(f"{method}: {name}", mutate(whole), ErrorCode.BAD_MESSAGE)))
    for field, values in DESIRES.items():
        for value in values:
            desired = twin_pb2.SetDesiredRequest(device_id="cam", version=version, **{field: value})
            found.append(("SetDesired", Bad(f"{field} = {value}", desired.SerializeToString(), ErrorCode.BAD_MESSAGE)))
    for name, method, message, code in (
        (
            "an attachment that none could follow",
            "ReleaseDevice",
            twin_pb2.ReleaseDeviceRequest(device_id="cam", attachment_epoch=(1 << 64) - 1),
            ErrorCode.BAD_MESSAGE,
        ),
        ("a twin of no name", "GetTwin", twin_pb2.GetTwinRequest(), ErrorCode.UNKNOWN_TWIN),
        ("a twin of nobody", "GetTwin", twin_pb2.GetTwinRequest(device_id="nobody"), ErrorCode.UNKNOWN_TWIN),
        ("a long name", "GetTwin", twin_pb2.GetTwinRequest(device_id="x" * 70_000), ErrorCode.UNKNOWN_TWIN),
        ("a wish for nobody", "SetDesired", twin_pb2.SetDesiredRequest(device_id="nobody"), ErrorCode.UNKNOWN_TWIN),
        ("an old wish", "SetDesired", twin_pb2.SetDesiredRequest(device_id="cam", version=99), ErrorCode.STALE_WRITE),
    ):
        found.append((method, Bad(name, message.SerializeToString(), code)))
    return found


async def test_each_bad_call_is_refused_by_its_name_and_a_stream_beside_it_goes_on(channel: grpc.aio.Channel) -> None:
    stream = await attached(channel)
    version = (await twin_pb2_grpc.TwinServiceStub(channel).GetTwin(UNARY["GetTwin"])).twin.version
    wrong = []
    for task_id, (method, bad) in enumerate(bad_calls(version), 1000):
        call = channel.unary_stream(f"{SERVICE}/{method}")(bad.data, timeout=PATIENCE_S)
        try:
            answer = await call.read()
            wrong.append(f"{bad.name}: answered {answer!r}"[:200])
            call.cancel()
        except grpc.aio.AioRpcError as refusal:
            check_text(refusal.details() or "")
            code = dict(refusal.trailing_metadata() or ()).get(CODE_METADATA_KEY)
            wrong += [] if code == bad.code.value else [f"{bad.name}: {refusal.code()} {refusal.details()}"]
        await stream.say(bad_reports.device_says(poll=twin_pb2.PollRequest(task_id=task_id)))
        assert (await stream.hear("poll")).task_id == task_id
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -1.0, 1e308])
async def test_odd_times_in_a_question_do_no_harm(channel: grpc.aio.Channel, odd: float) -> None:
    await attached(channel)
    stub = twin_pb2_grpc.TwinServiceStub(channel)
    question = twin_pb2.GetTwinRequest(device_id="cam", live_if_older_than_s=odd, timeout_s=0.01)
    assert (await stub.GetTwin(question, timeout=PATIENCE_S)).twin.device_id == "cam"
    watched = stub.WatchTwins(twin_pb2.WatchTwinsRequest(interval_s=odd), timeout=PATIENCE_S)
    assert [twin.device_id for twin in (await watched.read()).twins] == ["cam"]
    watched.cancel()


def test_every_number_that_a_peer_can_send_to_the_twin_is_tried() -> None:
    device = set().union(*map(floats_in, bad_reports.DEVICE_REPORTS.values()), floats_in(bad_reports.device_hello()))
    edge = floats_in(bad_reports.edge_hello()) | floats_in(bad_reports.EDGE_REPORTS["heartbeat"])
    clock = floats_in(bad_reports.CLOCK)
    assert device | clock == floats_of(twin_pb2.AttachDeviceRequest.DESCRIPTOR)
    assert edge | clock == floats_of(twin_pb2.AttachEdgeRequest.DESCRIPTOR)
    assert set(bad_reports.TOLERATED) < floats_of(twin_pb2.AttachDeviceRequest.DESCRIPTOR)
    assert set(bad_reports.DEVICE_REPORTS) == {
        field.name for field in twin_pb2.AttachDeviceRequest.DESCRIPTOR.oneofs_by_name["kind"].fields
    } - {"hello"}
    methods = {m.name for m in twin_pb2.DESCRIPTOR.services_by_name["TwinService"].methods}
    assert methods - set(UNARY) == {"AttachDevice", "AttachEdge"}
