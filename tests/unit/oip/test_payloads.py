"""A tensor of a request as the payload of a cut."""

from __future__ import annotations

import numpy as np
import pytest

from twinsplit.errors import BadMessageError, TensorError
from twinsplit.model.manifest import TensorSpec
from twinsplit.oip.datatypes import bytes_of_elements
from twinsplit.oip.messages import InferenceRequest, NamedTensor
from twinsplit.oip.parameters import SAYS_NOTHING, RequestSays
from twinsplit.oip.payloads import named_output, only_element, only_input, payload_of
from twinsplit.tensor import TensorHeader, encode

SPEC = TensorSpec(name="t1", shape=(1, 4), dtype="float32")


def test_elements_as_they_are_are_the_tensors_own() -> None:
    payload = payload_of(NamedTensor("t1", "FP32", (1, 4), bytes(16)), SAYS_NOTHING, SPEC)
    assert payload == (TensorHeader((1, 4), "float32", "float32"), bytes(16))


def test_halves_stand_for_floats() -> None:
    payload = payload_of(NamedTensor("t1", "FP16", (1, 4), bytes(8)), SAYS_NOTHING, SPEC)
    assert payload.header == TensorHeader((1, 4), "float32", "float16")


def test_another_type_is_told_as_it_is_and_left_to_the_check_of_the_cut() -> None:
    assert payload_of(NamedTensor("t1", "INT64", (4,), bytes(32)), SAYS_NOTHING, SPEC).header.dtype == "int64"


def test_a_representation_comes_as_bytes_or_as_numbers() -> None:
    says = RequestSays(representation="uint8", codec="zstd", scale=0.5, zero_point=3)
    header = TensorHeader((1, 4), "float32", "uint8", "zstd", 0.5, 3)
    assert payload_of(NamedTensor("t1", "UINT8", (3,), b"abc"), says, SPEC) == (header, b"abc")
    payload = payload_of(NamedTensor("t1", "BYTES", (1,), bytes_of_elements([b"abc"])), says, SPEC)
    assert (payload.header, bytes(payload.data)) == (header, b"abc")
    assert payload_of(NamedTensor("t1", "UINT8", (3,), b"abc"), says._replace(raw_shape=(2, 2)), SPEC).header.shape == (
        2,
        2,
    )


@pytest.mark.parametrize(("data", "kind"), [(b"\x89PNG....", "png"), (b"\xff\xd8\xff\xe0", "jpeg")])
def test_a_picture_is_known_by_its_beginning(data: bytes, kind: str) -> None:
    payload = payload_of(NamedTensor("frame", "BYTES", (1,), bytes_of_elements([data])), SAYS_NOTHING, SPEC)
    assert payload.header == TensorHeader((1, 4), "float32", kind)


def test_bytes_that_are_no_picture_are_refused() -> None:
    with pytest.raises(TensorError, match="neither a PNG nor a JPEG"):
        payload_of(NamedTensor("frame", "BYTES", (1,), bytes_of_elements([b"GIF89a"])), SAYS_NOTHING, SPEC)


def test_types_that_no_model_of_ours_has_are_refused() -> None:
    with pytest.raises(TensorError, match=r"UINT16 cannot hold float32; send FP32 \[1, 4\]"):
        payload_of(NamedTensor("t1", "UINT16", (1, 4), bytes(8)), SAYS_NOTHING, SPEC)


@pytest.mark.parametrize("elements", [[], [b"a", b"b"]])
def test_a_picture_is_one_element(elements: list[bytes]) -> None:
    with pytest.raises(TensorError, match=f"{len(elements)} elements"):
        only_element(NamedTensor("frame", "BYTES", (1,), bytes_of_elements(elements)))


def test_the_one_input_goes_by_its_name() -> None:
    tensor = NamedTensor("t1", "FP32", (1,), bytes(4))
    assert only_input(InferenceRequest("m", inputs=(tensor,)), SPEC, is_picture_taken=True) is tensor
    with pytest.raises(BadMessageError, match="'t1' is not this model's; send t2"):
        only_input(
            InferenceRequest("m", inputs=(tensor,)), SPEC.model_copy(update={"name": "t2"}), is_picture_taken=False
        )
    for inputs in ((), (tensor, tensor)):
        with pytest.raises(BadMessageError, match=f"{len(inputs)} tensors"):
            only_input(InferenceRequest("m", inputs=inputs), SPEC, is_picture_taken=True)


def test_a_picture_takes_the_inputs_place_where_there_may_be_one() -> None:
    picture = NamedTensor("frame", "BYTES", (1,), bytes_of_elements([b"file"]))
    asked = InferenceRequest("m", inputs=(picture,))
    assert only_input(asked, SPEC, is_picture_taken=True) is picture
    with pytest.raises(BadMessageError, match="'frame' is not this model's; send t1"):
        only_input(asked, SPEC, is_picture_taken=False)
    with pytest.raises(BadMessageError, match="of datatype BYTES"):
        only_input(asked._replace(inputs=(picture._replace(datatype="UINT8"),)), SPEC, is_picture_taken=True)


def test_an_output_is_named_and_not_copied() -> None:
    values = np.arange(4, dtype=np.float32)[None]
    output = named_output(SPEC, encode(values, "float32"))
    assert output[:3] == ("t1", "FP32", (1, 4))
    assert np.shares_memory(np.frombuffer(output.data, np.float32), values)
