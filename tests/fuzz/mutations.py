"""How a good message becomes a bad one: mutations with names, over bytes and over fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from twinsplit.errors import ErrorCode


class Bad(NamedTuple):
    """A message that must be refused."""

    name: str
    data: bytes
    code: ErrorCode
    """The refusal by which."""
    word: str = ""
    """What the refusal's text must name, or another fault of the message has hidden this one."""


UNREADABLE: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[:-1],
    "a wire type that there is not": lambda data: data + b"\x0f",
    "field number 0": lambda data: data + b"\x00\x00",
    "a length beyond the end": lambda data: data + b"\x0a\x7f",
    "a number without end": lambda data: data + b"\x08" + b"\xff" * 11,
    "a group without end": lambda data: data + b"\x0b",
    "an end without a group": lambda data: data + b"\x0c",
}
"""Bytes after which a message is none. Each of ours ends with a field that has a length, so that it can be cut off."""

IMPOSSIBLE = {"nan": math.nan, "inf": math.inf, "-1": -1.0, "1e39": 1e39}
"""Values that no time, share, power or rate has."""
_MARK = "tobereplaced"
_NO_TEXT = b"\xff\xfe\xff" * 4

Tolerated = Mapping[str, str]
"""Field (``Message.field``) to the reason why whatever number stands there is taken."""


def unreadable(name: str, message: Message) -> Iterator[Bad]:
    """``message`` in bytes that are none, and with text that is none."""
    data = message.SerializeToString()
    for mutation, mutate in UNREADABLE.items():
        yield Bad(f"{name}: {mutation}", mutate(data), ErrorCode.BAD_MESSAGE)
    for place in _places(message):
        if place.field.type == FieldDescriptor.TYPE_STRING:
            marked = place.changed(message, _MARK).SerializeToString()
            text = marked.replace(_MARK.encode(), _NO_TEXT)
            yield Bad(f"{name}: {place} is not UTF-8", text, ErrorCode.BAD_MESSAGE)


def impossible_numbers(name: str, message: Message, tolerated: Tolerated) -> Iterator[Bad]:
    """``message`` with each of its numbers, one at a time, as none can be."""
    for place in _places(message):
        if place.field.cpp_type in _FLOATS and place.field.full_name.removeprefix(_PACKAGE) not in tolerated:
            for text, value in IMPOSSIBLE.items():
                changed = place.changed(message, value).SerializeToString()
                yield Bad(f"{name}: {place} = {text}", changed, ErrorCode.BAD_MESSAGE, place.field.name)


def floats_of(descriptor: Descriptor) -> set[str]:
    """All places for a number that a message may have, as ``Message.field``."""
    found: set[str] = set()
    for field in descriptor.fields:
        if field.cpp_type in _FLOATS:
            found.add(field.full_name.removeprefix(_PACKAGE))
        elif field.message_type is not None:
            found |= floats_of(field.message_type)
    return found


def floats_in(message: Message) -> set[str]:
    """Those that this one has."""
    return {p.field.full_name.removeprefix(_PACKAGE) for p in _places(message) if p.field.cpp_type in _FLOATS}


_FLOATS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
_PACKAGE = "twinsplit.rpc.v1."


class _Place(NamedTuple):
    path: tuple[tuple[str, int | None], ...]
    """Names of fields, with the position where one is repeated."""
    field: FieldDescriptor

    def changed(self, message: Message, value: Any) -> Message:
        """A copy of ``message`` with ``value`` here."""
        copy = type(message)()
        copy.CopyFrom(message)
        at: Any = copy
        for name, index in self.path[:-1]:
            at = getattr(at, name) if index is None else getattr(at, name)[index]
        name, index = self.path[-1]
        if index is None:
            setattr(at, name, value)
        else:
            getattr(at, name)[index] = value
        return copy

    def __str__(self) -> str:
        return ".".join(name if index is None else f"{name}[{index}]" for name, index in self.path)


def _places(message: Message, path: tuple[tuple[str, int | None], ...] = ()) -> Iterator[_Place]:
    """Every scalar that ``message`` has; of a repeated one the last."""
    for field, value in message.ListFields():
        index = len(value) - 1 if field.is_repeated else None
        here = (*path, (field.name, index))
        if field.message_type is None:
            yield _Place(here, field)
        else:
            yield from _places(value if index is None else value[index], here)
