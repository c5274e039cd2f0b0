"""Findings as lines and as JSON, and the command around them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from device.doctor.cli import doctor
from device.doctor.finding import Check, Verdict, bad, from_error, ok, skipped
from device.doctor.report import document, line
from twinsplit.errors import TlsError


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    logger = logging.getLogger("twinsplit")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the doctor finds, for a test to fill."""
    found: list[object] = []
    monkeypatch.setattr("device.doctor.cli._findings", lambda settings, timeout_s: iter(found))
    return found


def test_one_line_each_with_the_cure_of_what_is_bad() -> None:
    assert click.unstyle(line(ok(Check.GRPCIO, "1.85.3"))) == "ok   grpcio           1.85.3"
    assert click.unstyle(line(skipped(Check.EDGE, "none named"))) == "-    edge             none named"
    shown = line(bad(Check.TLS_KEY, "open to others", "chmod 600 key.pem"))
    assert click.unstyle(shown) == "BAD  tls-key          open to others; chmod 600 key.pem"
    assert shown.startswith("\x1b[31m")


def test_an_error_of_ours_is_cause_and_cure() -> None:
    finding = from_error(Check.TLS_CERTIFICATE, TlsError("it is\nhalf; give the other; or none"))
    assert (finding.text, finding.cure) == ("it is half", "give the other; or none")
    assert from_error(Check.MODEL, TlsError("just wrong")).cure


def test_the_exit_code_is_0_only_if_nothing_is_bad(everything: list[object]) -> None:
    everything += [ok(Check.PYTHON, "3.11"), skipped(Check.EDGE, "none named")]
    result = CliRunner().invoke(doctor, [])
    assert (result.exit_code, result.output.count("\n")) == (0, 2)
    everything.append(bad(Check.MODEL, "gone", "copy it"))
    result = CliRunner().invoke(doctor, [])
    assert result.exit_code == 1
    assert "\x1b" not in result.output, "no colours beyond a terminal"


def test_json_holds_the_same(everything: list[object]) -> None:
    everything += [ok(Check.PYTHON, "3.11"), bad(Check.MODEL, "gone", "copy it")]
    result = CliRunner().invoke(doctor, ["--json"])
    assert result.exit_code == 1
    assert json.loads(result.output)["bad"] == 1
    assert json.loads(result.output)["findings"][1] == {
        "check": "model",
        "verdict": "bad",
        "text": "gone",
        "cure": "copy it",
    }
    assert document([])["findings"] == []


def test_it_takes_the_settings_of_a_device_and_needs_none(everything: list[object]) -> None:
    flags = ["--id", "cam", "--twin", "127.0.0.1:7000", "--tls-ca", "ca.pem", "--source", "-", "--count", "5"]
    assert CliRunner().invoke(doctor, flags).exit_code == 0
    wrong = CliRunner().invoke(doctor, ["--threads", "none"])
    assert "threads" in str(wrong.exception)


def test_every_check_and_verdict_has_its_own_word() -> None:
    assert len({check.value for check in Check}) == len(Check)
    assert {verdict.value for verdict in Verdict} == {"ok", "bad", "skipped"}
