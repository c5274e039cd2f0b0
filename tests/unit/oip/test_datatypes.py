"""Elements by the protocol's rules: raw, in typed fields, and in bytes with lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from twinsplit.errors import TensorError
from twinsplit.oip.datatypes import (
    DATATYPES,
    bytes_of_elements,
    check_elements,
    contents_of_raw,
    elements_of_bytes,
    raw_of_contents,
)
from twinsplit.oip.v2.inference_pb2 import InferTensorContents
from twinsplit.tensor.header import DTYPES

EXTREMES: dict[str, tuple[str, str, list[Any]]] = {
    "BOOL": ("bool_contents", "?", [True, False, True]),
    "INT8": ("int_contents", "i1", [-128, 0, 127]),
    "INT16": ("int_contents", "<i2", [-32768, 0, 32767]),
    "INT32": ("int_contents", "<i4", [-(1 << 31), 0, (1 << 31) - 1]),
    "INT64": ("int64_contents", "<i8", [-(1 << 63), 0, (1 << 63) - 1]),
    "UINT8": ("uint_contents", "u1", [0, 200, 255]),
    "UINT16": ("uint_contents", "<u2", [0, 40000, 65535]),
    "UINT32": ("uint_contents", "<u4", [0, 1 << 31, (1 << 32) - 1]),
    "UINT64": ("uint64_contents", "<u8", [0, 1 << 63, (1 << 64) - 1]),
    "FP32": ("fp32_contents", "<f4", [-1.5, 0.0, 2.0**127]),
    "FP64": ("fp64_contents", "<f8", [-1.5, 0.0, 1e300]),
}


def test_each_of_our_element_types_has_its_name() -> None:
    assert set(DATATYPES) == set(DTYPES)
    for dtype, datatype in DATATYPES.items():
        check_elements("x", datatype, (3, 2), 6 * DTYPES[dtype].itemsize)


@pytest.mark.parametrize("datatype", EXTREMES)
def test_typed_elements_become_raw_ones_and_back(datatype: str) -> None:
    field, dtype, values = EXTREMES[datatype]
    contents = InferTensorContents(**{field: values})
    raw = raw_of_contents("x", datatype, contents)
    assert np.frombuffer(raw, dtype).tolist() == values
    assert contents_of_raw("x", datatype, raw) == contents


@pytest.mark.parametrize("datatype", EXTREMES)
def test_a_field_that_this_version_does_not_know_changes_no_element(datatype: str) -> None:
    field, dtype, values = EXTREMES[datatype]
    # Field 99, eight bytes.
    unknown = b"\x99\x06" + bytes(range(8))
    contents = InferTensorContents.FromString(InferTensorContents(**{field: values}).SerializeToString() + unknown)
    assert np.frombuffer(raw_of_contents("x", datatype, contents), dtype).tolist() == values


def test_more_elements_than_one_byte_of_length_can_tell() -> None:
    values = np.arange(5000, dtype="<f4")
    contents = contents_of_raw("x", "FP32", values.data.cast("B"))
    assert contents is not None
    assert bytes(raw_of_contents("x", "FP32", contents)) == values.tobytes()


def test_bytes_carry_their_lengths() -> None:
    raw = bytes_of_elements([b"", b"\xff\xd8", b"abc"])
    assert raw == b"\0\0\0\0\x02\0\0\0\xff\xd8\x03\0\0\0abc"
    assert [bytes(each) for each in elements_of_bytes("x", raw)] == [b"", b"\xff\xd8", b"abc"]
    contents = InferTensorContents(bytes_contents=[b"", b"\xff\xd8", b"abc"])
    assert raw_of_contents("x", "BYTES", contents) == raw
    assert contents_of_raw("x", "BYTES", raw) == contents


@pytest.mark.parametrize("raw", [b"\x01", b"\x05\0\0\0abcd", b"\0\0\0\0\x01\0\0", b"\xff\xff\xff\xff", b"abcdef"])
def test_lengths_that_do_not_fit_are_refused(raw: bytes) -> None:
    with pytest.raises(TensorError, match="four bytes"):
        elements_of_bytes("x", raw)


@pytest.mark.parametrize(
    ("datatype", "contents", "says"),
    [
        ("FP32", {"fp64_contents": [1.0]}, "stand in fp32_contents and nowhere else"),
        ("FP32", {"fp32_contents": [1.0], "int_contents": [1]}, "nowhere else"),
        ("INT8", {"int_contents": [128]}, "a number that INT8 cannot"),
        ("UINT8", {"uint_contents": [256]}, "a number that UINT8 cannot"),
        ("UINT8", {"int_contents": [1]}, "stand in uint_contents"),
        ("FP16", {"fp32_contents": [1.0]}, "no typed contents"),
        ("BF16", {}, "no typed contents"),
        ("FLOAT", {"fp32_contents": [1.0]}, "no typed contents"),
    ],
)
def test_elements_in_the_wrong_field_are_refused(datatype: str, contents: dict[str, Any], says: str) -> None:
    with pytest.raises(TensorError, match=says):
        raw_of_contents("x", datatype, InferTensorContents(**contents))


def test_halves_have_no_field() -> None:
    assert contents_of_raw("x", "FP16", bytes(4)) is None


@pytest.mark.parametrize(
    ("datatype", "shape", "byte_count", "says"),
    [
        ("FP32", (2, 3), 23, "23 bytes, but its datatype and shape need 24"),
        ("FP32", (2, 3), 25, "need 24"),
        ("FP32", (-1, 3), 12, "below 0"),
        ("FP32", (1 << 62, 1 << 62), 0, "need"),
        ("fp32", (1,), 4, "is unknown"),
        ("", (1,), 4, "is unknown"),
    ],
)
def test_bytes_that_are_not_the_tensors_are_refused(
    datatype: str, shape: tuple[int, ...], byte_count: int, says: str
) -> None:
    with pytest.raises(TensorError, match=says):
        check_elements("x", datatype, shape, byte_count)


def test_a_scalar_has_one_element() -> None:
    check_elements("x", "FP64", (), 8)
