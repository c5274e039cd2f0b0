"""Whatever crosses the tail stream, the quick reader says what the ordinary parser says."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from twinsplit.clock import ManualClock
from twinsplit.reckoning import BacklogState
from twinsplit.rpc.v1 import edge_pb2, tensor_pb2
from twinsplit.tensor import EncodedTensor, TensorHeader
from twinsplit.tensor.header import CODECS, DTYPES, KINDS
from twinsplit.transport.convert import header_to_wire
from twinsplit.transport.tail_messages import InferRequest, InferResponse, TailCodec, TraceClock

CODEC = TailCodec(ManualClock(10.0))
IDS = st.integers(1, 2**64 - 1) | st.integers(1, 300)
HEADERS = st.builds(
    TensorHeader,
    st.lists(st.integers(0, 2**32 - 1) | st.just(0x7A), max_size=5).map(tuple),
    st.sampled_from(sorted(DTYPES)),
    st.sampled_from(KINDS),
    st.sampled_from(CODECS),
    st.floats(0, 100, width=32),
    st.integers(0, 255),
)
PAYLOADS = st.binary(max_size=200) | st.integers(4090, 4200).map(bytes) | st.just(b"\x7a\x01z" * 2000)
TENSORS = st.builds(EncodedTensor, HEADERS, PAYLOADS)
TIMES = st.just(0.0) | st.floats(0, 1e6)
CLOCKS = st.builds(TraceClock, st.floats(1e-9, 1e9), st.integers(1, 2**63 - 1))
REQUESTS = st.builds(
    InferRequest,
    IDS,
    st.binary(min_size=32, max_size=32).map(bytes.hex) | st.just("7a" * 32),
    st.integers(0, 2**32 - 1) | st.integers(0, 200),
    st.none() | st.floats(1e-9, 1e9),
    st.just(False),
    TENSORS,
    st.text(max_size=20) | st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    st.none() | CLOCKS,
    st.none(),
)
BACKLOGS = st.builds(BacklogState, TIMES, st.floats(-1e6, 10.0), TIMES, st.floats(1e-6, 1e6))
RESPONSES = st.builds(InferResponse, IDS, st.none(), TIMES, TIMES, st.none() | BACKLOGS, TENSORS, TIMES, st.none())


def _bytes(tensor: EncodedTensor | None) -> bytes:
    assert tensor is not None
    return bytes(tensor.data)


@settings(deadline=None)
@given(REQUESTS)
def test_requests(request: InferRequest) -> None:
    data = CODEC.request_to_bytes(request)
    message = edge_pb2.InferRequest.FromString(data)
    assert message.ByteSize() == len(data) - (9 if request.budget_s is None else 0)
    assert message.header == header_to_wire(request.tensor.header)
    assert (message.request_id, message.model_digest.hex(), message.cut) == request[:3]
    assert (message.budget_s or None, message.traceparent) == (request.budget_s, request.traceparent)
    clock = message.trace_clock if message.HasField("trace_clock") else None
    assert (clock and (clock.earliest_arrival_s, clock.origin_unix_ns)) == request.trace_clock
    assert message.data == _bytes(request.tensor)
    read = CODEC.request_from_bytes(data)
    assert read._replace(tensor=None) == request._replace(tensor=None)
    assert read.tensor is not None
    assert (read.tensor.header, _bytes(read.tensor)) == (request.tensor.header, message.data)


@settings(deadline=None)
@given(RESPONSES)
def test_responses(response: InferResponse) -> None:
    data = CODEC.response_to_bytes(response)
    message = edge_pb2.InferResponse.FromString(data)
    assert (message.request_id, message.queue_wait_s, message.service_s) == (response[0], response[2], response[3])
    assert message.HasField("backlog") == (response.backlog is not None)
    assert message.data == _bytes(response.tensor)
    read = CODEC.response_from_bytes(data)
    assert read.problem is None
    assert (read.request_id, read.queue_wait_s, read.service_s) == (response[0], response[2], response[3])
    assert read.traced_arrival_s == message.traced_arrival_s == response.traced_arrival_s
    assert (read.tensor.header, _bytes(read.tensor)) == (response.tensor.header, message.data)
    if response.backlog is not None:
        assert read.backlog is not None
        assert math.isclose(read.backlog.at_s, response.backlog.at_s, rel_tol=1e-9, abs_tol=1e-6)
        assert read.backlog.backlog_s == response.backlog.backlog_s


WIRE_HEADERS = st.builds(
    tensor_pb2.TensorHeader,
    shape=st.lists(st.integers(0, 9), max_size=3),
    dtype=st.integers(0, 9),
    representation=st.integers(0, 7),
    codec=st.integers(0, 3),
)
WIRE_REQUESTS = st.builds(
    edge_pb2.InferRequest,
    request_id=st.integers(0, 3),
    model_digest=st.binary(max_size=2) | st.binary(min_size=32, max_size=32),
    cut=st.integers(0, 300),
    budget_s=st.sampled_from([0.0, 1.0, -1.0, math.inf, math.nan]),
    cancel=st.booleans(),
    header=st.none() | WIRE_HEADERS,
    traceparent=st.text(max_size=3),
    trace_clock=st.none()
    | st.builds(
        edge_pb2.TraceClock, earliest_arrival_s=st.sampled_from([0.0, 1.0, math.nan]), origin_unix_ns=st.integers(0, 9)
    ),
    data=st.binary(max_size=6),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(WIRE_REQUESTS, min_size=1, max_size=3))
def test_concatenated_requests_are_read_as_the_ordinary_parser_merges_them(parts: list[edge_pb2.InferRequest]) -> None:
    data = b"".join(part.SerializeToString() for part in parts)
    message = edge_pb2.InferRequest.FromString(data)
    read = CODEC.request_from_bytes(data)
    assert read.request_id == message.request_id
    assert read.is_cancel == message.cancel
    if read.problem is None and not read.is_cancel:
        assert read.model_digest == message.model_digest.hex()
        assert (read.cut, read.budget_s or 0.0, read.traceparent) == (
            message.cut,
            message.budget_s,
            message.traceparent,
        )
        clock = message.trace_clock
        is_clock_sensible = message.HasField("trace_clock") and math.isfinite(clock.earliest_arrival_s)
        assert read.trace_clock == ((clock.earliest_arrival_s, clock.origin_unix_ns) if is_clock_sensible else None)
        assert read.tensor is not None
        assert _bytes(read.tensor) == message.data
        assert read.tensor.header.shape == tuple(message.header.shape)
    elif not read.is_cancel:
        is_possible = (
            message.request_id > 0
            and len(message.model_digest) == 32
            and 0.0 <= message.budget_s < math.inf
            and min(message.header.dtype, message.header.representation, message.header.codec) > 0
            and message.header.dtype < 9
            and message.header.representation < 7
            and message.header.codec < 3
        )
        assert not is_possible


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_a_message_or_a_problem(data: bytes) -> None:
    request, response = CODEC.request_from_bytes(data), CODEC.response_from_bytes(data)
    assert request.problem is not None or request.is_cancel or request.tensor is not None
    assert response.problem is not None or response.error is not None or response.tensor is not None


@settings(deadline=None, max_examples=200)
@given(REQUESTS, st.data())
def test_a_damaged_request_is_read_as_the_ordinary_parser_reads_it(request: InferRequest, draw: st.DataObject) -> None:
    data = bytearray(CODEC.request_to_bytes(request))
    at = draw.draw(st.integers(0, min(len(data), 120) - 1))
    if draw.draw(st.booleans()):
        data[at] ^= draw.draw(st.integers(1, 255))
    else:
        data[at:] = draw.draw(st.sampled_from([b"", b"z", b"z\x80", b"z\x00", b"z\x01z", b"z\x02z"]))
    read = CODEC.request_from_bytes(bytes(data))
    try:
        message = edge_pb2.InferRequest.FromString(bytes(data))
    except Exception:  # noqa: BLE001 - DecodeError, or bad text on some versions
        assert read.problem is not None
        return
    assert read.request_id == message.request_id
    if read.tensor is not None:
        assert _bytes(read.tensor) == message.data
        assert read.traceparent == message.traceparent
        assert (read.model_digest, read.cut) == (message.model_digest.hex(), message.cut)
