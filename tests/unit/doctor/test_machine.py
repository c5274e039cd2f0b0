"""Provider, model folder, energy meter and health of a machine, each as it should be and each out of order."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from device.doctor.finding import Check, Finding, Verdict
from device.doctor.machine import provider_finding, read_model, sensor_findings
from device.doctor.settings import DoctorSettings
from device.energy import choice
from device.energy.places import Places
from device.health import HealthReader
from tests.unit.device.recorded_sensors import Firmware, copied, places_of, silent
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.energy import Absent, MeterReading


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def _settings(**changes: Any) -> DoctorSettings:
    return DoctorSettings(**changes)


def _sensor(check: Check, places: Places, **settings: Any) -> Finding:
    found = {finding.check: finding for finding in sensor_findings(_settings(**settings), places, HealthReader(places))}
    return found[check]


def test_a_whole_model_folder_is_told_with_its_digest(model: Path) -> None:
    held, finding = read_model(model)
    assert held is not None
    assert finding.verdict is Verdict.OK
    assert f"tiny 1 ({held.digest[:12]}): 3 of 3 segments, 0 exits" in finding.text


def test_no_model_named_is_nothing_bad() -> None:
    held, finding = read_model(None)
    assert (held, finding.verdict) == (None, Verdict.SKIPPED)


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    held, finding = read_model(tmp_path)
    assert (held, finding.verdict) == (None, Verdict.BAD)
    assert "manifest.json: No such file" in finding.text
    assert "twinsplit model split" in str(finding.cure)


def test_a_file_that_was_changed_or_is_missing(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path)
    (folder / "segment-1.onnx").write_bytes(b"other")
    _, finding = read_model(folder)
    assert (finding.verdict, finding.cure) == (Verdict.BAD, "copy the whole model folder again")
    (folder / "segment-1.onnx").unlink()
    assert read_model(folder)[1].verdict is Verdict.BAD


def test_a_provider_that_loads_the_model(model: Path) -> None:
    held, _ = read_model(model)
    finding = provider_finding(_settings(model=model), held)
    assert (finding.verdict, finding.text) == (Verdict.OK, "CPUExecutionProvider loads every segment and exit")
    assert provider_finding(_settings(), None).verdict is Verdict.OK


@pytest.mark.parametrize("provider", ["cuda", "nonsense"])
def test_a_provider_that_is_not_in_this_build(provider: str) -> None:
    finding = provider_finding(_settings(provider=provider), None)
    assert finding.verdict is Verdict.BAD
    assert "not in this build of ONNX Runtime" in finding.text
    assert "--provider cpu" in str(finding.cure)


def test_a_provider_that_is_in_this_build_and_does_not_load(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = [*onnxruntime.get_available_providers(), "CUDAExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: here)
    finding = provider_finding(_settings(model=model, provider="cuda"), read_model(model)[0])
    assert finding.verdict is Verdict.BAD
    assert "provider CUDAExecutionProvider does not load" in finding.text
    assert "--provider cpu" in str(finding.cure)


def test_a_model_that_does_not_load_although_its_files_are_as_the_manifest_says(tmp_path: Path) -> None:
    written = write_tiny_model(tmp_path) / "segment-1.onnx"
    manifest = tmp_path / "manifest.json"
    right = hashlib.sha256(written.read_bytes()).hexdigest()
    written.write_bytes(b"other")
    manifest.write_text(manifest.read_text().replace(right, hashlib.sha256(b"other").hexdigest()))
    held, finding = read_model(tmp_path)
    assert finding.verdict is Verdict.OK
    finding = provider_finding(_settings(model=tmp_path), held)
    assert (finding.check, finding.verdict) == (Check.PROVIDER, Verdict.BAD)
    assert "segment-1.onnx: is no ONNX file" in finding.text


def test_a_provider_is_not_looked_at_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "twinsplit.model.runtime", raising=False)
    assert provider_finding(_settings(), None).verdict is Verdict.SKIPPED


def test_a_meter_that_was_found_says_what_it_reads() -> None:
    finding = _sensor(Check.ENERGY, places_of("jetson-orin-nano"))
    assert finding.verdict is Verdict.OK
    assert " W now, looked at every " in finding.text


def test_no_meter_is_nothing_bad_and_the_model_is_a_choice(tmp_path: Path) -> None:
    bare = Places(tmp_path, silent)
    assert _sensor(Check.ENERGY, bare).verdict is Verdict.SKIPPED
    assert _sensor(Check.ENERGY, bare, energy="none").verdict is Verdict.SKIPPED
    assert "3 W computing" in _sensor(Check.ENERGY, bare, energy="model").text


def test_a_meter_asked_for_by_name_that_is_not_here(tmp_path: Path) -> None:
    finding = _sensor(Check.ENERGY, Places(tmp_path, silent), energy="rapl")
    assert finding.verdict is Verdict.BAD
    assert "has no RAPL zone" in finding.text
    assert finding.cure


def test_a_meter_that_is_here_and_may_not_be_read_is_bad_although_the_model_would_do(tmp_path: Path) -> None:
    places = copied("rapl-desktop", tmp_path)
    for counter in places.sysfs.rglob("energy_uj"):
        counter.unlink()
        counter.mkdir()
    finding = _sensor(Check.ENERGY, places)
    assert finding.verdict is Verdict.BAD
    assert "cannot be read by this user" in finding.text
    assert "udev rule" in str(finding.cure)


class _Meter:
    source, interval_s = "plug", 1.0

    def __init__(self, reading: MeterReading | Exception | None) -> None:
        self._reading = reading

    def read(self) -> MeterReading | None:
        if isinstance(self._reading, Exception):
            raise self._reading
        return self._reading

    def close(self) -> None:
        return


@pytest.mark.parametrize(
    ("reading", "verdict", "says"),
    [
        (None, Verdict.BAD, "gives no reading"),
        (OSError("unplugged"), Verdict.BAD, "OSError: unplugged"),
        (MeterReading(joules=1.0), Verdict.OK, "counts joules"),
    ],
)
def test_a_meter_is_asked(
    reading: MeterReading | Exception | None,
    verdict: Verdict,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(places: Places, rail: str) -> _Meter | Absent:
        return _Meter(reading)

    monkeypatch.setitem(choice.FINDERS, "plug", find)
    finding = _sensor(Check.ENERGY, Places(tmp_path, silent), energy="plug")
    assert finding.verdict is verdict
    assert says in finding.text


def test_the_health_of_a_machine_is_told(tmp_path: Path) -> None:
    finding = _sensor(Check.HEALTH, Places(tmp_path, silent))
    assert finding.verdict is Verdict.OK
    assert "memory" in finding.text
    assert "unknown here" in finding.text


def test_a_throttled_machine(tmp_path: Path) -> None:
    finding = _sensor(Check.HEALTH, Places(tmp_path, lambda *words: "throttled=0x50005\n"))
    assert finding.verdict is Verdict.BAD
    assert "power supply" in str(finding.cure)
    assert Firmware().asked == []
