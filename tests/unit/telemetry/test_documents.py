"""Every metric, error, exit code, setting and call has its row, and the generated tables are up to date."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from device.sources.source import Problem
from edge.backlog_statistics import HORIZONS_S
from twin_service.metrics import JUDGED_FIELDS
from twinsplit import errors
from twinsplit.config_command import registered_services, settings_class
from twinsplit.errors import ErrorCode, TwinsplitError
from twinsplit.rpc.v1 import device_pb2, edge_pb2, twin_pb2
from twinsplit.telemetry.catalogue import CATALOGUE
from twinsplit.transport import limits
from twinsplit.types import Stages

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_tables", DOCS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _rows(name: str, column: int) -> list[str]:
    """Words in backticks of one column of all tables of a document."""
    rows = [line.split(" | ") for line in (DOCS / name).read_text().splitlines() if line.startswith("| ")]
    return [word for row in rows if len(row) > column for word in re.findall(r"`([^`]+)`", row[column])]


def test_generated_tables_are_up_to_date(tables: ModuleType) -> None:
    assert tables.main(["--check"]) == 0, "run: python docs/tables.py"


def test_every_table_has_its_place(tables: ModuleType) -> None:
    places = [name for path in DOCS.rglob("*.md") for name in re.findall(r"<!-- table ([a-z-]+) -->", path.read_text())]
    assert sorted(places) == sorted(tables.TABLES)


def test_every_metric_has_a_row() -> None:
    assert [name for name in _rows("metrics.md", 0) if name.startswith("twinsplit_")] == list(CATALOGUE)


def test_the_values_of_labels_are_named() -> None:
    text = (DOCS / "metrics.md").read_text()
    (paragraph,) = (part for part in text.split("\n\n") if part.startswith("Values of labels"))
    stages = [field.name for field in fields(Stages)]
    windows = [f"{horizon_s:g}s" for horizon_s in HORIZONS_S]
    expected = [*stages, *windows, *(problem.value for problem in Problem)]
    assert [value for value in expected if f"`{value}`" not in paragraph] == []
    (errors_of,) = (part for part in text.split("\n\n") if "prediction error it is one of" in part)
    assert [name for name in (*JUDGED_FIELDS, "segment_s", "backlog_s") if f"`{name}`" not in errors_of] == []


def test_every_error_and_exit_code_has_a_row() -> None:
    named = {*_rows("errors.md", 1), "RefusedError"}
    tree = {error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, TwinsplitError)}
    assert {error.__name__ for error in tree} <= named
    text = (DOCS / "errors.md").read_text()
    assert all(re.search(rf"^\| {error.exit_code} \|", text, re.MULTILINE) for error in tree)


def test_every_refusal_has_a_row() -> None:
    assert {code.value for code in ErrorCode} <= set(_rows("errors.md", 0))


def test_every_setting_has_a_row_and_a_description() -> None:
    named = _rows("settings.md", 0)
    for service in registered_services():
        for key, field in settings_class(service).model_fields.items():
            assert key in named, f"{service}.{key}"
            assert (field.description or "").endswith("."), f"{service}.{key}"


def test_settings_classes_name_their_service() -> None:
    assert [settings_class(service).service for service in registered_services()] == ["device", "edge", "twin"]


def test_every_call_has_a_row() -> None:
    named = set(_rows("protocol.md", 0))
    for module in (device_pb2, edge_pb2, twin_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            assert {f"{service.name}.{method.name}" for method in service.methods} <= named


def test_connection_figures_are_those_of_the_code() -> None:
    text = (DOCS / "protocol.md").read_text()
    assert f"{limits.CONTROL_MESSAGE_BYTES >> 20} MiB" in text
    assert f"{limits.ENVELOPE_BYTES >> 10} KiB" in text
    assert f"{limits.KEEPALIVE_TIME_S:g} s, answered within {limits.KEEPALIVE_TIMEOUT_S:g} s" in text
    assert f"| a try to connect, with TLS | given up after {limits.CONNECT_S:g} s |" in text
    assert f"from {limits.RECONNECT_FIRST_S:g} s to {limits.RECONNECT_LAST_S:g} s" in text
