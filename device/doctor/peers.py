"""The edges and the twin: do they answer, how far are they, what does their clock say, do they know the model?

Nothing here attaches: a doctor beside a running device does not disturb it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import grpc
import grpc.aio

from device.doctor.finding import Check, Finding, bad, from_error, ok, skipped
from device.doctor.machine import NO_MODEL, HeldModel
from device.doctor.replicas import replica_findings
from device.doctor.settings import DoctorSettings
from device.doctor.silence import silence
from twinsplit.errors import ConfigurationError, RefusedError
from twinsplit.replicas.listing import ReplicaSource
from twinsplit.rpc.v1 import edge_pb2, edge_pb2_grpc, twin_pb2, twin_pb2_grpc
from twinsplit.transport.address import Address
from twinsplit.transport.channel import open_channel
from twinsplit.transport.clock_offset import ClockOffset, ClockReadings
from twinsplit.transport.convert import digest_to_wire
from twinsplit.transport.limits import (
    CONTROL_MESSAGE_BYTES,
    ENVELOPE_BYTES,
    model_message_bytes,
    tensor_message_bytes,
)
from twinsplit.transport.status import error_from_rpc

LARGEST_OFFSET_S = 1.0
"""Clocks that differ by more make logs, traces and the ends of certificates hard to believe."""
_PINGS = 4
_MOST_EDGES = 8
_MB = 1e6

AnswerT = TypeVar("AnswerT", edge_pb2.DescribeResponse, twin_pb2.DescribeServiceResponse)


@dataclass(frozen=True, slots=True)
class Answered(Generic[AnswerT]):
    """What a peer said, and what its saying showed."""

    answer: AnswerT
    round_trip_s: float
    """The shortest of a few."""
    offset_s: float | None
    """Its clock less ours; ``None``: it does not tell its clock."""


async def peer_findings(settings: DoctorSettings, model: HeldModel | None, timeout_s: float) -> list[Finding]:
    """Every replica of the twin, then the edge of ``--edge``, or those that are attached to the twin."""
    findings: list[Finding] = []
    answers: dict[str, twin_pb2.DescribeServiceResponse] = {}
    for replica in (replicas := _replicas(settings, findings)):
        described = await _asked(settings, replica, Check.TWIN, _describe_twin(settings, model), timeout_s)
        if isinstance(described, Finding):
            findings.append(described)
        else:
            findings += _of_twin(settings, replica, model, described)
            answers[replica] = described.answer
    if len(replicas) > 1:
        findings += replica_findings(settings.id, replicas, answers)
    attached = list(dict.fromkeys(edge.advertise_address for answer in answers.values() for edge in answer.edges))
    addresses = [settings.edge] if settings.edge is not None else attached[:_MOST_EDGES]
    if not addresses:
        findings.append(skipped(Check.EDGE, "none named, and none known from the twin; give --edge HOST:PORT"))
    for address in addresses:
        answered = await _asked(settings, address, Check.EDGE, _describe_edge, timeout_s)
        if isinstance(answered, Finding):
            findings.append(answered)
        else:
            findings += _of_edge(address, model, answered)
    return findings


def _replicas(settings: DoctorSettings, findings: list[Finding]) -> tuple[str, ...]:
    """The replicas that ``--twin`` names; where it names none, ``findings`` gets a line that says why."""
    if settings.twin is None:
        findings.append(skipped(Check.TWIN, "none named; give --twin HOST:PORT"))
        return ()
    try:
        return ReplicaSource(settings.twin).read()
    except ConfigurationError as error:
        findings.append(from_error(Check.TWIN, error))
        return ()


async def _asked(
    settings: DoctorSettings,
    address: str,
    check: Check,
    describe: Callable[[grpc.aio.Channel, float], Awaitable[AnswerT]],
    timeout_s: float,
) -> Answered[AnswerT] | Finding:
    """What the peer at ``address`` says of itself, or the line that says why it says nothing."""
    try:
        place = Address.parse(address)
        tls = settings.tls
        channel = open_channel(address, tls, connect_s=timeout_s)
    except ConfigurationError as error:
        return from_error(check, error)
    async with channel:
        best: Answered[AnswerT] | None = None
        try:
            for _ in range(_PINGS):
                # The clock that the peer tells is Unix time, so ours is too; durations are measured apart.
                began_s, began_unix_s = time.monotonic(), time.time()
                answer = await describe(channel, timeout_s)
                took_s = time.monotonic() - began_s
                if answer is None:  # so gRPC gives bytes that it cannot read
                    return _other_service(place, check)
                if best is None or took_s < best.round_trip_s:
                    best = Answered(answer, took_s, _offset_s(answer.unix_ns, began_unix_s, took_s))
        except grpc.aio.AioRpcError as failure:
            return await _silent(failure, place, settings, check, timeout_s)
    assert best is not None, "there is more than one try"
    return best


def _offset_s(peer_unix_ns: int, began_unix_s: float, took_s: float) -> float | None:
    """The peer's clock less ours by one round trip; ``None``: it does not tell its clock."""
    if peer_unix_ns == 0:
        return None
    peer_s, ended_unix_s = peer_unix_ns * 1e-9, began_unix_s + took_s
    offset = ClockOffset()
    offset.received(ClockReadings(peer_s, began_unix_s, peer_s), ended_unix_s)
    return offset.offset_s(ended_unix_s)


async def _silent(
    failure: grpc.aio.AioRpcError, address: Address, settings: DoctorSettings, check: Check, timeout_s: float
) -> Finding:
    if failure.code() is grpc.StatusCode.UNIMPLEMENTED:
        return _other_service(address, check)
    refusal = error_from_rpc(failure, str(address))
    if isinstance(refusal, RefusedError):
        found = from_error(check, refusal)
        return replace(found, text=f"{address} refuses this device: {found.text}")
    why = await asyncio.to_thread(silence, address, settings.tls, check.value, timeout_s)
    return bad(check, f"{address}: {why.cause}", why.cure)


def _other_service(address: Address, check: Check) -> Finding:
    return bad(
        check,
        f"{address} answers, but is another service or an older version",
        f"see that --{check.value} names the {check.value}'s port of gRPC, and that it runs this version",
    )


def _describe_twin(
    settings: DoctorSettings, model: HeldModel | None
) -> Callable[[grpc.aio.Channel, float], Awaitable[twin_pb2.DescribeServiceResponse]]:
    digest = b"" if model is None else digest_to_wire(model.digest)
    request = twin_pb2.DescribeServiceRequest(device_id=settings.id, model_digest=digest)

    async def describe(channel: grpc.aio.Channel, timeout_s: float) -> twin_pb2.DescribeServiceResponse:
        stub = twin_pb2_grpc.TwinServiceStub(channel)
        response: twin_pb2.DescribeServiceResponse = await stub.DescribeService(request, timeout=timeout_s)
        return response

    return describe


async def _describe_edge(channel: grpc.aio.Channel, timeout_s: float) -> edge_pb2.DescribeResponse:
    stub = edge_pb2_grpc.EdgeServiceStub(channel)
    response: edge_pb2.DescribeResponse = await stub.Describe(edge_pb2.DescribeRequest(), timeout=timeout_s)
    return response


def _of_twin(
    settings: DoctorSettings,
    address: str,
    model: HeldModel | None,
    described: Answered[twin_pb2.DescribeServiceResponse],
) -> Iterator[Finding]:
    answer = described.answer
    attached = "attached" if answer.is_device_attached else "not attached"
    yield ok(
        Check.TWIN,
        f"{address}: twinsplit {answer.version}, rule {answer.rule}, round trip {_duration(described.round_trip_s)}; "
        f"{settings.id} is {attached}",
    )
    yield _clock(Check.TWIN_CLOCK, described)
    if model is None:
        yield skipped(Check.TWIN_MODEL, NO_MODEL)
        return
    yield _twin_model(settings, model, answer)
    needed = model.manifest_bytes + ENVELOPE_BYTES
    yield _limit(Check.TWIN_MESSAGES, "the manifest", needed, CONTROL_MESSAGE_BYTES, answer.max_message_bytes)


def _twin_model(settings: DoctorSettings, model: HeldModel, answer: twin_pb2.DescribeServiceResponse) -> Finding:
    announced = answer.device_model_digest.hex()
    if answer.is_device_attached and announced != model.digest:
        return bad(
            Check.TWIN_MODEL,
            f"{settings.id} runs model {announced[:12]}, this folder is {model.title}",
            "restart the device with this folder, or look at the one that it runs",
        )
    holders = [edge for edge in answer.edges if edge.has_model]
    if not answer.edges:
        return bad(
            Check.TWIN_MODEL, "no edge is attached to the twin, so no plan offloads", "start an edge with --twin"
        )
    if not holders:
        names = ", ".join(edge.edge_id for edge in answer.edges)
        return bad(Check.TWIN_MODEL, f"no attached edge ({names}) holds {model.title}", _same_folder("an edge"))
    reached = {address for edge in holders for address in (edge.advertise_address, *edge.other_addresses)}
    if settings.edge is not None and settings.edge not in reached:
        return bad(
            Check.TWIN_MODEL,
            f"no attached edge that holds the model is reached as {settings.edge}, so no plan offloads there",
            f"start that edge with --also-reached-at {settings.edge}, or leave out --edge",
        )
    return ok(Check.TWIN_MODEL, f"held by {', '.join(edge.edge_id for edge in holders)}")


def _of_edge(
    address: str, model: HeldModel | None, described: Answered[edge_pb2.DescribeResponse]
) -> Iterator[Finding]:
    answer = described.answer
    yield ok(
        Check.EDGE,
        f"{address}: {answer.edge_id}, twinsplit {answer.version}, {answer.provider}, "
        f"round trip {_duration(described.round_trip_s)}, backlog {answer.backlog.backlog_s:.3f} s",
    )
    yield _clock(Check.EDGE_CLOCK, described)
    if model is None:
        yield skipped(Check.EDGE_MODEL, NO_MODEL)
        return
    if digest_to_wire(model.digest) in answer.model_digests:
        yield ok(Check.EDGE_MODEL, f"{answer.edge_id} holds {model.title}")
    else:
        held = ", ".join(digest.hex()[:12] for digest in answer.model_digests) or "none"
        yield bad(Check.EDGE_MODEL, f"{answer.edge_id} holds {held}, not {model.title}", _same_folder(answer.edge_id))
    largest = tensor_message_bytes([model.manifest])
    own = model_message_bytes([model.manifest])
    yield _limit(Check.EDGE_MESSAGES, "the largest payload", largest, own, answer.max_message_bytes)


def _clock(check: Check, described: Answered[AnswerT]) -> Finding:
    if described.offset_s is None:
        return skipped(check, "it does not tell its clock (an older version)")
    uncertain_s = 0.5 * described.round_trip_s
    size_s = abs(described.offset_s)
    direction = "ahead of" if described.offset_s > 0.0 else "behind"
    text = f"{_duration(size_s)} {direction} this machine's, give or take {_duration(uncertain_s)}"
    if size_s - uncertain_s > LARGEST_OFFSET_S:
        return bad(check, text, "let both machines keep network time (timedatectl set-ntp true)")
    return ok(check, text)


def _limit(check: Check, what: str, needed: int, own: int, theirs: int) -> Finding:
    if theirs == 0:
        return skipped(check, "it does not tell its message limit (an older version)")
    text = f"{what} takes {needed / _MB:.2f} MB at most; limits {own / _MB:.1f} MB here, {theirs / _MB:.1f} MB there"
    if needed > min(own, theirs):
        return bad(check, text, "give the other side this very model folder and version, from which it takes its limit")
    return ok(check, text)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1.0 else f"{seconds * 1e3:.1f} ms"


def _same_folder(edge: str) -> str:
    return f"give {edge} the same model folder in --models, byte by byte"
