"""Units as systemd itself reads them: `systemd-analyze verify`, and how exposed it thinks them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from twinsplit.systemd.unit import CAMERA, PI_FIRMWARE, Unit, access_of_provider, unit_text

pytestmark = pytest.mark.needs("systemd-analyze")

_ROOT = Path(__file__).resolve().parents[2]
_THERE = "/usr/bin/env"  # verify wants a program that exists
_PLAIN = Unit("twinsplit-device", "twinsplit device a", (_THERE, "device", "run"))
UNITS = {
    "plain": _PLAIN,
    "camera": replace(
        _PLAIN, access=(PI_FIRMWARE, CAMERA), frames_from="rpicam-vid -t 0 --codec mjpeg -o - \"$A\" '%d'"
    ),
    "gpu": replace(_PLAIN, access=(access_of_provider("tensorrt"),), memory_max="8G"),
    "openvino": replace(_PLAIN, access=(access_of_provider("openvino"),)),
    "user": replace(_PLAIN, user="daemon", writable=(Path("/srv/my out"),), cpu_quota="50%"),
    "credentials": replace(_PLAIN, credentials={"tls_key": Path("/etc/my keys/100%.pem")}),
}


def verified(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    path = folder / "twinsplit-device.service"
    path.write_text(text)
    return subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_nothing_wrong_with_what_install_service_makes(name: str, tmp_path: Path) -> None:
    done = verified(tmp_path, unit_text(UNITS[name]))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("service", ["device", "edge", "twin"])
def test_systemd_finds_nothing_wrong_with_the_units_in_deploy(service: str, tmp_path: Path) -> None:
    text = (_ROOT / f"deploy/systemd/twinsplit-{service}.service").read_text()
    done = verified(tmp_path, text.replace("/opt/twinsplit/venv/bin/twinsplit", _THERE))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong"), [("MemoryMax=1G", "MemoryMax=lots"), ("UMask=", "UnderMask="), (_THERE, "/none")]
)
def test_what_is_wrong_would_have_been_found(right: str, wrong: str, tmp_path: Path) -> None:
    text = unit_text(_PLAIN)
    assert right in text
    done = verified(tmp_path, text.replace(right, wrong))
    assert done.stdout + done.stderr != ""


@pytest.mark.parametrize(
    ("service", "said_as"), [("device", "device with a camera"), ("edge", "edge"), ("twin", "twin")]
)
def test_the_exposure_of_the_units_is_what_the_guide_says(service: str, said_as: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"deploy/systemd/twinsplit-{service}.service"],
        cwd=_ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([\d.]+) OK", done.stdout)
    said = re.search(rf"([\d.]+) \({said_as}\)", (_ROOT / "docs/deploy/index.md").read_text())
    assert found, done.stdout[-300:]
    assert said
    assert float(found[1]) == pytest.approx(float(said[1]), abs=0.3)  # systemd's own scale moves a little
