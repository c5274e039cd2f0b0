"""Versions that do not go together are told with the command that mends them."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from device.doctor import versions
from device.doctor.finding import Check, Finding, Verdict
from device.doctor.versions import version_findings


def _found(check: Check) -> Finding:
    (finding,) = (finding for finding in version_findings() if finding.check is check)
    return finding


def install(folder: Path, name: str, version: str) -> None:
    """Put a distribution's metadata into a folder of the path, as pip would."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_what_is_installed_here_goes_together() -> None:
    findings = list(version_findings())
    assert [finding.check for finding in findings] == [Check.PYTHON, Check.TWINSPLIT, Check.GRPCIO, Check.ONNXRUNTIME]
    assert {finding.verdict for finding in findings} == {Verdict.OK}
    assert metadata.version("grpcio") in findings[2].text


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    finding = _found(Check.PYTHON)
    assert finding.verdict is Verdict.BAD
    assert "3.10 or newer" in str(finding.cure)


def test_a_second_copy_of_twinsplit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "twinsplit", "9.9")
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = _found(Check.TWINSPLIT)
    assert finding.verdict is Verdict.BAD
    assert "the installed package 9.9" in finding.text


def test_a_package_older_than_twinsplit_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "pydantic", "1.10.2")
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = _found(Check.TWINSPLIT)
    assert finding.verdict is Verdict.BAD
    assert "pydantic>=2.10, not 1.10.2" in finding.text


def test_a_grpcio_older_than_the_generated_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "grpcio", "1.60.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = _found(Check.GRPCIO)
    assert (finding.verdict, finding.cure) == (Verdict.BAD, "python -m pip install 'grpcio>=1.85.1'")


def test_no_grpcio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder may be there without what pip wrote of it: copied by hand, or half removed."""
    found = metadata.version

    def version(name: str) -> str:
        if name == "grpcio":
            raise metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(metadata, "version", version)
    finding = _found(Check.GRPCIO)
    assert (finding.verdict, finding.text) == (Verdict.BAD, "not installed")
    assert finding.cure == "python -m pip install --force-reinstall twinsplit"


def test_two_onnxruntimes_that_overwrite_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "onnxruntime-gpu", "1.31.1")
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = _found(Check.ONNXRUNTIME)
    assert finding.verdict is Verdict.BAD
    assert "onnxruntime-gpu 1.31.1 overwrite each other" in finding.text
    assert "uninstall onnxruntime onnxruntime-gpu" in str(finding.cure)


def test_no_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "ONNXRUNTIME_WHEELS", ("onnxruntime-gpu",))
    finding = _found(Check.ONNXRUNTIME)
    assert (finding.verdict, finding.cure) == (Verdict.BAD, "python -m pip install 'twinsplit[device-cpu]'")


def test_an_onnxruntime_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    finding = _found(Check.ONNXRUNTIME)
    assert finding.verdict is Verdict.BAD
    assert "cannot be imported" in finding.text
