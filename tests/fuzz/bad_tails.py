"""Bad requests to an edge that holds the tiny model."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import zstandard

from tests.fuzz.mutations import Bad, Tolerated, impossible_numbers, unreadable
from tests.unit.edge.tiny_model import SHAPES
from twinsplit.errors import ErrorCode
from twinsplit.rpc.v1 import edge_pb2, tensor_pb2

TOLERATED: Tolerated = {
    "TensorHeader.scale": "floats have none; what it is for those that have one is decided below",
    "TraceClock.earliest_arrival_s": "costs the sender the trace, not the answer",
}
FLOATS = math.prod(SHAPES[1])
BAD_MESSAGE, BAD_TENSOR, OVERSIZE = ErrorCode.BAD_MESSAGE, ErrorCode.BAD_TENSOR, ErrorCode.OVERSIZE


def good(digest: str, request_id: int = 1) -> edge_pb2.InferRequest:
    """A tail after cut 1, with every field that one may have."""
    return edge_pb2.InferRequest(
        request_id=request_id,
        model_digest=bytes.fromhex(digest),
        cut=1,
        budget_s=30.0,
        header=header(),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        trace_clock=edge_pb2.TraceClock(earliest_arrival_s=1.0, origin_unix_ns=1),
        data=bytes(4 * FLOATS),
    )


def header(**changes: object) -> tensor_pb2.TensorHeader:
    """Of the tensor of cut 1 as it is."""
    given: dict[str, object] = {"shape": SHAPES[1], "dtype": 1, "representation": 1, "codec": 1, "scale": 1.0}
    return tensor_pb2.TensorHeader(**given | changes)


def affine(**changes: object) -> tensor_pb2.TensorHeader:
    """Of the same as one byte per element, compressed."""
    return header(**{"representation": 3, "codec": 2} | changes)


def bad_tails(digest: str) -> Iterator[Bad]:
    """All of them; what they are refused by is the contract."""
    whole = good(digest)
    yield from unreadable("tail", whole)
    yield from impossible_numbers("tail", whole, TOLERATED)
    for name, (code, changes) in _changed().items():
        message = good(digest)
        for field, value in changes.items():
            if value is None:
                message.ClearField(field)
            elif isinstance(value, tensor_pb2.TensorHeader):
                message.header.CopyFrom(value)
            else:
                setattr(message, field, value)
        yield Bad(f"tail: {name}", message.SerializeToString(), code)
    yield Bad("no tail at all", b"", BAD_MESSAGE)
    yield Bad("text", b"GET / HTTP/1.1", BAD_MESSAGE)
    yield Bad("another message", b"\x0a\x03cam\x12\x20" + bytes(32), BAD_MESSAGE)


def _changed() -> dict[str, tuple[ErrorCode, dict[str, object]]]:
    packed = zstandard.compress(bytes(FLOATS))
    return {
        "no id": (BAD_MESSAGE, {"request_id": None}),
        "no digest": (BAD_MESSAGE, {"model_digest": None}),
        "a digest too short": (BAD_MESSAGE, {"model_digest": bytes(31)}),
        "a digest too long": (BAD_MESSAGE, {"model_digest": bytes(33)}),
        "a model that is not here": (ErrorCode.WRONG_DIGEST, {"model_digest": bytes(32)}),
        "the last cut": (BAD_MESSAGE, {"cut": 3}),
        "a cut far off": (BAD_MESSAGE, {"cut": (1 << 32) - 1}),
        "the tensor of another cut": (BAD_TENSOR, {"cut": 2}),
        "no header": (BAD_MESSAGE, {"header": None}),
        "no type": (BAD_TENSOR, {"header": header(dtype=0)}),
        "an unknown type": (BAD_TENSOR, {"header": header(dtype=99)}),
        "another type": (BAD_TENSOR, {"header": header(dtype=3)}),
        "no representation": (BAD_TENSOR, {"header": header(representation=0)}),
        "an unknown representation": (BAD_TENSOR, {"header": header(representation=77)}),
        "a picture where no input is": (BAD_TENSOR, {"header": header(representation=5)}),
        "no codec": (BAD_TENSOR, {"header": header(codec=0)}),
        "an unknown codec": (BAD_TENSOR, {"header": header(codec=9)}),
        "a codec that is not offered": (BAD_TENSOR, {"header": header(codec=2)}),
        "no shape": (BAD_TENSOR, {"header": header(shape=())}),
        "an axis of 0": (BAD_TENSOR, {"header": header(shape=(1, 4, 8, 0))}),
        "an axis too many": (BAD_TENSOR, {"header": header(shape=(*SHAPES[1], 1))}),
        "a batch of two": (BAD_TENSOR, {"header": header(shape=(2, *SHAPES[1][1:]))}),
        "a shape without end": (BAD_TENSOR, {"header": header(shape=((1 << 32) - 1,) * 4)}),
        "a thousand axes": (BAD_TENSOR, {"header": header(shape=(1,) * 1000)}),
        "no bytes": (BAD_TENSOR, {"data": b""}),
        "a byte too few": (BAD_TENSOR, {"data": bytes(4 * FLOATS - 1)}),
        "a byte too many": (OVERSIZE, {"data": bytes(4 * FLOATS + 1)}),
        "more bytes than fit": (OVERSIZE, {"data": bytes(8 * FLOATS + 4096)}),
        "compressed: is not": (BAD_TENSOR, {"header": affine(), "data": b"no frame"}),
        "compressed: nothing": (BAD_TENSOR, {"header": affine(), "data": b""}),
        "compressed: cut off": (BAD_TENSOR, {"header": affine(), "data": packed[:-3]}),
        "compressed: goes on": (BAD_TENSOR, {"header": affine(), "data": packed + b"more"}),
        "compressed: twice": (BAD_TENSOR, {"header": affine(), "data": packed + packed}),
        "compressed: too little": (BAD_TENSOR, {"header": affine(), "data": zstandard.compress(bytes(FLOATS - 1))}),
        "compressed: too much": (OVERSIZE, {"header": affine(), "data": zstandard.compress(bytes(FLOATS + 1))}),
        "compressed: a bomb": (OVERSIZE, {"header": affine(), "data": zstandard.compress(bytes(64 << 20))}),
        "compressed: a size that lies": (
            OVERSIZE, {"header": affine(), "data": b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 62) + b"\1\0\0"}
        ),
        "affine: no scale": (BAD_TENSOR, {"header": affine(scale=0.0), "data": packed}),
        "affine: scale is nan": (BAD_TENSOR, {"header": affine(scale=math.nan), "data": packed}),
        "affine: scale is inf": (BAD_TENSOR, {"header": affine(scale=math.inf), "data": packed}),
        "affine: scale below 0": (BAD_TENSOR, {"header": affine(scale=-1.0), "data": packed}),
        "affine: zero point beyond": (BAD_TENSOR, {"header": affine(zero_point=256), "data": packed}),
        "picture: is none": (BAD_TENSOR, {"cut": 0, "header": _picture(5), "data": b"no picture"}),
        "picture: nothing": (BAD_TENSOR, {"cut": 0, "header": _picture(5), "data": b""}),
        "picture: a head alone": (BAD_TENSOR, {"cut": 0, "header": _picture(5), "data": b"\x89PNG\r\n\x1a\n"}),
        "picture: JPEG that is none": (BAD_TENSOR, {"cut": 0, "header": _picture(6), "data": b"\xff\xd8\xff\xe0"}),
    }  # fmt: skip


def _picture(representation: int) -> tensor_pb2.TensorHeader:
    return header(shape=SHAPES[0], representation=representation, scale=0.0)
