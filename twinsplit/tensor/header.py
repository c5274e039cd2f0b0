"""What is known of a payload apart from its bytes."""

from __future__ import annotations

import math
from typing import NamedTuple, get_args

import numpy as np

from twinsplit.errors import TensorError
from twinsplit.model.manifest import CodecName, RepresentationKind

DTYPES: dict[str, np.dtype[np.generic]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "float64": np.dtype("<f8"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "uint8": np.dtype("u1"),
    "int8": np.dtype("i1"),
    "bool": np.dtype("?"),
}
"""Element types that may cross the wire, little-endian."""

KINDS: tuple[str, ...] = get_args(RepresentationKind)
CODECS: tuple[str, ...] = get_args(CodecName)
PICTURE_KINDS = frozenset({"png", "jpeg"})
MAX_DIMENSIONS = 16


# Tuples, since one of each is made per message on every side and frozen dataclasses take several times as long.
class TensorHeader(NamedTuple):
    """Everything about a payload but its bytes (``tensor.proto``)."""

    shape: tuple[int, ...]
    """Shape after decoding; the first dimension is the batch."""
    dtype: str
    """Element type after decoding, a key of :data:`DTYPES`."""
    representation: str
    """``float32`` (the tensor's own elements of any type), ``float16``, ``uint8``, ``uint4``, ``png``, ``jpeg``."""
    codec: str = "none"
    scale: float = 0.0
    """Affine scale of ``uint8`` and ``uint4``; 0 elsewhere."""
    zero_point: int = 0
    """Affine zero point of ``uint8`` and ``uint4``; 0 elsewhere."""

    @property
    def element_count(self) -> int:
        """Elements after decoding."""
        return math.prod(self.shape)

    @property
    def raw_bytes(self) -> int:
        """Bytes of the decoded tensor, for the ratio of wire to raw bytes.

        Raises:
            TensorError: an unknown element type.
        """
        return self.element_count * wire_dtype(self.dtype).itemsize


class EncodedTensor(NamedTuple):
    """A payload ready for the wire. ``data`` may be a view of the tensor it was made from."""

    header: TensorHeader
    data: bytes | memoryview

    @property
    def wire_bytes(self) -> int:
        """Bytes of the payload on the wire, header apart."""
        return len(self.data)


def wire_dtype(name: str) -> np.dtype[np.generic]:
    """Little-endian numpy type of an element type's name.

    Raises:
        TensorError: not one that may cross the wire.
    """
    try:
        return DTYPES[name]
    except KeyError:
        raise TensorError(f"tensor: element type {name!r} is unknown; use one of {', '.join(DTYPES)}") from None
