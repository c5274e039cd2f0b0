"""The tail stream writes and reads standard protobuf bytes: golden messages, and the ordinary parser as the judge."""

import math

import numpy as np
import pytest

from twinsplit.clock import ManualClock
from twinsplit.errors import BadMessageError, EdgeFullError, TensorError
from twinsplit.reckoning import BacklogState
from twinsplit.rpc.v1 import edge_pb2
from twinsplit.tensor import EncodedTensor, TensorHeader, encode
from twinsplit.transport.convert import header_to_wire
from twinsplit.transport.tail_framing import ALIGNED_FROM_BYTES, ALIGNMENT
from twinsplit.transport.tail_messages import (
    InferRequest,
    InferResponse,
    TailCodec,
    TraceClock,
    _request_fields,
)

DIGEST = "ab" * 32
HEADER = TensorHeader((1, 3), "float32", "uint8", "none", 0.5, 2)
TENSOR = EncodedTensor(HEADER, b"\x01\x02\x03")


@pytest.fixture
def codec() -> TailCodec:
    return TailCodec(ManualClock(50.0))


def _large(size: int) -> EncodedTensor:
    return encode(np.arange(size // 4, dtype=np.float32).reshape(1, -1), "float32")


def test_a_request_is_these_very_bytes(codec: TailCodec) -> None:
    request = InferRequest(300, DIGEST, 2, 1.5, tensor=TENSOR, traceparent="00-a")
    assert (
        codec.request_to_bytes(request).hex()
        == (
            "08ac02"  # request_id
            "21000000000000f83f"  # budget_s
            "1220" + DIGEST + "1802"  # model_digest, cut
            "3211" + "0a020103" + "1001" + "1803" + "250000003f" + "2802" + "3001"  # header
            "3a0430302d61"  # traceparent
            "7a03010203"  # data, last
        )
    )


def test_a_traced_request_is_these_very_bytes(codec: TailCodec) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    request = InferRequest(300, DIGEST, 2, 1.5, tensor=TENSOR, traceparent=traceparent, trace_clock=TraceClock(0.5, 7))
    assert (
        codec.request_to_bytes(request).hex()
        == (
            "08ac02"  # request_id
            "21000000000000f83f"  # budget_s
            "3a37" + traceparent.encode().hex() + "4212" + "09000000000000e03f" + "110700000000000000"  # trace
            "1220" + DIGEST + "1802"  # model_digest, cut
            "3211" + "0a020103" + "1001" + "1803" + "250000003f" + "2802" + "3001"  # header
            "7a03010203"  # data, last
        )
    )


def test_the_answer_to_a_traced_request_is_these_very_bytes(codec: TailCodec) -> None:
    response = InferResponse(1, None, 0.5, 0.25, BacklogState(2.0, 49.0, 1.0, 4.0), TENSOR, traced_arrival_s=0.5)
    data = codec.response_to_bytes(response).hex()
    plain = codec.response_to_bytes(response._replace(traced_arrival_s=0.0)).hex()
    header = "3211" + "0a020103"
    assert data == plain.replace(header, "39000000000000e03f" + header)


def test_a_traced_payload_is_aligned_too_and_leaves_nothing_to_be_remembered(codec: TailCodec) -> None:
    tensor, traceparent = _large(ALIGNED_FROM_BYTES), "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    traced = InferRequest(1, DIGEST, 1, tensor=tensor, traceparent=traceparent, trace_clock=TraceClock(0.5, 7))
    data = codec.request_to_bytes(traced)
    assert (len(data) - tensor.wire_bytes) % ALIGNMENT == 0
    codec.request_from_bytes(data)
    misses = _request_fields.cache_info().misses
    codec.request_from_bytes(codec.request_to_bytes(traced._replace(traceparent=traceparent.replace("a", "c"))))
    assert _request_fields.cache_info().misses == misses


def test_a_clock_that_says_nothing_costs_the_trace_and_not_the_answer(codec: TailCodec) -> None:
    request = InferRequest(1, DIGEST, 1, tensor=TENSOR, traceparent="00-a", trace_clock=TraceClock(math.nan, 7))
    read = codec.request_from_bytes(codec.request_to_bytes(request))
    assert (read.problem, read.trace_clock) == (None, None)
    response = InferResponse(1, None, 0.5, 0.25, BacklogState(2.0, 49.0, 1.0, 4.0), TENSOR, traced_arrival_s=math.inf)
    assert codec.response_from_bytes(codec.response_to_bytes(response)).traced_arrival_s == 0.0


def test_a_response_is_these_very_bytes(codec: TailCodec) -> None:
    response = InferResponse(1, None, 0.5, 0.25, BacklogState(2.0, 49.0, 1.0, 4.0), TENSOR)
    assert (
        codec.response_to_bytes(response).hex()
        == (
            "0801"  # request_id
            "19000000000000e03f" + "21000000000000d03f"  # queue_wait_s, service_s
            "2a24"
            + "090000000000000040"
            + "11000000000000f03f"
            + "19000000000000f03f"
            + "210000000000001040"  # backlog
            "3211" + "0a020103" + "1001" + "1803" + "250000003f" + "2802" + "3001"  # header
            "7a03010203"  # data, last
        )
    )


@pytest.mark.parametrize("size", [0, 4, 124, 128, 4092, 4096, 4100, 16384, 600_000, 2_400_000])
@pytest.mark.parametrize("traceparent", ["", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"])
def test_the_ordinary_parser_and_serializer_agree_on_requests(codec: TailCodec, size: int, traceparent: str) -> None:
    tensor = _large(size) if size else EncodedTensor(HEADER, b"")
    sent = InferRequest(5, DIGEST, 3, 0.25, tensor=tensor, traceparent=traceparent)
    data = codec.request_to_bytes(sent)
    message = edge_pb2.InferRequest.FromString(data)
    assert message.ByteSize() == len(data)
    message.ClearField("padding")
    assert message == edge_pb2.InferRequest(
        request_id=5,
        model_digest=bytes.fromhex(DIGEST),
        cut=3,
        budget_s=0.25,
        header=header_to_wire(tensor.header),
        traceparent=traceparent,
        data=bytes(tensor.data),
    )
    assert _plain(codec.request_from_bytes(message.SerializeToString())) == _plain(sent)
    assert _plain(codec.request_from_bytes(data)) == _plain(sent)


@pytest.mark.parametrize("size", [4, 4096, 600_000])
def test_the_ordinary_parser_and_serializer_agree_on_responses(codec: TailCodec, size: int) -> None:
    sent = InferResponse(5, None, 0.125, 0.25, BacklogState(0.5, 40.0, 0.1, 3.0), _large(size))
    data = codec.response_to_bytes(sent)
    message = edge_pb2.InferResponse.FromString(data)
    assert message.SerializeToString() == data
    assert (message.request_id, message.queue_wait_s, message.service_s, message.backlog.age_s) == (
        5,
        0.125,
        0.25,
        10.0,
    )
    assert message.data == bytes(_large(size).data)
    assert _plain(codec.response_from_bytes(data)) == _plain(sent)


def _plain(message: InferRequest | InferResponse) -> InferRequest | InferResponse:
    assert message.tensor is not None
    return message._replace(tensor=message.tensor._replace(data=bytes(message.tensor.data)))


@pytest.mark.parametrize("request_id", [1, 127, 128, 2**14, 2**21, 2**28, 2**63])
@pytest.mark.parametrize("extra", range(0, 64, 4))
def test_a_large_payload_starts_at_an_aligned_place(codec: TailCodec, request_id: int, extra: int) -> None:
    tensor = _large(ALIGNED_FROM_BYTES + extra)
    data = codec.request_to_bytes(InferRequest(request_id, DIGEST, 1, tensor=tensor))
    assert (len(data) - tensor.wire_bytes) % ALIGNMENT == 0


def test_a_payload_is_read_as_a_view(codec: TailCodec) -> None:
    data = codec.request_to_bytes(InferRequest(1, DIGEST, 1, tensor=_large(8192)))
    tensor = codec.request_from_bytes(data).tensor
    assert tensor is not None
    assert isinstance(tensor.data, memoryview)
    assert tensor.data.obj is data


@pytest.mark.parametrize("payload", [b"z" * 50, b"\x7a\x04zzzz", b"\x7a\x00", bytes(range(256)) * 40, b"\x7a" * 5000])
def test_a_payload_that_looks_like_a_field_is_still_the_payload(codec: TailCodec, payload: bytes) -> None:
    digest = "7a" * 32
    sent = InferRequest(0x7A, digest, 0x7A, tensor=EncodedTensor(HEADER, payload), traceparent="zzzz\x02zz")
    data = codec.request_to_bytes(sent)
    assert edge_pb2.InferRequest.FromString(data).data == payload
    assert _plain(codec.request_from_bytes(data)) == _plain(sent)


def test_fields_in_any_order_are_read(codec: TailCodec) -> None:
    first = edge_pb2.InferRequest(data=b"abc").SerializeToString()
    rest = edge_pb2.InferRequest(request_id=9, model_digest=bytes(32), header=header_to_wire(HEADER))
    read = codec.request_from_bytes(first + rest.SerializeToString())
    assert read.problem is None
    assert read.tensor == EncodedTensor(HEADER, b"abc")


def test_of_two_payloads_the_last_counts_as_for_the_ordinary_parser(codec: TailCodec) -> None:
    once = codec.request_to_bytes(InferRequest(9, DIGEST, 1, tensor=TENSOR))
    data = once + edge_pb2.InferRequest(data=b"xyz").SerializeToString()
    tensor = codec.request_from_bytes(data).tensor
    assert tensor is not None
    assert bytes(tensor.data) == edge_pb2.InferRequest.FromString(data).data == b"xyz"


def test_a_field_of_a_later_version_is_passed_over(codec: TailCodec) -> None:
    data = b"\xa2\x06\x03new" + codec.request_to_bytes(InferRequest(9, DIGEST, 1, tensor=_large(8192)))
    read = codec.request_from_bytes(data)
    assert read.problem is None
    assert read.request_id == 9


def test_a_head_longer_than_the_search_is_read_by_the_ordinary_parser(codec: TailCodec) -> None:
    sent = InferRequest(9, DIGEST, 1, tensor=TENSOR, traceparent="t" * 10_000)
    assert _plain(codec.request_from_bytes(codec.request_to_bytes(sent))) == _plain(sent)


def test_a_cancellation_is_its_number_alone(codec: TailCodec) -> None:
    data = codec.request_to_bytes(InferRequest(7, DIGEST, 3, 1.0, is_cancel=True, tensor=TENSOR))
    assert edge_pb2.InferRequest.FromString(data) == edge_pb2.InferRequest(request_id=7, cancel=True)
    assert codec.request_from_bytes(data) == InferRequest(7, is_cancel=True)


def test_no_budget_is_no_limit(codec: TailCodec) -> None:
    read = codec.request_from_bytes(codec.request_to_bytes(InferRequest(7, DIGEST, 3, None, tensor=TENSOR)))
    assert read.budget_s is None


def test_a_refusal_crosses_with_the_backlog(codec: TailCodec) -> None:
    sent = InferResponse(7, error=EdgeFullError("full; try later"), backlog=BacklogState(3.0, 50.0))
    read = codec.response_from_bytes(codec.response_to_bytes(sent))
    assert type(read.error) is EdgeFullError
    assert str(read.error) == "full; try later"
    assert (read.request_id, read.backlog, read.tensor) == (7, BacklogState(3.0, 50.0), None)


def test_a_backlog_is_put_on_the_readers_clock() -> None:
    data = TailCodec(ManualClock(1000.0)).response_to_bytes(
        InferResponse(1, backlog=BacklogState(2.0, at_s=999.0), tensor=TENSOR)
    )
    assert TailCodec(ManualClock(3.0)).response_from_bytes(data).backlog == BacklogState(2.0, at_s=2.0)


def _request(**changes: object) -> bytes:
    fields = {"request_id": 4, "model_digest": bytes(32), "cut": 1, "header": header_to_wire(HEADER), "data": b"abc"}
    return edge_pb2.InferRequest(**{**fields, **changes}).SerializeToString()


@pytest.mark.parametrize(
    ("data", "request_id", "error", "says"),
    [
        (b"\xff\xff\xff", 0, BadMessageError, "not an InferRequest"),
        (b"\x0a", 0, BadMessageError, "not an InferRequest"),
        (b"", 0, BadMessageError, "request_id"),
        (_request(request_id=0), 0, BadMessageError, "request_id"),
        (_request(model_digest=b""), 4, BadMessageError, "model_digest"),
        (_request(model_digest=bytes(31)), 4, BadMessageError, "model_digest"),
        (_request(budget_s=-1.0), 4, BadMessageError, "budget_s"),
        (_request(budget_s=math.nan), 4, BadMessageError, "budget_s"),
        (_request(header=None), 4, BadMessageError, "header"),
        (_request(header=edge_pb2.InferRequest().header), 4, TensorError, "unknown"),
    ],
)
def test_a_bad_request_is_delivered_with_its_problem(
    codec: TailCodec, data: bytes, request_id: int, error: type, says: str
) -> None:
    read = codec.request_from_bytes(data)
    assert read.request_id == request_id
    assert type(read.problem) is error
    assert says in str(read.problem)


@pytest.mark.parametrize("tail", [b"\x7a", b"\x7a\x80", b"\x7a\xff\xff\xff\xff\xff\x01"])
def test_a_payload_without_its_length_is_a_problem(codec: TailCodec, tail: bytes) -> None:
    head = codec.request_to_bytes(InferRequest(4, DIGEST, 1, 1.0, tensor=EncodedTensor(HEADER, b"")))
    assert codec.request_from_bytes(head).problem is None
    assert codec.request_from_bytes(head + tail).problem is not None


@pytest.mark.parametrize("size", range(60))
def test_a_message_that_ends_early_is_a_problem(codec: TailCodec, size: int) -> None:
    whole = codec.request_to_bytes(InferRequest(4, DIGEST, 1, 1.0, tensor=TENSOR))
    for tail in (b"", b"\x7a", b"\x7a\x80", b"\x7a\x00", b"\x7a\x01z"):
        assert codec.request_from_bytes(whole[:size] + tail).problem is not None
    answer = codec.response_to_bytes(InferResponse(4, backlog=BacklogState(1.0, 40.0), tensor=TENSOR))
    assert codec.response_from_bytes(answer[:size] + b"\x7a\x01z").problem is not None


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (edge_pb2.InferResponse(request_id=4, queue_wait_s=-1.0, header=header_to_wire(HEADER)), "queue_wait_s"),
        (edge_pb2.InferResponse(request_id=4, service_s=math.inf, header=header_to_wire(HEADER)), "service_s"),
        (edge_pb2.InferResponse(request_id=4, backlog=edge_pb2.Backlog(backlog_s=1.0)), "time_constant_s"),
        (edge_pb2.InferResponse(request_id=4), "header"),
    ],
)
def test_a_bad_response_is_delivered_with_its_problem(
    codec: TailCodec, message: edge_pb2.InferResponse, says: str
) -> None:
    read = codec.response_from_bytes(message.SerializeToString())
    assert read.request_id == 4
    assert says in str(read.problem)


def test_bytes_that_are_no_response_are_delivered_with_their_problem(codec: TailCodec) -> None:
    assert "not an InferResponse" in str(codec.response_from_bytes(b"\xff").problem)
