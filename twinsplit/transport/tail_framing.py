"""Where the payload lies in the bytes of a message, and how it is put there: its last field, aligned."""

from __future__ import annotations

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


def before_payload(fields: bytes, taken_bytes: int, payload_bytes: int) -> bytes:
    """``fields``, padding where the payload is large, and the payload's tag and length.

    Args:
        fields: whole fields of a message.
        taken_bytes: what is written before them.
        payload_bytes: what is written after what is returned.
    """
    if payload_bytes == 0:
        return fields
    tag = _DATA_TAG + varint(payload_bytes)
    if payload_bytes < ALIGNED_FROM_BYTES:
        return fields + tag
    return fields + _PADDINGS[(taken_bytes + len(fields) + len(tag)) % ALIGNMENT] + tag


def payload_place(data: bytes) -> tuple[int, int] | None:
    """(Where the bytes before the payload's field end, where the payload starts), if a payload seems to come last.

    Protobuf messages may be concatenated: if the bytes before are a message by themselves, then that message and that
    payload are what the ordinary parser would find. Whether they are is for the caller to see.
    """
    size = len(data)
    at = data.find(_DATA_TAG, 0, _HEAD_BYTES)
    while at >= 0:
        length, start = read_varint(data, at + 1)
        if start and start + length == size:
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
