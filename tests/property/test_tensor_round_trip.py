"""Any tensor comes back within the error its representation allows, and no bytes whatever do anything but a refusal."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from twinsplit.errors import RefusedError
from twinsplit.tensor import TensorHeader, decode, encode
from twinsplit.tensor.header import CODECS, DTYPES, KINDS

FINITE = st.floats(-(2.0**99), 2.0**99, width=32)
TENSORS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=6), elements=FINITE)


@settings(deadline=None)
@given(TENSORS, st.sampled_from(["uint8", "uint4"]), st.sampled_from(CODECS))
def test_affine_error_is_at_most_one_step(tensor: np.ndarray, kind: str, codec: str) -> None:
    encoded = encode(tensor, kind, codec)
    decoded = decode(encoded.header, encoded.data, tensor.size)
    error = np.abs(decoded.astype(np.float64) - tensor.astype(np.float64)).max()
    largest = float(np.abs(tensor).max())
    # Half a step of rounding, half a step of the zero point, and float32's own rounding at the largest value.
    assert decoded.shape == tensor.shape
    assert error <= encoded.header.scale * 1.01 + largest * 1e-6 + 1e-37


@settings(deadline=None)
@given(TENSORS, st.sampled_from(CODECS))
def test_encoding_twice_gives_the_same_bytes(tensor: np.ndarray, codec: str) -> None:
    first, second = encode(tensor, "uint8", codec), encode(tensor.copy(), "uint8", codec)
    assert first.header == second.header
    assert bytes(first.data) == bytes(second.data)


HEADERS = st.builds(
    TensorHeader,
    st.lists(st.integers(0, 2**32 - 1) | st.integers(1, 4), max_size=5).map(tuple),
    st.sampled_from(sorted(DTYPES)),
    st.sampled_from(KINDS),
    st.sampled_from(CODECS),
    st.floats(width=32),
    st.integers(0, 2**32 - 1),
)


@settings(deadline=None, max_examples=300)
@given(HEADERS, st.binary(max_size=300))
def test_arbitrary_headers_and_bytes_give_a_tensor_or_a_refusal(header: TensorHeader, data: bytes) -> None:
    try:
        decoded = decode(header, data, 64)
    except RefusedError:
        return
    assert decoded.shape == header.shape
    assert decoded.size <= 64
