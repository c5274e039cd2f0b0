"""``twinsplit config show`` says each value and its place, in a form that can be used as a file."""

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from twinsplit import cli, config_command
from twinsplit.errors import ConfigurationError
from twinsplit.settings import BaseServiceSettings, load_settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Sample = type[BaseServiceSettings]


@pytest.fixture(autouse=True)
def _only_the_sample(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    class Registered:
        def load(self) -> Sample:
            return sample

    monkeypatch.setattr(config_command, "_registrations", lambda: {"device": Registered()})


def _shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run(["config", "show", *arguments]) == 0
    return capsys.readouterr().out


def _places(text: str) -> dict[str, str]:
    rows = [line.removeprefix("# ") for line in text.splitlines() if " = " in line or " =  " in line]
    return {row.split(" =")[0].strip(): row.rsplit("# ", 1)[1] for row in rows}


def test_each_value_has_its_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "device.toml"
    path.write_text('id = "d1"\n')
    monkeypatch.setenv("TWINSPLIT_DEVICE_MODE", "polled")
    places = _places(_shown(capsys, "device", "--config", str(path)))
    assert places["id"] == f"file {path}: id"
    assert places["mode"] == "env TWINSPLIT_DEVICE_MODE"
    assert places["queue_capacity"] == "default"


def test_what_is_shown_can_be_used_as_the_file(
    capsys: pytest.CaptureFixture[str], sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINSPLIT_DEVICE_ID", 'd "1" \\ ü \U0001f600 \x7f \t \x01')
    monkeypatch.setenv("TWINSPLIT_DEVICE_SINKS", "a,\U0001f600")
    monkeypatch.setenv("TWINSPLIT_DEVICE_MODEL", "x/y")
    monkeypatch.setenv("TWINSPLIT_DEVICE_PERIOD_S", "inf")
    path = tmp_path / "shown.toml"
    path.write_text(_shown(capsys, "device"), encoding="utf-8")
    before = load_settings(sample).values
    for name in ("ID", "SINKS", "MODEL", "PERIOD_S"):
        monkeypatch.delenv(f"TWINSPLIT_DEVICE_{name}")
    assert load_settings(sample, path).values == before


def test_a_needed_setting_that_nobody_gave_is_shown_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    text = _shown(capsys, "device")
    assert _places(text)["id"] == "needed, not set"
    assert "id" not in tomllib.loads(text)
    assert tomllib.loads(text)["queue_capacity"] == 4


def test_every_setting_is_shown(capsys: pytest.CaptureFixture[str], sample: Sample) -> None:
    assert set(_places(_shown(capsys))) == set(sample.model_fields)


def test_json_has_value_and_origin(capsys: pytest.CaptureFixture[str]) -> None:
    shown: Any = json.loads(_shown(capsys, "device", "--json"))
    assert shown["service"] == "device"
    assert shown["settings"]["queue_capacity"] == {"value": 4, "origin": "default"}
    assert shown["settings"]["drop_policy"]["value"] == "newest-wins"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cloud"], "'cloud' is not a service; name one of device"),
        (["--config", "x.toml"], "name the service too"),
        (["device", "--config", "/no/such.toml"], "No such file"),
    ],
)
def test_a_wrong_question_is_a_settings_error(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert cli.run(["config", "show", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_an_impossible_value_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSPLIT_DEVICE_ID", "d1")
    monkeypatch.setenv("TWINSPLIT_DEVICE_QUEUE_CAPACITY", "0")
    assert cli.run(["config", "show", "device"]) == 2
    assert "TWINSPLIT_DEVICE_QUEUE_CAPACITY" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["no_such_module:Settings", "twinsplit.settings:NoSuchClass", "twinsplit.cli:main"])
def test_a_registration_that_cannot_be_loaded_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint(name="device", value=value, group="twinsplit.settings")
    monkeypatch.setattr(config_command, "_registrations", lambda: {"device": point})
    with pytest.raises(ConfigurationError, match="reinstall twinsplit"):
        config_command.settings_class("device")


def test_what_is_given_is_checked_though_something_needed_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINSPLIT_DEVICE_QUEUE_CAPACITY", "many")
    assert cli.run(["config", "show", "device"]) == 2
    assert "TWINSPLIT_DEVICE_QUEUE_CAPACITY: 'many' does not fit" in capsys.readouterr().err
