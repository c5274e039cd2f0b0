"""Where the payload lies in the bytes of a message, and how it is put there: its last field, aligned."""

from __future__ import annotations

from functools import lru_cache

from twinsplit.rpc.v1 import edge_pb2
from twinsplit.tensor import EncodedTensor, TensorHeader
from twinsplit.transport.convert import header_to_wire

ALIGNMENT = 16
ALIGNED_FROM_BYTES = 4096
"""Smaller payloads are not padded: copying them costs less than the padding."""

_DATA_TAG = bytes(((15 << 3) | 2,))
_PADDING_TAG = (14 << 3) | 2
_HEAD_BYTES = 4096
"""The payload's tag is looked for in so many first bytes; with a longer head the ordinary parser does it all."""
_PADDINGS = (
    b"",
    # An empty field would be two bytes too: one that any other serializer leaves out.
    *(
        bytes((_PADDING_TAG, size)) + bytes(size)
        for size in (-(taken + 2) % ALIGNMENT or ALIGNMENT for taken in range(1, ALIGNMENT))
    ),
)
"""Padding field by the number of other bytes before the payload, modulo the alignment."""
_VARINT_BYTES = 10
_SHORT_VARINTS = tuple(bytes((value,)) for value in range(128))


def framed(head: bytes, tensor: EncodedTensor | None, traceparent: bytes = b"") -> bytes:
    """``head`` (fields 1 to 5 of either message), the tensor's header, ``traceparent`` (its whole field), padding where
    the payload is large, and the payload; without a tensor just ``head``."""
    if tensor is None:
        return head
    header, data = tensor
    fields, tag, is_aligned = _frame(header, len(data))
    if not is_aligned:
        return b"".join((head, fields, traceparent, tag, data))
    padding = _PADDINGS[(len(head) + len(fields) + len(traceparent) + len(tag)) % ALIGNMENT]
    return b"".join((head, fields, traceparent, padding, tag, data))


def payload_place(data: bytes) -> tuple[int, int] | None:
    """(Where the bytes before the payload's field end, where the payload starts), if a payload seems to come last.

    Protobuf messages may be concatenated: if the bytes before are a message by themselves, then that message and that
    payload are what the ordinary parser would find. Whether they are is for the caller to see.
    """
    at = data.find(_DATA_TAG, 0, _HEAD_BYTES)
    while at >= 0:
        length, start = read_varint(data, at + 1)
        if start and start + length == len(data):
            return at, start
        at = data.find(_DATA_TAG, at + 1, _HEAD_BYTES)
    return None


def varint(value: int) -> bytes:
    """Protobuf's form of a number, 0 or more."""
    if value < 128:
        return _SHORT_VARINTS[value]
    out = bytearray()
    while value > 127:
        out.append((value & 127) | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at ``at`` and where it ends; an end of 0: no number there."""
    value = shift = 0
    for byte in data[at : at + _VARINT_BYTES]:
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    return 0, 0


@lru_cache(maxsize=256)
def _frame(header: TensorHeader, size: int) -> tuple[bytes, bytes, bool]:
    """The header's field, what comes right before ``size`` bytes of payload, and whether they are to be aligned.

    Shapes repeat: only affine headers differ from one tensor to the next.
    """
    fields = edge_pb2.InferRequest(header=header_to_wire(header)).SerializeToString()
    return fields, _DATA_TAG + varint(size) if size else b"", size >= ALIGNED_FROM_BYTES
