"""Whatever crosses by the Open Inference Protocol, our reader says what the ordinary parser says."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from twinsplit.oip.messages import (
    InferenceRequest,
    InferenceResponse,
    NamedTensor,
    request_from_bytes,
    request_to_bytes,
    response_from_bytes,
    response_to_bytes,
)
from twinsplit.oip.v2 import inference_pb2 as pb2

TEXT = st.text(max_size=8) | st.sampled_from(["m", "a:b", "::::", "2\x02"])
VALUES = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8) | st.floats(allow_nan=False)
PARAMETERS = st.dictionaries(TEXT, VALUES, max_size=4)
PAYLOADS = st.binary(max_size=200) | st.integers(126, 130).map(bytes) | st.just(b":\x01:2\x01" * 900)


def tensor(name: str, data: bytes) -> NamedTensor:
    return NamedTensor(name, "UINT8", (len(data),), data)


TENSORS = st.builds(tensor, TEXT, PAYLOADS)
REQUESTS = st.builds(
    InferenceRequest,
    TEXT,
    TEXT,
    TEXT,
    PARAMETERS,
    st.lists(TENSORS, max_size=3).map(tuple),
    st.lists(TEXT, max_size=2).map(tuple),
    st.just(False),
    st.none(),
)
RESPONSES = st.builds(
    InferenceResponse,
    TEXT,
    TEXT,
    TEXT,
    PARAMETERS,
    st.lists(TENSORS, max_size=3).map(tuple),
    st.just(False),
    st.none(),
)


def values(parameters: Any) -> dict[str, Any]:
    return {name: getattr(each, each.WhichOneof("parameter_choice")) for name, each in parameters.items()}


@settings(deadline=None, max_examples=60)
@given(REQUESTS)
def test_requests(request: InferenceRequest) -> None:
    message = pb2.ModelInferRequest.FromString(request_to_bytes(request))
    assert (message.model_name, message.model_version, message.id) == request[:3]
    assert values(message.parameters) == request.parameters
    assert list(message.raw_input_contents) == [each.data for each in request.inputs]
    assert [output.name for output in message.outputs] == list(request.outputs)
    for data in (request_to_bytes(request), message.SerializeToString()):
        read = request_from_bytes(data)
        assert read.problem is None
        assert (read[:4], read.outputs) == (request[:4], request.outputs)
        assert [(*each[:3], bytes(each.data)) for each in read.inputs] == [
            (*each[:3], each.data) for each in request.inputs
        ]


@settings(deadline=None, max_examples=60)
@given(RESPONSES)
def test_responses(response: InferenceResponse) -> None:
    message = pb2.ModelInferResponse.FromString(response_to_bytes(response))
    assert (message.model_name, message.model_version, message.id) == response[:3]
    assert values(message.parameters) == response.parameters
    assert list(message.raw_output_contents) == [each.data for each in response.outputs]
    for data in (response_to_bytes(response), message.SerializeToString()):
        read = response_from_bytes(data)
        assert read.problem is None
        assert read[:4] == response[:4]
        assert [(*each[:3], bytes(each.data)) for each in read.outputs] == [
            (*each[:3], each.data) for each in response.outputs
        ]


@settings(deadline=None, max_examples=60)
@given(st.lists(TENSORS.filter(lambda each: len(each.data) > 0), min_size=1, max_size=3).map(tuple))
def test_typed_answers_say_the_same_as_raw_ones(outputs: tuple[NamedTensor, ...]) -> None:
    raw = response_from_bytes(response_to_bytes(InferenceResponse("m", outputs=outputs)))
    typed = response_from_bytes(response_to_bytes(InferenceResponse("m", outputs=outputs, is_typed=True)))
    assert typed.is_typed
    assert [bytes(each.data) for each in typed.outputs] == [bytes(each.data) for each in raw.outputs]


WIRE_INPUTS = st.builds(
    pb2.ModelInferRequest.InferInputTensor,
    name=TEXT,
    datatype=st.sampled_from(["UINT8", "FP32", "INT8", "BYTES", "FLOAT", ""]),
    shape=st.lists(st.integers(-1, 4), max_size=2),
    contents=st.none()
    | st.builds(
        pb2.InferTensorContents,
        fp32_contents=st.lists(st.floats(width=32), max_size=3),
        uint_contents=st.lists(st.integers(0, 300), max_size=3),
        bytes_contents=st.lists(st.binary(max_size=2), max_size=2),
    ),
)
WIRE_REQUESTS = st.builds(
    pb2.ModelInferRequest,
    model_name=TEXT,
    id=TEXT,
    inputs=st.lists(WIRE_INPUTS, max_size=2),
    raw_input_contents=st.lists(st.binary(max_size=6), max_size=2),
)


@settings(deadline=None, max_examples=120)
@given(st.lists(WIRE_REQUESTS, min_size=1, max_size=3), st.binary(max_size=3), st.integers(0, 40))
def test_what_is_joined_damaged_or_contradicts_itself_is_read_as_the_ordinary_parser_does(
    parts: list[pb2.ModelInferRequest], piece: bytes, at: int
) -> None:
    data = b"".join(part.SerializeToString() for part in parts)
    data = data[:at] + piece + data[at + len(piece) :]
    try:
        message = pb2.ModelInferRequest.FromString(data)
    except DecodeError:
        message = None
    try:
        read = request_from_bytes(data)
    except DecodeError:
        assert message is None
        return
    assert message is not None
    assert (read.model_name, read.model_version, read.request_id) == (
        message.model_name,
        message.model_version,
        message.id,
    )
    if read.problem is None:
        assert [(each.name, each.datatype, list(each.shape)) for each in read.inputs] == [
            (each.name, each.datatype, list(each.shape)) for each in message.inputs
        ]
        if not read.is_typed:
            assert [bytes(each.data) for each in read.inputs] == list(message.raw_input_contents)
