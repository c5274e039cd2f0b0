"""Options of a command are made from the settings class."""

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from twinsplit.errors import SettingsError
from twinsplit.settings import BaseServiceSettings, Loaded, Origin
from twinsplit.settings_options import default_of, given_flags, metavar_of, settings_options
from twinsplit.types import DropPolicy

Sample = type[BaseServiceSettings]


@pytest.fixture
def seen() -> list[Loaded[Any]]:
    return []


@pytest.fixture
def command(sample: Sample, seen: list[Loaded[Any]]) -> click.Command:
    @click.command()
    @click.option("--extra", default="no")
    @settings_options(sample)
    def run(loaded: Loaded[Any], extra: str) -> None:
        click.echo(f"extra={extra}")
        seen.append(loaded)

    return run


def _run(command: click.Command, *arguments: str) -> Any:
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False)


def test_flags_arrive_as_settings(command: click.Command, seen: list[Loaded[Any]]) -> None:
    result = _run(command, "--id", "d1", "--queue-capacity", "9", "--is-sent", "--sinks", "a", "--sinks", "b")
    assert result.exit_code == 0
    values = seen[0].values
    assert (values.id, values.queue_capacity, values.is_sent, values.sinks) == ("d1", 9, True, ("a", "b"))
    assert seen[0].origins["sinks"] is Origin.FLAG


def test_what_is_not_given_stays_at_its_default(command: click.Command, seen: list[Loaded[Any]]) -> None:
    _run(command, "--id", "d1")
    assert (seen[0].values.sinks, seen[0].values.is_sent) == (("-",), False)
    assert seen[0].origins["sinks"] is Origin.DEFAULT


def test_what_was_given_is_a_command_line_that_gives_it_again(
    command: click.Command, seen: list[Loaded[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a file.toml"
    path.write_text('id = "d1"\nis_sent = true\nmode = "polled"\n')
    monkeypatch.setenv("TWINSPLIT_DEVICE_PERIOD_S", "0.25")
    monkeypatch.setenv("TWINSPLIT_DEVICE_DROP_POLICY", "oldest-stays")
    more = ("--no-is-sent", "--sinks", "-", "--sinks", "b c", "--tls-ca", str(tmp_path / "ca.pem"), "--model", "m")
    _run(command, "--config", str(path), *more)
    flags = given_flags(seen[0])
    assert "--id" not in flags, "the file says it"
    monkeypatch.delenv("TWINSPLIT_DEVICE_PERIOD_S")
    monkeypatch.delenv("TWINSPLIT_DEVICE_DROP_POLICY")
    assert _run(command, *flags).exit_code == 0
    assert seen[1].values == seen[0].values
    _run(command, "--id", "d1")
    assert given_flags(seen[2]) == ["--id", "d1"]


def test_no_command_line_shows_a_password(
    command: click.Command, seen: list[Loaded[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(command, "--id", "d1", "--sinks", "http://user:s3cret@host")
    assert given_flags(seen[0]) == ["--id", "d1", "--sinks", "http://user:***@host"]
    monkeypatch.setenv("TWINSPLIT_DEVICE_SINKS", "http://user:s3cret@host")
    _run(command, "--id", "d1")
    assert given_flags(seen[1]) == ["--id", "d1"], "the variable says it"


def test_a_flag_switches_off_what_the_file_switches_on(
    command: click.Command, seen: list[Loaded[Any]], tmp_path: Path
) -> None:
    path = tmp_path / "device.toml"
    path.write_text('id = "d1"\nis_sent = true\n')
    _run(command, "--config", str(path))
    _run(command, "--config", str(path), "--no-is-sent")
    assert [loaded.values.is_sent for loaded in seen] == [True, False]
    assert seen[0].config_path == path


def test_other_options_of_the_command_are_left_alone(command: click.Command) -> None:
    assert "extra=yes" in _run(command, "--id", "d1", "--extra", "yes").output


def test_an_impossible_value_is_a_settings_error(command: click.Command) -> None:
    with pytest.raises(SettingsError, match="--period-s: 'x' does not fit"):
        _run(command, "--id", "d1", "--period-s", "x")


def test_help_has_every_setting_with_its_description_default_and_variable(
    command: click.Command, sample: Sample
) -> None:
    text = " ".join(_run(command, "--help").output.split())
    for key, field in sample.model_fields.items():
        assert f"--{key.replace('_', '-')}" in text
        assert str(field.description) in text
        assert f"TWINSPLIT_DEVICE_{key.upper()}]" in text
    assert "[required; TWINSPLIT_DEVICE_ID]" in text
    assert "[4; TWINSPLIT_DEVICE_QUEUE_CAPACITY]" in text


@pytest.mark.parametrize(
    ("kind", "metavar"),
    [
        (int, "INTEGER"),
        (float | None, "NUMBER"),
        (Path, "PATH"),
        (Path | None, "PATH"),
        (str, "TEXT"),
        (bool, "BOOLEAN"),
        (tuple[int, ...], "INTEGER"),
        (DropPolicy, "newest-wins|oldest-stays"),
        (int | str, "TEXT"),
    ],
)
def test_a_value_is_named_by_its_type(kind: object, metavar: str) -> None:
    assert metavar_of(kind) == metavar


def test_defaults_are_shown_as_people_write_them(sample: Sample) -> None:
    shown = {key: default_of(field) for key, field in sample.model_fields.items()}
    assert shown["id"] == "required"
    assert shown["model"] == "not set"
    assert shown["is_sent"] == "false"
    assert shown["drop_policy"] == "newest-wins"
    assert shown["sinks"] == "-"
    assert shown["period_s"] == "0.5"
