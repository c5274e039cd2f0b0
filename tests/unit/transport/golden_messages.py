"""Examples of every message, made from the descriptors. Run it to add examples of new messages and fields:

    python tests/unit/transport/golden_messages.py

Examples that stand in the file are kept as they are: the wire must never change under them.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from twinsplit.rpc.v1 import device_pb2, edge_pb2, errors_pb2, tensor_pb2, twin_pb2

FILE = Path(__file__).with_name("golden_messages.json")
MODULES = (device_pb2, edge_pb2, errors_pb2, tensor_pb2, twin_pb2)


def descriptors() -> Iterator[Descriptor]:
    """Every message of the protocol."""
    for module in MODULES:
        yield from module.DESCRIPTOR.message_types_by_name.values()


def examples(descriptor: Descriptor) -> Iterator[Message]:
    """One message with every field set, and one more for each further choice of a ``oneof``."""
    choices = [field for group in descriptor.oneofs if len(group.fields) > 1 for field in group.fields]
    plain = [field for field in descriptor.fields if field not in choices]
    yield _filled(descriptor, [*plain, *choices[:1]])
    for field in choices[1:]:
        yield _filled(descriptor, [field])


def _filled(descriptor: Descriptor, fields: list[FieldDescriptor]) -> Message:
    message = GetMessageClass(descriptor)()
    for field in fields:
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            getattr(message, field.name)["key"] = _scalar(entry.fields_by_name["value"])
        elif field.is_repeated:
            values = [next(examples(entry)) if entry is not None else _scalar(field)] * 2
            getattr(message, field.name).extend(values)
        elif entry is not None:
            getattr(message, field.name).CopyFrom(next(examples(entry)))
        else:
            setattr(message, field.name, _scalar(field))
    return message


def _scalar(field: FieldDescriptor) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[1].number
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return bytes((1, 0, field.number)) if field.type == FieldDescriptor.TYPE_BYTES else field.name
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return field.number + 0.5
    return True if kind == FieldDescriptor.CPPTYPE_BOOL else field.number


def as_json(message: Message) -> dict[str, Any]:
    """The message as protobuf's own JSON, with the names of the proto."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def main() -> None:
    """Add what is missing to the file."""
    known: dict[str, list[dict[str, Any]]] = json.loads(FILE.read_text()) if FILE.exists() else {}
    for descriptor in descriptors():
        found = known.setdefault(descriptor.name, [])
        for message in examples(descriptor):
            entry = {"json": as_json(message), "hex": message.SerializeToString(deterministic=True).hex()}
            if entry not in found:
                found.append(entry)
    FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    sys.stdout.write(f"{FILE.name}: {sum(map(len, known.values()))} examples\n")


if __name__ == "__main__":
    main()
