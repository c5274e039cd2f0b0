"""The shell between streams and core, without gRPC."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from tests.unit.twin_service.made_up_twins import MANIFEST_BYTES, StepRule, device_hello, edge_hello, manifest_bytes
from twin_service import messages
from twin_service.core import TwinCore
from twin_service.decision.situation import Weights
from twin_service.documents import Desired, Document
from twin_service.exchange import MAX_UNSENT, DeviceSession, Exchange
from twin_service.memory import Claim, VolatileMemory
from twinsplit.clock import ManualClock
from twinsplit.errors import BadMessageError, ErrorCode, StoppingError


class BrokenRule(StepRule):
    def evaluate(self, situations: object) -> list:
        raise RuntimeError("a defect")


def exchange_with(rule: StepRule | None = None) -> Exchange:
    return Exchange(TwinCore(rule or StepRule(), Weights(), VolatileMemory()), ManualClock(10.0))


def attached(exchange: Exchange) -> DeviceSession:
    session = DeviceSession(end=lambda: None)
    exchange.device_attached(session, device_hello())
    exchange.device_said(session, messages.ManifestUpload(MANIFEST_BYTES))
    return session


def queued(session: DeviceSession) -> list[str]:
    return [type(session.unsent.get_nowait()).__name__ for _ in range(session.unsent.qsize())]


async def test_a_plan_follows_the_welcome_without_anybody_waiting() -> None:
    exchange = exchange_with()
    session = attached(exchange)
    await asyncio.sleep(0)
    assert queued(session) == ["Welcome", "PlanMessage"]


async def test_a_device_that_does_not_read_loses_its_stream_and_nobody_elses() -> None:
    exchange = exchange_with()
    ended: list[str] = []
    session = DeviceSession(end=lambda: ended.append("cam"))
    exchange.device_attached(session, device_hello())
    other = DeviceSession(end=lambda: ended.append("dock"))
    exchange.device_attached(other, device_hello("dock"))
    for task_id in range(MAX_UNSENT - 1):
        exchange.device_said(session, messages.PollRequest(task_id, 0, 0, 0))
    assert ended == []
    exchange.device_said(session, messages.PollRequest(99, 0, 0, 0))
    assert ended == ["cam"]


async def test_a_stream_that_another_of_the_same_device_supersedes_is_ended() -> None:
    exchange = exchange_with()
    ended: list[str] = []
    old, new = DeviceSession(end=lambda: ended.append("old")), DeviceSession(end=lambda: ended.append("new"))
    exchange.device_attached(old, device_hello())
    exchange.device_attached(new, device_hello())
    assert ended == ["old"]
    exchange.device_gone(old)
    exchange.device_said(new, messages.ManifestUpload(MANIFEST_BYTES))
    await asyncio.sleep(0)
    assert queued(new) == ["Welcome", "PlanMessage"], "the end of the old one is nothing to the new one"


async def test_who_has_not_said_hello_is_told_so() -> None:
    exchange = exchange_with()
    with pytest.raises(BadMessageError, match="hello"):
        exchange.device_said(DeviceSession(end=lambda: None), messages.DeviceHeartbeat())
    session = attached(exchange)
    with pytest.raises(BadMessageError, match="already"):
        exchange.device_attached(session, device_hello())


async def test_a_defect_in_planning_ends_neither_planning_nor_streams() -> None:
    exchange = exchange_with(BrokenRule())
    session = attached(exchange)
    await asyncio.sleep(0)
    assert queued(session) == ["Welcome"]
    exchange.core.planner.rule = StepRule()
    exchange.device_said(session, messages.DeviceHeartbeat())
    await asyncio.sleep(0)
    assert queued(session) == ["PlanMessage"]


async def test_a_tick_that_fails_again_and_again_does_not_keep_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = exchange_with()
    attached(exchange)
    ticks: list[float] = []

    def broken_tick(now_s: float) -> list[messages.Send]:
        ticks.append(now_s)
        raise RuntimeError("a defect")

    monkeypatch.setattr(exchange.core, "tick", broken_tick)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(ticks) == 2


async def test_refusals_are_counted_by_name_and_defects_stay_inside() -> None:
    exchange = exchange_with()
    exchange.refused(BadMessageError("no"), "cam")
    exchange.refused(KeyError("a defect"), "cam")
    assert exchange.refusals == {ErrorCode.BAD_MESSAGE: 1, ErrorCode.INTERNAL: 1}


async def test_a_stopping_service_takes_nobody_new() -> None:
    exchange = exchange_with()
    exchange.close()
    with pytest.raises(StoppingError):
        exchange.device_attached(DeviceSession(end=lambda: None), device_hello())
    with pytest.raises(StoppingError):
        exchange.edge_attached(edge_hello())


async def test_only_a_device_that_is_there_is_asked() -> None:
    exchange = exchange_with()
    assert not await exchange.refresh("nobody", older_than_s=0.0, timeout_s=9.0)
    session = attached(exchange)
    exchange.device_gone(session)
    assert not await exchange.refresh("cam", older_than_s=0.0, timeout_s=9.0)


async def test_a_refused_message_of_ours_is_only_noted() -> None:
    exchange = exchange_with()
    session = attached(exchange)
    exchange.device_said(session, messages.PeerRefusal(BadMessageError("cannot obey")))
    assert "Refusal" not in queued(session)


def test_the_made_up_manifests_differ() -> None:
    assert manifest_bytes("another") != MANIFEST_BYTES


class SlowDatabase(VolatileMemory):
    """It answers after everybody's patience, and knows ``cam`` under a later number than the device does."""

    is_shared = True

    def __init__(self) -> None:
        super().__init__()
        self.keep_documents([Document("cam", epoch=5000, messages=Counter(task=3))])

    async def claimed(self, device_id: str, model_digest: str, epoch: int) -> None:
        return None

    async def kept(self, device_ids: list[str]) -> dict[str, Claim]:
        return {document.device_id: Claim(document.epoch, document) for document in self.documents()}

    async def reclaimed(self, device_ids: list[str]) -> dict[str, Claim]:
        claims = {document.device_id: Claim(document.epoch + 1, document) for document in self.documents()}
        self.keep_documents(Document(device_id, epoch=claim.epoch) for device_id, claim in claims.items())
        return claims


async def with_a_clock_that_is_behind(memory: SlowDatabase) -> tuple[Exchange, DeviceSession]:
    exchange = Exchange(TwinCore(StepRule(), Weights(), memory), ManualClock(10.0), memory)
    hello = replace(device_hello(), attachment_epoch=3000)
    await exchange.arriving(hello)
    session = DeviceSession(end=lambda: None)
    exchange.device_attached(session, hello)
    return exchange, session


async def test_a_device_that_is_kept_under_a_later_number_is_saved_once_the_database_answers() -> None:
    memory = SlowDatabase()
    exchange, _ = await with_a_clock_that_is_behind(memory)
    exchange.core.desire("cam", Desired(alpha_s=7.0), 1)
    await exchange.learn_of_documents()
    exchange.core.save()
    (document,) = memory.documents()
    assert (document.epoch, document.desired, document.messages["task"]) == (5001, Desired(alpha_s=7.0), 3)
    assert exchange.core.archive.bases == {}
    assert not exchange.device_released("cam", 3000)


async def test_a_device_that_has_gone_meanwhile_is_not_taken_from_where_it_is() -> None:
    memory = SlowDatabase()
    exchange, session = await with_a_clock_that_is_behind(memory)
    exchange.device_gone(session)
    await exchange.learn_of_documents()
    exchange.core.save()
    assert [document.epoch for document in memory.documents()] == [5000]
