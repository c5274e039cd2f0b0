"""Where the payload lies in the bytes of a message, and how it is put there: its last field, aligned."""

from __future__ import annotations

from typing import NamedTuple

ALIGNMENT = 16
ALIGNED_FROM_BYTES = 4096
"""Smaller payloads are not padded: copying them costs less than the padding."""

_DATA_TAG = bytes(((15 << 3) | 2,))
_NUMBER_TAG = 0x08
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


class Frame(NamedTuple):
    """A message of the tail stream at first sight."""

    number: int
    """What stands at the very front as field 1; 0: something else stands there."""
    rest_at: int
    """Where the fields after it begin."""
    head_end: int
    """Where the payload's field begins, its tag and length included."""
    payload_at: int
    """Where the payload begins; it reaches to the end."""


def frame_of(data: bytes) -> Frame | None:
    """Where the parts of ``data`` lie, if a payload seems to come last; ``None``: none does.

    Protobuf messages may be concatenated: if the bytes before ``head_end`` are a message by themselves, then that
    message and that payload are what the ordinary parser would find. Whether they are is for the caller to see.
    """
    # One function with both loops: between large payloads each call costs microseconds (docs/design, transport).
    size = len(data)
    head_end = data.find(_DATA_TAG, 0, _HEAD_BYTES)
    while head_end >= 0:
        at = head_end + 1
        length = shift = 0
        for byte in data[at : at + 5]:
            at += 1
            length |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
        else:
            at = 0
        if at and at + length == size:
            break
        head_end = data.find(_DATA_TAG, head_end + 1, _HEAD_BYTES)
    else:
        return None
    number = shift = rest_at = 0
    if data[0] == _NUMBER_TAG:
        rest_at = 1
        for byte in data[1 : 1 + _VARINT_BYTES]:
            rest_at += 1
            number |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
        else:
            number = 0
    return Frame(number, rest_at, head_end, at)


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
