"""Writes the generated tables of the pages into their places: what the code says, and what was measured.

    python docs/tables.py            write them
    python docs/tables.py --check    say which are out of date, exit code 1

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``; what is around it is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import click
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from benchmarks import result_tables
from twinsplit import errors
from twinsplit.cli import twinsplit as commands
from twinsplit.config_command import settings_class
from twinsplit.errors import ErrorCode, RefusedError, TwinsplitError
from twinsplit.settings import BaseServiceSettings, ordered_keys
from twinsplit.settings_options import default_of, metavar_of
from twinsplit.telemetry.catalogue import CATALOGUE
from twinsplit.transport.status import TABLE

FOLDER = Path(__file__).parent
FAULTS = FOLDER.parent / "benchmarks/results/faults.json"
"""Written by `make faults`."""
_Option = tuple[tuple[str, ...], click.Parameter]
PROTO = FOLDER.parent / "proto"
_PACKAGE = "twinsplit/rpc/v1"
# Numbers of fields of descriptors, of which the places of comments are made.
_MESSAGES, _ENUMS, _FIELDS, _VALUES = 4, 5, 2, 2
_TABLE = re.compile(r"(<!-- table ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


def metrics() -> str:
    """Every metric of the catalogue."""
    return _table(
        ("metric", "kind", "labels", "given by", "what it is"),
        (
            (
                f"`{s.name}`",
                s.kind.value,
                ", ".join(f"`{each}`" for each in s.labels),
                ", ".join(sorted(s.services)),
                s.help,
            )
            for s in CATALOGUE.values()
        ),
    )


def exit_codes() -> str:
    """Every error that a command can end with."""
    rows = [
        (str(error.exit_code), f"`{error.__name__}`", _sentence(error.__doc__))
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, TwinsplitError) and RefusedError not in error.__mro__[1:]
    ]
    return _table(("exit code", "error", "when"), sorted(rows, key=lambda row: int(row[0])))


def wire_errors() -> str:
    """Every name under which a message can be refused."""
    rows = (
        (f"`{code.value}`", f"`{TABLE[code].error.__name__}`", TABLE[code].status.name, _when(code))
        for code in ErrorCode
    )
    return _table(("code", "error", "gRPC status", "when"), rows)


def _when(code: ErrorCode) -> str:
    return _sentence(TABLE[code].error.__doc__)


def _settings(keys: Iterable[str], cls: type[BaseServiceSettings]) -> str:
    rows = []
    for key in keys:
        field = cls.model_fields[key]
        default = default_of(field)
        shown = default if default in ("required", "not set") else f"`{default}`"
        rows.append((f"`{key}`", metavar_of(field.annotation), shown, _sentence(field.description)))
    return _table(("key", "value", "default", "what it does"), rows)


def common_settings() -> str:
    """Settings that every service has."""
    return _settings(BaseServiceSettings.model_fields, BaseServiceSettings)


def service_settings(service: str) -> str:
    """A service's own settings."""
    cls = settings_class(service)
    return _settings((key for key in ordered_keys(cls) if key not in BaseServiceSettings.model_fields), cls)


def command_variables() -> str:
    """Every variable of the environment that stands for an option of a command which is no setting."""
    read_by: dict[tuple[str, str], list[str]] = {}
    for path, option in _options(commands, click.Context(commands), ()):
        if isinstance(option.envvar, str):
            read_by.setdefault((option.envvar, option.opts[0]), []).append(f"`{' '.join(path)}`")
    rows = ((f"`{variable}`", f"`{flag}`", ", ".join(paths)) for (variable, flag), paths in read_by.items())
    return _table(("variable", "flag", "read by"), rows)


def _options(command: click.Command, context: click.Context, path: tuple[str, ...]) -> Iterator[_Option]:
    """Options of all commands under ``command``, with their paths."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _options(found, context, (*path, name))
    yield from ((path, each) for each in command.params)


def messages() -> str:
    """Every message and enumeration of the protocol, field by field, by the comments of its files."""
    sources = sorted(str(path.relative_to(PROTO)) for path in (PROTO / _PACKAGE).glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        code = protoc.main(["", f"-I{PROTO}", "--include_source_info", f"--descriptor_set_out={out}", *sources])
        assert code == 0, "protoc has said what is wrong"
        files = FileDescriptorSet.FromString(out.read_bytes()).file
    return "\n".join(text for file in files for text in _file_tables(file))


def _file_tables(file: FileDescriptorProto) -> Iterator[str]:
    comments = {tuple(each.path): _sentence(each.leading_comments) for each in file.source_code_info.location}
    yield f"## {Path(file.name).name}\n"
    for place, message in enumerate(file.message_type):
        at = (_MESSAGES, place)
        yield f"### {message.name}\n\n{comments[at]}\n"
        rows = (
            (f"`{field.name}`", str(field.number), _type(field, message), comments[(*at, _FIELDS, index)])
            for index, field in enumerate(message.field)
        )
        if message.field:
            yield _table(("field", "number", "type", "what it is"), rows)
    for place, enum in enumerate(file.enum_type):
        at = (_ENUMS, place)
        yield f"### {enum.name}\n\n{comments[at]}\n"
        values = (
            (f"`{value.name}`", str(value.number), comments[(*at, _VALUES, index)])
            for index, value in enumerate(enum.value)
        )
        yield _table(("value", "number", "what it is"), values)


def _type(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    """As the file writes it; of the fields of one choice one at most is set."""
    name = field.type_name.removeprefix(f".{_PACKAGE.replace('/', '.')}.")
    kind = f"`{name or FieldDescriptorProto.Type.Name(field.type).removeprefix('TYPE_').lower()}`"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {kind}"
    if field.proto3_optional:
        return f"optional {kind}"
    if field.HasField("oneof_index"):
        return f"{kind}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return kind


def faults() -> str:
    """The matrix of faults, the worst of all moments in one row."""
    head = ("service", "fault", "cells passed", "tasks", "how they ended", "longest waiting", "longest recovery")
    cells = json.loads(FAULTS.read_text(encoding="utf-8"))["cells"]
    return _table(
        head,
        (
            _fault_row(service, fault, list(group))
            for (service, fault), group in groupby(cells, lambda cell: (cell["service"], cell["fault"]))
        ),
    )


def _fault_row(service: str, fault: str, cells: list[dict[str, Any]]) -> tuple[str, ...]:
    ends: Counter[str] = Counter()
    for cell in cells:
        ends.update(cell["outcomes"])
        ends["with the device"] += cell["broken"]
    return (
        service,
        fault,
        f"{sum(not cell['problems'] for cell in cells)} of {len(cells)}",
        str(sum(cell["entered"] for cell in cells)),
        ", ".join(f"{name} {count}" for name, count in sorted(ends.items()) if count),
        f"{max(cell['waiting_s'] for cell in cells):.2f} s",
        f"{max(cell['recovery_s'] for cell in cells):.2f} s",
    )


def fault_settings() -> str:
    """Under what settings the matrix was run, and when."""
    document = json.loads(FAULTS.read_text(encoding="utf-8"))
    settings = {**document["settings"], "date": document["provenance"]["written_at"][:10]}
    for name, value in settings.pop("breaker").items():
        settings[f"breaker {name}"] = value
    return _table(("setting", "value"), ((name, f"{value}") for name, value in sorted(settings.items())))


TABLES: dict[str, Callable[[], str]] = {
    "metrics": metrics,
    "exit-codes": exit_codes,
    "wire-errors": wire_errors,
    "faults": faults,
    "fault-settings": fault_settings,
    "settings-common": common_settings,
    "settings-device": lambda: service_settings("device"),
    "settings-edge": lambda: service_settings("edge"),
    "settings-twin": lambda: service_settings("twin"),
    "command-variables": command_variables,
    "messages": messages,
    **result_tables.TABLES,
}


def written(text: str) -> str:
    """``text`` with every table in it made anew."""
    return _TABLE.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def main(arguments: list[str]) -> int:
    """Write or check all documents."""
    stale = []
    for path in sorted(FOLDER.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (new := written(text)) != text:
            stale.append(str(path.relative_to(FOLDER)))
            if "--check" not in arguments:
                path.write_text(new, encoding="utf-8")
    sys.stdout.write("".join(f"{name}\n" for name in stale))
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
