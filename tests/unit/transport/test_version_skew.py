"""One minor version apart, both ways: what a newer peer adds is passed over, what an older one leaves out is read as
not said, at every depth of every message of the protocol."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.unit.transport import golden_messages as golden

BY_NAME = {descriptor.name: descriptor for descriptor in golden.descriptors()}
NEWER = bytes.fromhex("faff07026869f1ff070102030405060708f8ff0705")
"""Fields that no version knows: 16383 as text, 16382 as a double, 16383 once more as a number of another kind."""


def messages_within(message: Message) -> Iterator[Message]:
    """``message`` and every message inside it."""
    yield message
    for field, value in message.ListFields():
        entry = field.message_type
        if entry is not None and not entry.GetOptions().map_entry:
            for inner in value if field.is_repeated else [value]:
                yield from messages_within(inner)


def read(descriptor: Descriptor, data: bytes) -> Message:
    message: Message = GetMessageClass(descriptor)()
    message.ParseFromString(data)
    return message


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_what_a_newer_peer_adds_anywhere_changes_nothing_that_is_known(name: str) -> None:
    for example in golden.examples(BY_NAME[name]):
        known = golden.as_json(example)
        newer = read(BY_NAME[name], example.SerializeToString())
        for inner in messages_within(newer):
            inner.MergeFromString(NEWER)
        data = newer.SerializeToString()
        assert len(data) > len(example.SerializeToString())
        assert golden.as_json(read(BY_NAME[name], data)) == known


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_what_an_older_peer_leaves_out_is_not_said_and_the_rest_stays(name: str) -> None:
    for example in golden.examples(BY_NAME[name]):
        known = golden.as_json(example)
        for field, _ in example.ListFields():
            older = read(BY_NAME[name], example.SerializeToString())
            older.ClearField(field.name)
            found = read(BY_NAME[name], older.SerializeToString())
            assert golden.as_json(found) == {key: value for key, value in known.items() if key != field.name}
            assert is_unsaid(found, field)


def is_unsaid(message: Message, field: FieldDescriptor) -> bool:
    """Whether a reader sees the field as nothing, zero, or the enum's UNSPECIFIED."""
    if field.has_presence:
        return not message.HasField(field.name)
    value = getattr(message, field.name)
    return len(value) == 0 if field.is_repeated else value == field.default_value


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_a_value_that_an_older_peer_does_not_know_of_an_enum_is_kept_apart_from_those_it_knows(name: str) -> None:
    for field in BY_NAME[name].fields:
        if field.enum_type is None or field.is_repeated:
            continue
        message = GetMessageClass(BY_NAME[name])()
        setattr(message, field.name, 9999)
        found = getattr(read(BY_NAME[name], message.SerializeToString()), field.name)
        assert found == 9999
        assert found not in field.enum_type.values_by_number
