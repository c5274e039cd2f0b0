"""Bad messages of a twin to a real edge: each refused by its name in the edge's log, and the stream goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.mutations import IMPOSSIBLE, UNREADABLE, Bad, floats_in, floats_of, impossible_numbers
from tests.fuzz.raw_twin import raw_twin
from tests.fuzz.refusals import check_text
from tests.integration.device_bench import running_edge, until
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.rpc.v1 import twin_pb2

TOLERATED = {
    "ClockEcho.sent_s": "echoed as it came",
    "ClockEcho.echo_sent_s": "not read by an edge",
    "ClockEcho.echo_received_s": "not read by an edge",
}
SOON = twin_pb2.AttachEdgeResponse(welcome=twin_pb2.Welcome(heartbeat_s=0.02))
"""A welcome that has heartbeats come soon."""
INTEREST = twin_pb2.AttachEdgeResponse(interest=twin_pb2.BacklogInterest(ceiling_s=1.0))


def bad_messages() -> Iterator[Bad]:
    """All numbers that an edge must not take from a twin."""
    for name, message in {"welcome": SOON, "interest": INTEREST}.items():
        yield from impossible_numbers(name, message, TOLERATED)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_tiny_model(tmp_path / "tiny")
    return tmp_path


@pytest.fixture(autouse=True)
def no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every refusal is logged, however fast they come."""
    monkeypatch.setattr("edge.twin_link.REFUSAL_LOG_S", 0.0)


def refused(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the edge has refused, as its log says it."""
    return [vars(r)["fields"]["error"] for r in caplog.records if r.getMessage() == "twin-message-refused"]


@pytest.mark.slow
async def test_each_bad_message_of_a_twin_is_refused_by_its_name_and_a_good_one_after_it_is_taken(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = []
    async with raw_twin("AttachEdge", SOON.SerializeToString()) as twin, running_edge(models, twin=twin.address):
        await until(lambda: twin.hellos == 1)
        for bad in bad_messages():
            caplog.clear()
            await twin.to_say.put(bad.data)
            await twin.to_say.put(SOON.SerializeToString())
            await twin.hears("heartbeat", bad.name)
            await until(lambda: refused(caplog) != [])
            for text in refused(caplog):
                check_text(text)
            texts = refused(caplog)
            if [bad.word in text for text in texts] != [True]:
                wrong.append(f"{bad.name}: {texts}")
        assert twin.hellos == 1, "the stream went on"
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("heartbeat_s", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
async def test_a_welcome_that_cannot_be_attaches_nobody_and_the_next_one_does(
    models: Path, heartbeat_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    bad = twin_pb2.AttachEdgeResponse(welcome=twin_pb2.Welcome(heartbeat_s=heartbeat_s))
    async with raw_twin("AttachEdge", bad.SerializeToString()) as twin, running_edge(models, twin=twin.address) as edge:
        await until(lambda: refused(caplog) != [])
        assert edge.link is not None
        assert not edge.link.is_attached
        await twin.to_say.put(SOON.SerializeToString())
        await twin.hears("heartbeat")
        assert (edge.link.is_attached, edge.link.attached_times, twin.hellos) == (True, 1, 1)


@pytest.mark.slow
async def test_a_twin_whose_bytes_are_no_message_loses_the_stream_and_the_edge_attaches_again(models: Path) -> None:
    async with raw_twin("AttachEdge", SOON.SerializeToString()) as twin, running_edge(models, twin=twin.address):
        for count, mutate in enumerate(UNREADABLE.values(), 1):
            await until(lambda count=count: twin.hellos == count)
            await twin.to_say.put(mutate(INTEREST.SerializeToString()))
        await until(lambda: twin.hellos == 1 + len(UNREADABLE))
        await twin.hears("heartbeat")


def test_every_number_that_a_twin_can_send_is_tried() -> None:
    assert floats_in(SOON) | floats_in(INTEREST) == floats_of(twin_pb2.AttachEdgeResponse.DESCRIPTOR) - set(TOLERATED)
