"""What edge and computing process tell each other over a pair of sockets. Nothing is unpickled.

A payload travels as the InferRequest that brought it, an output as the InferResponse that will carry it (their codec
is ``twinsplit/transport/tail_messages.py``). Instants are readings of the machine's monotonic clock, which both share.
That a tail is wanted no longer is a byte in memory that both map: it counts at once, whatever waits to be read.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from twinsplit import errors
from twinsplit.errors import RefusedError, TwinsplitError
from twinsplit.tensor import EncodedTensor
from twinsplit.transport.tail_messages import InferRequest, InferResponse, TailCodec

FLAGS = 256
"""Bytes of shared memory; an order has one per tail, from its ``first_flag`` on."""

_ORDER = struct.Struct("<BII")
"""Kind, number, first flag."""
_TAIL = struct.Struct("<dI")
"""Deadline (infinite: none) and length of the request behind it."""
_ENDED = struct.Struct("<BIdd")
"""Kind, number, instants of begin and end."""
_LENGTH = struct.Struct("<I")
_ERROR = 0xFFFFFFFF
"""In place of a length: what follows is an error, and concerns the whole order."""
_codec = TailCodec()


class Kind(IntEnum):
    """What an order asks for, and what an answer is to."""

    TAILS = 1
    CHECK = 2


class Start(BaseModel):
    """What a computing process is told first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: Path
    provider: str
    threads: int
    slowdown: float
    profile: Path | None
    log_level: str
    is_log_json: bool


class Measured(BaseModel):
    """What a model costs: see :class:`edge.models.HeldModel`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    segment_s: tuple[float, ...]
    decode_s: tuple[float, ...]
    batches_from: int | None


class Step(BaseModel):
    """What it says while it starts: a line for people, or the end of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    progress: str = ""
    models: tuple[Measured, ...] = ()
    error: str = ""
    """Name of the error that ends it, of :mod:`twinsplit.errors`."""
    text: str = ""


class OrderedTail(NamedTuple):
    """One tail of an order."""

    model: str
    cut: int
    tensor: EncodedTensor
    deadline_at_s: float | None


class Order(NamedTuple):
    """What is to be run."""

    kind: Kind
    number: int
    first_flag: int
    tails: Sequence[OrderedTail] = ()
    digest: str = ""
    """Of the model to check."""
    problem: RefusedError | None = None
    """Set by the reader: why it cannot be run."""


class Ended(NamedTuple):
    """What became of an order."""

    number: int
    began_s: float
    ended_s: float
    outputs: Sequence[EncodedTensor | None] = ()
    error: TwinsplitError | None = None
    quickest_s: float | None = None
    """Of a check; ``None``: there was work."""


def order_to_bytes(order: Order) -> bytes:
    """Kind, number and flag, then each tail behind its deadline and length."""
    parts = [_ORDER.pack(order.kind, order.number, order.first_flag), order.digest.encode()]
    for tail in order.tails:
        request = _codec.request_to_bytes(InferRequest(1, tail.model, tail.cut, None, False, tail.tensor))
        deadline_at_s = math.inf if tail.deadline_at_s is None else tail.deadline_at_s
        parts += (_TAIL.pack(deadline_at_s, len(request)), request)
    return b"".join(parts)


def order_from_bytes(data: bytes) -> Order:
    """Read an order; see its ``problem``."""
    kind, number, first_flag = _ORDER.unpack_from(data)
    if kind == Kind.CHECK:
        return Order(Kind.CHECK, number, first_flag, digest=data[_ORDER.size :].decode())
    tails, at = [], _ORDER.size
    while at < len(data):
        deadline_at_s, length = _TAIL.unpack_from(data, at)
        at += _TAIL.size
        request = _codec.request_from_bytes(data[at : at + length])
        at += length
        if request.tensor is None:
            return Order(Kind.TAILS, number, first_flag, problem=request.problem)
        deadline = None if deadline_at_s == math.inf else deadline_at_s
        tails.append(OrderedTail(request.model_digest, request.cut, request.tensor, deadline))
    return Order(Kind.TAILS, number, first_flag, tails)


def ended_to_bytes(ended: Ended, kind: Kind) -> bytes:
    """Kind, number and times, then each output behind its length; 0: none."""
    head = _ENDED.pack(kind, ended.number, ended.began_s, ended.ended_s)
    if kind is Kind.CHECK:
        return head + json.dumps(ended.quickest_s).encode()
    if ended.error is not None:
        return head + _LENGTH.pack(_ERROR) + _codec.response_to_bytes(InferResponse(1, ended.error))
    parts = [head]
    for output in ended.outputs:
        response = b"" if output is None else _codec.response_to_bytes(InferResponse(1, tensor=output))
        parts += (_LENGTH.pack(len(response)), response)
    return b"".join(parts)


def ended_from_bytes(data: bytes) -> Ended:
    """Read what became of an order."""
    kind, number, began_s, ended_s = _ENDED.unpack_from(data)
    at = _ENDED.size
    if kind == Kind.CHECK:
        return Ended(number, began_s, ended_s, quickest_s=json.loads(data[at:]))
    outputs: list[EncodedTensor | None] = []
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if length == _ERROR:
            return Ended(number, began_s, ended_s, error=_codec.response_from_bytes(data[at:]).error)
        outputs.append(_codec.response_from_bytes(data[at : at + length]).tensor if length else None)
        at += length
    return Ended(number, began_s, ended_s, outputs)


def error_named(name: str, text: str) -> TwinsplitError:
    """The error of that name."""
    kind: Any = getattr(errors, name, None)
    is_ours = isinstance(kind, type) and issubclass(kind, TwinsplitError)
    return kind(text) if is_ours else TwinsplitError(text)
