"""Bad answers of an edge to a device that has the tiny model."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import zstandard
from google.protobuf.message import Message

from tests.fuzz.bad_tails import header
from tests.fuzz.mutations import UNREADABLE, Bad, Tolerated, impossible_numbers
from tests.unit.edge.tiny_model import SHAPES
from twinsplit.errors import ErrorCode
from twinsplit.rpc.v1 import edge_pb2

OUTPUT = SHAPES[-1]
TOLERATED: Tolerated = {
    "TensorHeader.scale": "floats have none; what it is for those that have one is decided below",
    "InferResponse.traced_arrival_s": "costs the device the edge's part of the trace, not the answer",
}
BAD_MESSAGE, BAD_TENSOR, OVERSIZE = ErrorCode.BAD_MESSAGE, ErrorCode.BAD_TENSOR, ErrorCode.OVERSIZE


def good(task_id: int) -> edge_pb2.InferResponse:
    """The answer to one tail, with every field."""
    return edge_pb2.InferResponse(
        request_id=task_id,
        queue_wait_s=0.01,
        service_s=0.01,
        backlog=edge_pb2.Backlog(backlog_s=0.1, age_s=0.01, mean_s=0.1, time_constant_s=1.0),
        header=header(shape=OUTPUT),
        traced_arrival_s=1.0,
        data=_output(3.0, 0.0, 0.0, 0.0),
    )


def description(digest: str) -> edge_pb2.DescribeResponse:
    """What an edge says of itself, with every field."""
    return edge_pb2.DescribeResponse(
        edge_id="edge",
        model_digests=[bytes.fromhex(digest)],
        backlog=edge_pb2.Backlog(backlog_s=0.1, age_s=0.01, mean_s=0.1, time_constant_s=1.0),
        provider="CPUExecutionProvider",
        version="1.0.0",
        unix_ns=1,
        max_message_bytes=1 << 24,
    )


def bad_answers(task_id: int) -> Iterator[Bad]:
    """Answers to ``task_id`` that say so."""
    yield from impossible_numbers("answer", good(task_id), TOLERATED)
    packed = zstandard.compress(bytes(math.prod(OUTPUT)))
    affine = {"representation": 3, "codec": 2, "shape": OUTPUT}
    changed: dict[str, tuple[ErrorCode, str, dict[str, object]]] = {
        "no header": (BAD_MESSAGE, "header", {"header": None}),
        "another shape": (BAD_TENSOR, "shape", {"header": header(shape=(1, 5))}),
        "no shape": (BAD_TENSOR, "shape", {"header": header(shape=())}),
        "a shape without end": (BAD_TENSOR, "shape", {"header": header(shape=((1 << 32) - 1,) * 4)}),
        "an unknown type": (BAD_TENSOR, "type", {"header": header(shape=OUTPUT, dtype=99)}),
        "an unknown codec": (BAD_TENSOR, "codec", {"header": header(shape=OUTPUT, codec=9)}),
        "a picture": (BAD_TENSOR, "picture", {"header": header(shape=OUTPUT, representation=5)}),
        "no bytes": (BAD_TENSOR, "bytes", {"data": b""}),
        "a byte too few": (BAD_TENSOR, "bytes", {"data": bytes(15)}),
        "a byte too many": (OVERSIZE, "bytes", {"data": bytes(17)}),
        "compressed: is not": (BAD_TENSOR, "Zstandard", {"header": header(**affine), "data": b"no frame"}),
        "compressed: cut off": (BAD_TENSOR, "Zstandard", {"header": header(**affine), "data": packed[:-3]}),
        "compressed: a bomb": (OVERSIZE, "", {"header": header(**affine), "data": zstandard.compress(bytes(64 << 20))}),
        "affine: scale is nan": (BAD_TENSOR, "scale", {"header": header(**affine, scale=math.nan), "data": packed}),
        "affine: scale below 0": (BAD_TENSOR, "scale", {"header": header(**affine, scale=-1.0), "data": packed}),
        "an output of nan": (BAD_TENSOR, "nan", {"data": _output(3.0, math.nan, 0.0, 0.0)}),
        "an output of inf": (BAD_TENSOR, "inf", {"data": _output(3.0, math.inf, 0.0, 0.0)}),
        "an output of -inf": (BAD_TENSOR, "-inf", {"data": _output(*[-math.inf] * 4)}),
    }
    for name, (code, word, fields) in changed.items():
        message = good(task_id)
        for field, value in fields.items():
            if value is None:
                message.ClearField(field)
            elif isinstance(value, Message):
                getattr(message, field).CopyFrom(value)
            else:
                setattr(message, field, value)
        yield Bad(f"answer: {name}", message.SerializeToString(), code, word)


def unreadable_answers(task_id: int) -> Iterator[Bad]:
    """Bytes that are no answer, or one that does not say to what."""
    for name, mutate in UNREADABLE.items():
        yield Bad(f"answer: {name}", mutate(good(task_id).SerializeToString()), BAD_MESSAGE, "not an InferResponse")


def _output(*elements: float) -> bytes:
    return np.array(elements, np.float32).tobytes()
