"""The wire never changes under messages that were once written down."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass


def _load() -> ModuleType:
    path = Path(__file__).with_name("golden_messages.py")
    spec = importlib.util.spec_from_file_location("golden_messages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = _load()
KNOWN: dict[str, list[dict[str, Any]]] = json.loads(golden.FILE.read_text())
BY_NAME = {descriptor.name: descriptor for descriptor in golden.descriptors()}


def test_no_message_was_taken_away() -> None:
    assert set(KNOWN) <= set(BY_NAME)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_message_once_written_is_still_written_and_read_alike(name: str) -> None:
    message_class = GetMessageClass(BY_NAME[name])
    for entry in KNOWN[name]:
        data = bytes.fromhex(entry["hex"])
        assert json_format.ParseDict(entry["json"], message_class()).SerializeToString(deterministic=True) == data
        assert golden.as_json(message_class.FromString(data)) == entry["json"]


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_every_field_is_written_down(name: str) -> None:
    written = {key for entry in KNOWN.get(name, []) for key in entry["json"]}
    missing = {field.name for field in BY_NAME[name].fields} - written
    assert missing == set(), "run: python tests/unit/transport/golden_messages.py"
