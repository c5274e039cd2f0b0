"""Protobuf's text format, as much of it as Triton's model configuration needs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TypeAlias


class Word(str):
    """An enum value: written without quotation marks."""

    __slots__ = ()


Value: TypeAlias = "str | int | Sequence[Field]"
Field: TypeAlias = tuple[str, Value]
Message: TypeAlias = Sequence[Field]


def pbtxt(message: Message) -> str:
    """``message`` as text; a repeated field is one that stands there several times."""
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Message) -> Iterator[str]:
    for name, value in message:
        if isinstance(value, (Word, int)):
            yield f"{name}: {value}"
        elif isinstance(value, str):
            yield f"{name}: {json.dumps(value)}"
        else:
            yield f"{name} {{"
            yield from (f"  {line}" for line in _lines(value))
            yield "}"
