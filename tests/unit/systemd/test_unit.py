"""The text of units."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from twinsplit.systemd.unit import CAMERA, Unit, access_of_provider, unit_text

UNIT = Unit("twinsplit-device", "twinsplit device a", ("/opt/venv/bin/twinsplit", "device", "run"))


def values(unit: Unit, key: str) -> list[str]:
    lines = [line.partition("=") for line in unit_text(unit).splitlines()]
    return [value for name, _, value in lines if name == key]


def with_(**changes: object) -> Unit:
    return replace(UNIT, **changes)


def test_three_sections_each_setting_once() -> None:
    text = unit_text(UNIT)
    assert [line for line in text.splitlines() if line.startswith("[")] == ["[Unit]", "[Service]", "[Install]"]
    names = [line.partition("=")[0] for line in text.splitlines() if "=" in line]
    assert {name for name in names if names.count(name) > 1} == {"SystemCallFilter"}


def test_words_are_taken_literally() -> None:
    odd = with_(command=("/opt/my venv/bin/twinsplit", "100%", "$HOME", 'a"b', "c\\d"))
    (line,) = values(odd, "ExecStart")
    assert line == '"/opt/my venv/bin/twinsplit" 100%% $$HOME "a\\"b" "c\\\\d"'


def test_files_that_only_root_may_read_come_as_credentials() -> None:
    unit = with_(credentials={"tls_ca": Path("/etc/t/100%.pem"), "tls_key": Path("/etc/t/key.pem")})
    assert values(unit, "LoadCredential") == ["tls_ca:/etc/t/100%%.pem", "tls_key:/etc/t/key.pem"]
    (line,) = values(unit, "ExecStart")
    assert line.endswith("--tls-ca ${CREDENTIALS_DIRECTORY}/tls_ca --tls-key ${CREDENTIALS_DIRECTORY}/tls_key")


def test_a_command_that_feeds_frames_leaves_the_service_as_the_main_process() -> None:
    (line,) = values(with_(frames_from='rpicam-vid -o - --metadata "$F"'), "ExecStart")
    assert line.startswith(
        '/bin/bash -c "exec \\"$$0\\" \\"$$@\\" < <(exec rpicam-vid -o - --metadata \\"$$F\\")" /opt/'
    )


def test_no_device_is_seen_unless_named() -> None:
    assert values(UNIT, "PrivateDevices") == ["yes"]
    assert values(UNIT, "DeviceAllow") == []
    camera = with_(access=(CAMERA,))
    assert values(camera, "PrivateDevices") == []
    assert values(camera, "DevicePolicy") == ["closed"]
    assert "char-video4linux rw" in values(camera, "DeviceAllow")
    assert values(camera, "SupplementaryGroups") == ["video"]


@pytest.mark.parametrize(
    ("provider", "device"),
    [("cuda", "char-nvidia* rw"), ("TensorrtExecutionProvider", "/dev/nvmap rw"), ("openvino", "char-drm rw")],
)
def test_an_accelerator_is_seen_and_may_compile(provider: str, device: str) -> None:
    unit = with_(access=(access_of_provider(provider),))
    assert device in values(unit, "DeviceAllow")
    assert values(unit, "MemoryDenyWriteExecute") == []


@pytest.mark.parametrize("provider", ["cpu", "CPUExecutionProvider"])
def test_a_processor_needs_nothing_and_may_not_make_code(provider: str) -> None:
    unit = with_(access=(access_of_provider(provider),))
    assert values(unit, "PrivateDevices") == values(unit, "MemoryDenyWriteExecute") == ["yes"]


def test_cuda_keeps_what_it_compiled_between_starts() -> None:
    unit = with_(access=(access_of_provider("cuda"),))
    assert values(unit, "CacheDirectory") == ["twinsplit-device"]
    assert values(unit, "Environment") == ["CUDA_CACHE_PATH=%C/twinsplit-device"]


def test_an_account_of_its_own_unless_one_is_named() -> None:
    assert values(UNIT, "DynamicUser") == ["yes"]
    assert values(UNIT, "ProtectHome") == ["yes"]
    named = with_(user="pi", writable=(Path("/srv/out"),))
    assert values(named, "DynamicUser") == []
    assert values(named, "User") == ["pi"]
    assert values(named, "ProtectHome") == ["read-only"]
    assert values(named, "ReadWritePaths") == ["/srv/out"]


def test_stopping_takes_longer_than_the_drain() -> None:
    assert values(with_(drain_s=20.0), "TimeoutStopSec") == ["35s"]
