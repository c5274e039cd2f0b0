"""A tensor into its representation and back.

``float32`` stands for the tensor's own elements, whatever their type; ``float16``, ``uint8`` and ``uint4`` are for
tensors of floating point. The affine ones hold q with value = (q - zero_point) * scale, and 0 is always exact.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from twinsplit.errors import OversizeError, TensorError
from twinsplit.tensor.codecs import compress, decompress
from twinsplit.tensor.header import (
    DTYPES,
    KINDS,
    MAX_DIMENSIONS,
    PICTURE_KINDS,
    EncodedTensor,
    TensorHeader,
    wire_dtype,
)

_LEVELS = {"uint8": 255, "uint4": 15}
_NAMES_AS_STORED = {dtype: name for name, dtype in DTYPES.items() if dtype.isnative}
"""Types whose memory is what the wire wants; numpy's own names take long to ask for."""
_ANY_BITS = frozenset(DTYPES) - {"bool"}
"""Types of which every bit pattern is a value."""
_FLOAT16_MAX = float(np.finfo(np.float16).max)


def encode(tensor: NDArray[np.generic], kind: str, codec: str = "none") -> EncodedTensor:
    """Put ``tensor`` (any shape) into representation ``kind`` with ``codec``.

    With ``float32`` and no codec the payload is a view of the tensor, which must then not be written to before the
    payload is sent.

    Raises:
        TensorError: the element type does not fit the representation, values are not finite where they must be, or
            ``kind`` or ``codec`` is unknown.
    """
    name = _NAMES_AS_STORED.get(tensor.dtype)
    if kind == "float32" and codec == "none" and name is not None:
        try:
            # Refused for what is not contiguous or has no elements.
            view = tensor.data.cast("B")
        except TypeError:
            pass
        else:
            return EncodedTensor(TensorHeader(tensor.shape, name, kind, codec), view)
    dtype = tensor.dtype.name
    wire = wire_dtype(dtype)
    # ascontiguousarray would turn a scalar into a vector.
    tensor = tensor if tensor.flags.c_contiguous else np.ascontiguousarray(tensor)
    scale, zero_point = 0.0, 0
    if kind == "float32":
        body = tensor.astype(wire, copy=False)
    elif kind in ("float16", "uint8", "uint4"):
        if tensor.dtype.kind != "f":
            raise TensorError(f"tensor: {kind} needs a tensor of floating point, this one is {dtype}; use float32")
        if kind == "float16":
            body = _as_float16(tensor)
        else:
            body, scale, zero_point = _as_affine(tensor, _LEVELS[kind])
            if kind == "uint4":
                body = _packed(body.reshape(-1))
    elif kind in PICTURE_KINDS:
        raise TensorError(f"tensor: {kind} is made from a picture, not from a tensor")
    else:
        raise TensorError(f"tensor: representation {kind!r} is unknown; use one of {', '.join(KINDS)}")
    header = TensorHeader(tensor.shape, dtype, kind, codec, scale, zero_point)
    return EncodedTensor(header, compress(body.reshape(-1).view(np.uint8).data, codec))


def decode(header: TensorHeader, data: bytes | memoryview, max_elements: int) -> NDArray[np.generic]:
    """The tensor in ``data``, of the header's shape and element type, at most ``max_elements`` long.

    Sizes are checked before anything is allocated. The result may be a read-only view of ``data``.

    Raises:
        OversizeError: more elements than ``max_elements``, or more bytes than the shape needs.
        TensorError: the header is impossible, or the bytes do not fit it.
    """
    shape, dtype, kind, codec, _, _ = header
    if kind == "float32" and codec == "none" and dtype in _ANY_BITS:
        wire = DTYPES[dtype]
        count = math.prod(shape)
        # All checks at once: whatever fails goes through those below, which name it.
        if 0 < count <= max_elements and len(data) == count * wire.itemsize and _is_shape(shape):
            viewed: NDArray[np.generic] = np.ndarray(shape, wire, data)
            return viewed if viewed.flags.aligned else viewed.copy()
    count = check_header(header, max_elements)
    wire = wire_dtype(dtype)
    if kind == "float32":
        return _as_elements(_body(header, data, count * wire.itemsize), wire).reshape(shape)
    if kind in PICTURE_KINDS:
        raise TensorError(f"tensor: {kind} holds a picture, which only the input of a model can be")
    if wire.kind != "f":
        raise TensorError(f"tensor: {kind} cannot hold elements of type {dtype}")
    if kind == "float16":
        return _as_elements(_body(header, data, 2 * count), np.dtype("<f2")).astype(wire, copy=False).reshape(shape)
    body = _body(header, data, count if kind == "uint8" else (count + 1) // 2)
    return _from_affine(body, header, count, wire).reshape(shape)


def check_header(header: TensorHeader, max_elements: int) -> int:
    """See that ``header`` is possible and within ``max_elements``, before its bytes are looked at; gives its elements.

    Raises:
        OversizeError: more elements than ``max_elements``.
        TensorError: an impossible shape, scale or zero point, or an unknown representation.
    """
    shape, kind = header.shape, header.representation
    if not _is_shape(shape):
        raise TensorError(f"tensor: shape {shape} is impossible; all sizes must be above 0")
    count = math.prod(shape)
    if count > max_elements:
        raise OversizeError(f"tensor: shape {shape} has {count} elements, at most {max_elements} fit")
    if kind not in KINDS:
        raise TensorError(f"tensor: representation {kind!r} is unknown; use one of {', '.join(KINDS)}")
    levels = _LEVELS.get(kind)
    if levels is not None:
        if not (math.isfinite(header.scale) and header.scale > 0):
            raise TensorError(f"tensor: scale {header.scale} is impossible; it must be above 0")
        if not 0 <= header.zero_point <= levels:
            raise TensorError(f"tensor: zero point {header.zero_point} is outside 0..{levels}")
    return count


def _is_shape(shape: tuple[int, ...]) -> bool:
    return len(shape) <= MAX_DIMENSIONS and min(shape, default=1) > 0


def _body(header: TensorHeader, data: bytes | memoryview, expected: int) -> bytes | memoryview:
    body = decompress(data, header.codec, max_bytes=expected)
    if len(body) != expected:
        raise TensorError(f"tensor: {len(body)} bytes for shape {header.shape}, {expected} are needed")
    return body


def _as_elements(body: bytes | memoryview, wire: np.dtype[np.generic]) -> NDArray[np.generic]:
    flat = np.frombuffer(body, dtype=wire)
    if wire.kind == "b" and flat.size and int(flat.view(np.uint8).max()) > 1:
        raise TensorError("tensor: a truth value must be a byte 0 or 1")
    # Kernels may read whole vectors from an aligned address: a payload that starts anywhere else is copied once.
    return flat if flat.flags.aligned else flat.copy()


def _as_float16(tensor: NDArray[np.generic]) -> NDArray[np.generic]:
    with np.errstate(over="ignore"):
        body = tensor.astype("<f2")
    if np.isinf(body).any():
        # Large finite values saturate: infinity would spoil every output of the tail.
        infinite = np.isinf(tensor)
        body = np.clip(tensor, -_FLOAT16_MAX, _FLOAT16_MAX).astype("<f2")
        body[infinite] = tensor[infinite].astype("<f2")
    return body


def _as_affine(tensor: NDArray[np.generic], levels: int) -> tuple[NDArray[np.generic], float, int]:
    low = min(float(tensor.min(initial=0.0)), 0.0)
    high = max(float(tensor.max(initial=0.0)), 0.0)
    if not math.isfinite(low + high):
        raise TensorError("tensor: values are not finite; only float32 and float16 can hold them")
    scale = float(np.float32((high - low) / levels))
    if scale < float(np.finfo(np.float32).tiny):
        return np.zeros(tensor.shape, np.uint8), 1.0, 0
    zero_point = min(levels, round(-low / scale))
    work: NDArray[np.float64] = tensor.astype(np.float64 if tensor.dtype == np.float64 else np.float32)
    work *= 1.0 / scale
    work += zero_point + 0.5
    np.clip(work, 0.0, levels + 0.5, out=work)
    return work.astype(np.uint8), scale, zero_point


def _from_affine(
    body: bytes | memoryview, header: TensorHeader, count: int, wire: np.dtype[np.generic]
) -> NDArray[np.generic]:
    q = np.frombuffer(body, np.uint8)
    if header.representation == "uint4":
        pairs = q
        q = np.empty(2 * len(pairs), np.uint8)
        np.bitwise_and(pairs, 15, out=q[0::2])
        np.right_shift(pairs, 4, out=q[1::2])
        q = q[:count]
    flat: NDArray[np.float64] = q.astype(np.float64 if wire.itemsize == 8 else np.float32)
    flat -= header.zero_point
    flat *= header.scale
    if header.dtype == "float16":
        return _as_float16(flat)
    return flat


def _packed(q: NDArray[np.generic]) -> NDArray[np.generic]:
    flat = q.astype(np.uint8, copy=False)
    if len(flat) % 2:
        flat = np.append(flat, np.uint8(0))
    return flat[0::2] | (flat[1::2] << np.uint8(4))
