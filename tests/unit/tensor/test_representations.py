"""Every element type and representation survives the way through ``encode`` and ``decode``; what cannot is refused."""

import numpy as np
import pytest

from twinsplit.errors import OversizeError, TensorError
from twinsplit.tensor import EncodedTensor, TensorHeader, decode, encode
from twinsplit.tensor.header import CODECS, DTYPES, KINDS, PICTURE_KINDS

TENSOR_KINDS = [kind for kind in KINDS if kind not in PICTURE_KINDS]
VALUES = np.random.default_rng(7).standard_normal((1, 3, 5, 7)).astype(np.float32)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_own_elements_come_back_bit_for_bit(dtype: str, codec: str) -> None:
    tensor = (VALUES * 10).astype(dtype)
    encoded = encode(tensor, "float32", codec)
    decoded = decode(encoded.header, encoded.data, tensor.size)
    assert decoded.dtype == tensor.dtype
    assert np.array_equal(decoded, tensor)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(("kind", "step"), [("float16", 2.0**-11 * 4), ("uint8", 1 / 255), ("uint4", 1 / 15)])
def test_rounding_stays_within_one_step(kind: str, step: float, dtype: str, codec: str) -> None:
    tensor = VALUES.astype(dtype)
    encoded = encode(tensor, kind, codec)
    decoded = decode(encoded.header, encoded.data, tensor.size)
    span = float(tensor.max()) - float(tensor.min())
    assert decoded.dtype == tensor.dtype
    assert np.abs(decoded.astype(np.float64) - tensor.astype(np.float64)).max() <= step * span


@pytest.mark.parametrize("kind", TENSOR_KINDS)
def test_every_representation_keeps_zero_exactly(kind: str) -> None:
    tensor = np.array([[-1.7, 0.0, 0.0, 3.1]], np.float32)
    encoded = encode(tensor, kind)
    assert decode(encoded.header, encoded.data, 4)[0, 1] == 0.0


@pytest.mark.parametrize(("kind", "size"), [("float32", 60), ("float16", 30), ("uint8", 15), ("uint4", 8)])
def test_bytes_on_the_wire_are_those_of_the_representation(kind: str, size: int) -> None:
    encoded = encode(np.ones((1, 15), np.float32), kind)
    assert encoded.wire_bytes == size
    assert encoded.header.raw_bytes == 60


@pytest.mark.parametrize("value", [0.0, 5.0, -5.0, 1e-42, 3.4e38, -3.4e38])
@pytest.mark.parametrize("kind", ["uint8", "uint4"])
def test_a_constant_tensor_comes_back_as_it_was(kind: str, value: float) -> None:
    tensor = np.full((1, 9), value, np.float32)
    encoded = encode(tensor, kind)
    assert np.allclose(decode(encoded.header, encoded.data, 9), tensor, rtol=1e-6, atol=1e-38)


def test_affine_levels_at_both_ends_are_used() -> None:
    encoded = encode(np.linspace(-1, 1, 1001, dtype=np.float32).reshape(1, -1), "uint8")
    levels = np.frombuffer(encoded.data, np.uint8)
    assert (levels.min(), levels.max()) == (0, 255)
    assert 127 <= encoded.header.zero_point <= 128


def test_two_elements_share_a_byte_with_the_first_in_the_low_half() -> None:
    encoded = encode(np.array([[0.0, 15.0, 7.0]], np.float32), "uint4")
    assert bytes(encoded.data) == bytes([0xF0, 0x07])


def test_float16_saturates_large_values_and_keeps_infinity() -> None:
    encoded = encode(np.array([[1e6, -1e6, np.inf, -np.inf, 1.0]], np.float32), "float16")
    decoded = decode(encoded.header, encoded.data, 5)
    assert decoded.tolist() == [[65504.0, -65504.0, np.inf, -np.inf, 1.0]]


def test_affine_values_beyond_float16_saturate_on_the_way_back() -> None:
    header = TensorHeader((1, 2), "float16", "uint8", "none", 1000.0, 0)
    assert decode(header, bytes([0, 200]), 2).tolist() == [[0.0, 65504.0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["uint8", "uint4"])
def test_values_that_are_not_finite_have_no_affine_form(kind: str, bad: float) -> None:
    with pytest.raises(TensorError, match="not finite"):
        encode(np.array([[1.0, bad]], np.float32), kind)


@pytest.mark.parametrize("kind", ["float16", "uint8", "uint4"])
def test_integers_are_sent_as_they_are_or_not_at_all(kind: str) -> None:
    tensor = np.ones((1, 4), np.int64)
    with pytest.raises(TensorError, match="use float32"):
        encode(tensor, kind)
    with pytest.raises(TensorError, match="cannot hold"):
        decode(TensorHeader((1, 4), "int64", kind, "none", 1.0, 0), bytes(32), 4)


@pytest.mark.parametrize("tensor", [np.ones((3, 4), ">f4") * 3, np.arange(12.0, dtype="f4").reshape(3, 4).T])
def test_memory_order_does_not_show(tensor: np.ndarray) -> None:
    encoded = encode(tensor, "float32")
    assert np.array_equal(decode(encoded.header, encoded.data, 12), tensor)


def test_a_scalar_stays_a_scalar() -> None:
    encoded = encode(np.float32(2.5).reshape(()), "float32")
    decoded = decode(encoded.header, encoded.data, 1)
    assert decoded.shape == ()
    assert decoded == 2.5


def test_the_payload_of_a_contiguous_tensor_is_a_view() -> None:
    tensor = np.zeros((1, 4), np.float32)
    encoded = encode(tensor, "float32")
    tensor[0, 0] = 1.0
    assert decode(encoded.header, encoded.data, 4)[0, 0] == 1.0


def test_an_unaligned_payload_is_copied_into_place() -> None:
    encoded = encode(VALUES, "float32")
    shifted = memoryview(b"x" + bytes(encoded.data))[1:]
    decoded = decode(encoded.header, shifted, VALUES.size)
    assert decoded.flags.aligned
    assert np.array_equal(decoded, VALUES)


def _header(**changes: object) -> TensorHeader:
    return TensorHeader((1, 4), "float32", "float32")._replace(**changes)


@pytest.mark.parametrize(
    ("header", "size", "says"),
    [
        (_header(shape=(1, 0)), 0, "impossible"),
        (_header(shape=(-2, -2)), 16, "impossible"),
        (_header(shape=(1,) * 17), 4, "impossible"),
        (_header(dtype="float8"), 16, "element type"),
        (_header(representation="bfloat16"), 16, "representation"),
        (_header(codec="lz4"), 16, "codec"),
        (_header(representation="png"), 16, "picture"),
        (_header(representation="uint8", scale=0.0), 4, "scale"),
        (_header(representation="uint8", scale=float("nan")), 4, "scale"),
        (_header(representation="uint8", scale=1.0, zero_point=256), 4, "zero point"),
        (_header(representation="uint4", scale=1.0, zero_point=16), 2, "zero point"),
        (_header(), 15, "are needed"),
        (_header(representation="uint8", scale=1.0), 3, "are needed"),
    ],
)
def test_an_impossible_header_is_refused_by_name(header: TensorHeader, size: int, says: str) -> None:
    with pytest.raises(TensorError, match=says):
        decode(header, bytes(size), 100)


def test_a_truth_value_is_a_byte_0_or_1() -> None:
    with pytest.raises(TensorError, match="0 or 1"):
        decode(_header(dtype="bool"), bytes([0, 1, 2, 0]), 4)


@pytest.mark.parametrize(("shape", "size"), [((1, 5), 20), ((2**31, 2**31), 4)])
def test_more_elements_than_fit_are_refused_before_bytes_are_looked_at(shape: tuple[int, int], size: int) -> None:
    with pytest.raises(OversizeError, match="at most 4"):
        decode(_header(shape=shape), bytes(size), 4)


def test_more_bytes_than_the_shape_needs_are_oversize() -> None:
    with pytest.raises(OversizeError):
        decode(_header(), bytes(17), 4)


@pytest.mark.parametrize("kind", sorted(PICTURE_KINDS))
def test_a_picture_is_not_made_from_a_tensor(kind: str) -> None:
    with pytest.raises(TensorError, match="picture"):
        encode(VALUES, kind)


def test_an_unknown_representation_is_named() -> None:
    with pytest.raises(TensorError, match="'int8'"):
        encode(VALUES, "int8")


def test_a_type_that_may_not_cross_the_wire_is_named() -> None:
    with pytest.raises(TensorError, match="complex64"):
        encode(VALUES.astype(np.complex64), "float32")


def test_wire_bytes_of_a_compressed_payload_are_the_compressed_ones() -> None:
    encoded = encode(np.zeros((1, 10_000), np.float32), "float32", "zstd")
    assert isinstance(encoded, EncodedTensor)
    assert encoded.wire_bytes < 100
