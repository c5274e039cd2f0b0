"""Requests and answers to and from their bytes, beside what the ordinary parser says."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError

from twinsplit.errors import BadMessageError, RefusedError, TensorError
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

FLOATS = b"\0\0\x80?\0\0\0@"
PARAMETERS = {"a": 0.5, "b": 3, "c": "text", "d": True, "e": -1, "f": 0.0}


def tensor(name: str = "x", data: bytes = FLOATS, shape: tuple[int, ...] = (1, 2)) -> NamedTensor:
    return NamedTensor(name, "FP32", shape, data)


def message(**changes: object) -> pb2.ModelInferRequest:
    """A request as another library makes it."""
    given: dict[str, object] = {
        "model_name": "m",
        "inputs": [pb2.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 2])],
        "raw_input_contents": [FLOATS],
    }
    return pb2.ModelInferRequest(**given | changes)


def input_of(**changes: object) -> pb2.ModelInferRequest.InferInputTensor:
    given: dict[str, object] = {"name": "x", "datatype": "FP32", "shape": [1, 2]}
    return pb2.ModelInferRequest.InferInputTensor(**given | changes)


def read(request: pb2.ModelInferRequest) -> InferenceRequest:
    return request_from_bytes(request.SerializeToString())


def test_a_request_is_what_protobuf_reads() -> None:
    asked = InferenceRequest("m", "2", "an:id", PARAMETERS, (tensor(), tensor("y", FLOATS * 2, (4,))), ("out",))
    found = pb2.ModelInferRequest.FromString(request_to_bytes(asked))
    assert (found.model_name, found.model_version, found.id) == ("m", "2", "an:id")
    assert {k: getattr(v, v.WhichOneof("parameter_choice")) for k, v in found.parameters.items()} == PARAMETERS
    assert [(i.name, i.datatype, list(i.shape)) for i in found.inputs] == [("x", "FP32", [1, 2]), ("y", "FP32", [4])]
    assert list(found.raw_input_contents) == [FLOATS, FLOATS * 2]
    assert [output.name for output in found.outputs] == ["out"]
    again = request_from_bytes(request_to_bytes(asked))
    assert again._replace(inputs=()) == asked._replace(inputs=())
    assert [bytes(each.data) for each in again.inputs] == [FLOATS, FLOATS * 2]


def test_an_answer_is_what_protobuf_reads() -> None:
    given = InferenceResponse("m", "2", "id", PARAMETERS, (tensor(),))
    found = pb2.ModelInferResponse.FromString(response_to_bytes(given))
    assert (found.model_name, found.model_version, found.id) == ("m", "2", "id")
    assert {k: getattr(v, v.WhichOneof("parameter_choice")) for k, v in found.parameters.items()} == PARAMETERS
    assert list(found.raw_output_contents) == [FLOATS]
    again = response_from_bytes(found.SerializeToString())
    assert again._replace(outputs=()) == given._replace(outputs=())
    assert bytes(again.outputs[0].data) == FLOATS


def test_a_payload_that_comes_last_is_a_view_of_the_message() -> None:
    data = request_to_bytes(InferenceRequest("m", inputs=(tensor(data=FLOATS * 1000, shape=(2000,)),)))
    payload = request_from_bytes(data).inputs[0].data
    assert isinstance(payload, memoryview)
    assert payload.obj is data


def test_typed_elements_are_read_and_answered_in_kind() -> None:
    typed = pb2.InferTensorContents(fp32_contents=[1.0, 2.0])
    request = read(message(inputs=[input_of(contents=typed)], raw_input_contents=[]))
    assert (request.problem, request.is_typed, bytes(request.inputs[0].data)) == (None, True, FLOATS)
    answer = InferenceResponse("m", outputs=(tensor(),), is_typed=request.is_typed)
    found = pb2.ModelInferResponse.FromString(response_to_bytes(answer))
    assert list(found.outputs[0].contents.fp32_contents) == [1.0, 2.0]
    assert not found.raw_output_contents
    assert bytes(response_from_bytes(found.SerializeToString()).outputs[0].data) == FLOATS


def test_halves_are_answered_raw_since_no_field_holds_them() -> None:
    half = NamedTensor("y", "FP16", (2,), b"\0<\0@")
    found = pb2.ModelInferResponse.FromString(response_to_bytes(InferenceResponse("m", outputs=(half,), is_typed=True)))
    assert list(found.raw_output_contents) == [b"\0<\0@"]


def test_a_request_with_many_tensors_keeps_their_order() -> None:
    inputs = [input_of(name=f"x{n}", shape=[n + 1]) for n in range(3)]
    request = read(message(inputs=inputs, raw_input_contents=[bytes(4 * (n + 1)) for n in range(3)]))
    assert [(each.name, len(each.data)) for each in request.inputs] == [("x0", 4), ("x1", 8), ("x2", 12)]


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"raw_input_contents": []}, TensorError, "0 bytes"),
        ({"raw_input_contents": [FLOATS, FLOATS]}, BadMessageError, "2 for 1 tensors"),
        ({"inputs": []}, BadMessageError, "1 for 0 tensors"),
        ({"raw_input_contents": [FLOATS[:-1]]}, TensorError, "7 bytes"),
        ({"inputs": [input_of(contents=pb2.InferTensorContents(fp32_contents=[1]))]}, BadMessageError, "beside"),
        ({"inputs": [input_of(datatype="FLOAT")]}, TensorError, "unknown"),
        ({"inputs": [input_of(shape=[-1, 2])]}, TensorError, "below 0"),
        (
            {"inputs": [input_of(parameters={"shared_memory_region": pb2.InferParameter(string_param="r")})]},
            BadMessageError,
            "shared_memory_region is an extension",
        ),
        (
            {
                "outputs": [
                    pb2.ModelInferRequest.InferRequestedOutputTensor(
                        name="y", parameters={"classification": pb2.InferParameter(int64_param=3)}
                    )
                ]
            },
            BadMessageError,
            "classification is an extension",
        ),
    ],
)
def test_a_request_that_contradicts_itself_says_how(
    changes: dict[str, object], error: type[RefusedError], says: str
) -> None:
    for _ in range(2):  # the second time it is remembered
        problem = read(message(**changes)).problem
        assert isinstance(problem, error)
        assert says in str(problem)


def test_the_id_of_a_request_that_contradicts_itself_is_known() -> None:
    assert read(message(id="seven", raw_input_contents=[b"abc"])).request_id == "seven"


@pytest.mark.parametrize("data", [b"\x0f", b"\x0a\x7f", b"\x08\xff", b"\x3a\x05abc"])
def test_bytes_that_are_no_request_are_said_to_be_none(data: bytes) -> None:
    with pytest.raises(DecodeError):
        request_from_bytes(data)
    assert isinstance(response_from_bytes(b"\x0a\x7f").problem, BadMessageError)


def test_an_answer_that_contradicts_itself_says_so() -> None:
    bad = pb2.ModelInferResponse(model_name="m", raw_output_contents=[b"abc"])
    assert isinstance(response_from_bytes(bad.SerializeToString()).problem, BadMessageError)
    bad.outputs.add(name="y", datatype="FP32", shape=[1])
    assert isinstance(response_from_bytes(bad.SerializeToString()).problem, TensorError)


def test_an_empty_request_has_no_tensors() -> None:
    assert request_from_bytes(b"") == InferenceRequest("")
