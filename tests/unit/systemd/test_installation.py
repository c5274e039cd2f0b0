"""``install-service``: which unit follows from a settings file, and what is refused before systemd would fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from device.cli import device as device_command
from device.settings import DeviceSettings
from device.unit import device_needs
from edge.settings import EdgeSettings
from edge.unit import edge_needs
from twin_service.settings import TwinSettings
from twin_service.unit import twin_needs
from twinsplit.errors import SettingsError, StorageError, TwinsplitError
from twinsplit.settings import BaseServiceSettings
from twinsplit.systemd.installation import Place, Request, install, unit_of
from twinsplit.systemd.unit import Unit

PROGRAM = Path("/opt/twinsplit/venv/bin/twinsplit")
MODEL = Path("/opt/twinsplit/models/alexnet-fashion/1")


def request(**changes: object) -> Request:
    usual = Request(Path("/etc/twinsplit/device.toml"), PROGRAM, "twinsplit-device", None, None, None, ())
    return replace(usual, **changes)


def device(frames_from: str | None = None, told: Request | None = None, **settings: object) -> Unit:
    values = DeviceSettings(**{"model": MODEL, **settings})
    return unit_of(told or request(), values, device_needs(values, frames_from))


def test_a_device_runs_with_its_file_as_an_account_of_its_own() -> None:
    unit = device(threads=2, drain_s=3.0)
    assert unit.command == (str(PROGRAM), "device", "run", "--config", "/etc/twinsplit/device.toml")
    assert (unit.user, unit.cpu_quota, unit.drain_s) == (None, "300%", 3.0)


def test_cameras_are_seen_only_by_a_device_that_has_one() -> None:
    def nodes(unit: Unit) -> set[str]:
        return {device for access in unit.access for device in access.devices}

    assert "char-video4linux" in nodes(device(source="camera:0"))
    assert "char-video4linux" in nodes(device("rpicam-vid -o -"))
    assert "char-video4linux" not in nodes(device())
    assert "/dev/ttyUSB0" in nodes(device(told=request(allow_device=("/dev/ttyUSB0",))))


def test_a_meter_in_a_graphics_card_is_seen_and_nothing_else_of_it_is_allowed() -> None:
    edge = EdgeSettings(models=Path("/opt/models"), energy="nvml")
    for access in (device(energy="nvml:0").access, unit_of(request(), edge, edge_needs(edge)).access):
        assert "char-nvidia*" in {node for each in access for node in each.devices}
        assert not any(each.is_code_generated for each in access)


def test_a_command_that_feeds_frames_takes_the_place_of_the_source() -> None:
    unit = device("rpicam-vid -o -", source="frames:/nowhere/at/all")
    assert unit.frames_from == "rpicam-vid -o -"
    assert unit.command[1:5] == ("device", "run", "--source", "-")
    assert "source" not in device_needs(DeviceSettings(model=MODEL, source="frames:/x"), "cat").read


def test_keys_and_certificates_come_as_credentials() -> None:
    unit = device(tls_ca=Path("/etc/t/ca.pem"), tls_cert=Path("/etc/t/c.pem"), tls_key=Path("/etc/t/k.pem"))
    assert list(unit.credentials) == ["tls_ca", "tls_cert", "tls_key"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"source": "-"}, "--frames-from"),
        ({"model": Path("models/1")}, "is relative"),
        ({"model": Path("/home/pi/models/1")}, "put it under /opt"),
        ({"model": Path("/tmp/models/1")}, "temporary"),
        ({"source": "frames:/root/frames"}, "source = /root/frames is in a home"),
        ({"arrivals": "trace:/home/pi/a.txt", "source": "frames:/srv/f"}, "arrivals = /home/pi/a.txt"),
        ({"sink": "/srv/tasks.jsonl"}, "lands in /var/lib/twinsplit-device"),
        ({"profile": Path("/srv/profile.json")}, "profile = /srv/profile.json"),
        ({"tls_ca": Path("ca.pem")}, "tls_ca = ca.pem is relative"),
    ],
)
def test_what_the_unit_would_fail_at_is_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        device(**settings)


@pytest.mark.parametrize("sign", ["\n", "\r", "\0", "\x1b", "\u2028", "\udcff"])
def test_no_path_adds_a_line_to_the_unit(sign: str) -> None:
    path = Path(f"/opt/a{sign}ExecStartPre=/bin/sh")
    for told, settings in (
        (request(config=path), {}),
        (request(program=path), {}),
        (request(), {"model": path}),
        (request(), {"tls_ca": path}),
        (request(user="pi"), {"sink": str(path)}),
    ):
        with pytest.raises(SettingsError, match="line break"):
            device(told=told, **settings)


def test_a_named_account_may_live_in_a_home_and_write_elsewhere() -> None:
    told = request(user="pi", program=Path("/home/pi/venv/bin/twinsplit"))
    unit = device(told=told, model=Path("/home/pi/m"), sink="/srv/out/tasks.jsonl", profile=Path("profile.json"))
    assert unit.user == "pi"
    assert unit.writable == (Path("/srv/out"),)


def test_an_environment_in_a_home_is_refused_without_its_owner() -> None:
    with pytest.raises(SettingsError, match="let the service run as that home's owner with --user"):
        device(told=request(program=Path("/home/pi/venv/bin/twinsplit")))


def test_what_is_relative_lands_in_the_state_folder() -> None:
    assert device(sink="tasks.jsonl", profile=Path("/var/lib/twinsplit-device/profile.json")).writable == ()
    assert device(sink="-").writable == ()


def test_edge_and_twin_likewise() -> None:
    edge = EdgeSettings(models=Path("/opt/models"), profile=Path("/opt/profile.json"), threads=4, provider="cuda")
    needs = edge_needs(edge)
    assert needs.read == {"models": Path("/opt/models"), "profile": Path("/opt/profile.json")}
    listed = edge_needs(EdgeSettings(models=Path("/opt/models"), twin="@/etc/twinsplit/replicas"))
    assert listed.read == {"models": Path("/opt/models"), "twin": Path("/etc/twinsplit/replicas")}
    unit = unit_of(request(), edge, needs)
    assert (unit.cpu_quota, unit.memory_max) == ("500%", "8G")
    twin = TwinSettings(rule="/opt/rules/mine.py:Rule")
    assert twin_needs(twin).read == {"rule": Path("/opt/rules/mine.py")}
    assert unit_of(request(memory_max="512M", cpu_quota="50%"), twin, twin_needs(twin)).cpu_quota == "50%"
    with pytest.raises(SettingsError, match="state = /srv/state"):
        unit_of(request(), TwinSettings(state=Path("/srv/state")), twin_needs(TwinSettings(state=Path("/srv/state"))))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # pytest's own folders are below /tmp, where a service sees nothing.
    monkeypatch.setattr("twinsplit.systemd.installation._TEMPORARY", ())
    path = tmp_path / "edge.toml"
    path.write_text('models = "/usr"\n')
    return path


def take(config: Path, place: Place, error: type[TwinsplitError] | None = None, match: str = "") -> None:
    told = request(config=config, user="somebody", name="twinsplit-edge")
    if error is None:
        install(told, place, EdgeSettings, edge_needs)
        return
    with pytest.raises(error, match=match):
        install(told, place, EdgeSettings, edge_needs)


def test_a_unit_is_printed_unless_it_is_to_be_written(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take(config, Place(tmp_path, is_written=False, is_replacing=False))
    printed = capsys.readouterr()
    assert printed.out.startswith("[Unit]\n")
    assert "Not written" in printed.err
    assert list(tmp_path.glob("*.service")) == []
    take(config, Place(tmp_path, is_written=True, is_replacing=False))
    written = capsys.readouterr()
    unit = tmp_path / "twinsplit-edge.service"
    assert unit.read_text() == printed.out
    assert unit.stat().st_mode & 0o777 == 0o644
    assert written.out == ""
    assert "sudo systemctl daemon-reload" in written.err
    assert "sudo systemctl enable --now twinsplit-edge" in written.err


def test_another_unit_of_that_name_is_replaced_only_when_told(config: Path, tmp_path: Path) -> None:
    unit = tmp_path / "twinsplit-edge.service"
    unit.write_text("[Unit]\nDescription=mine\n")
    take(config, Place(tmp_path, is_written=True, is_replacing=False), SettingsError, "--force")
    assert "mine" in unit.read_text()
    take(config, Place(tmp_path, is_written=True, is_replacing=True))
    assert "mine" not in unit.read_text()
    take(config, Place(tmp_path, is_written=True, is_replacing=False))  # the same again is no other


def test_files_that_are_missing_and_variables_that_would_be_are_named(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path, is_written=False, is_replacing=False)
    take(tmp_path / "none.toml", place, SettingsError, "no such file")
    config.write_text('models = "/usr/none"\n')
    take(config, place, SettingsError, "models = /usr/none does not exist")
    config.write_text('models = "/usr"\n')
    monkeypatch.setenv("TWINSPLIT_EDGE_TWIN", "127.0.0.1:7000")
    take(config, place, SettingsError, "TWINSPLIT_EDGE_TWIN is set here")
    monkeypatch.delenv("TWINSPLIT_EDGE_TWIN")
    take(config, Place(tmp_path / "none", is_written=True, is_replacing=False), StorageError, "with sudo")


def test_the_command_line_reaches_the_unit_and_adds_no_line_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinsplit.systemd.installation._TEMPORARY", ())
    monkeypatch.setattr("twinsplit.systemd.installation.own_program", lambda: PROGRAM)
    config = tmp_path / "device.toml"
    config.write_text('model = "/usr"\nsource = "-"\n')
    told = ["install-service", "--config", str(config), "--user", "somebody"]

    def run(*more: str) -> Result:
        return CliRunner().invoke(device_command, [*told, *more])

    done = run("--name", "cam", "--frames-from", "cat /dev/video0", "--memory-max", "300M", "--cpu-quota", "50%")
    assert done.exit_code == 0, done.output
    for line in ("User=somebody", "StateDirectory=cam", "MemoryMax=300M", "CPUQuota=50%"):
        assert line in done.stdout.splitlines()
    assert "exec cat /dev/video0" in done.stdout
    (tmp_path / "a\nUser=root").write_bytes(config.read_bytes())
    refused = run("--frames-from", "cat", "--config", str(tmp_path / "a\nUser=root"))
    assert isinstance(refused.exception, SettingsError)
    assert "Not written" not in refused.output
    for option, text in (
        ("--name", "a b"),
        ("--user", "a\nUser=root"),
        ("--memory-max", "lots"),
        ("--cpu-quota", "50"),
        ("--allow-device", "/etc/passwd"),
        ("--frames-from", "cat\nUser=root"),
        ("--frames-from", "cat\rUser=root"),
    ):
        refused = run("--frames-from", "cat", option, text)
        assert refused.exit_code == 2
        assert f"{text!r} is not a" in refused.output


@pytest.mark.parametrize("cls", [DeviceSettings, EdgeSettings, TwinSettings])
def test_every_path_among_the_settings_is_thought_of(cls: type[BaseServiceSettings]) -> None:
    """A new setting that is a path must be added to what its service's unit needs, and then here."""
    paths = {key for key, field in cls.model_fields.items() if "Path" in str(field.annotation)}
    known = {"tls_ca", "tls_cert", "tls_key", "model", "models", "profile", "state", "console_token_file", "sysfs"}
    assert paths - known == set()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ('listen = "0.0.0.0:7200"\n', "has no TLS"),
        ('tls_cert = "/opt/twinsplit/cert.pem"\n', "tls"),
    ],
)
def test_settings_that_the_service_would_refuse_are_refused_now(tmp_path: Path, settings: str, text: str) -> None:
    file = tmp_path / "device.toml"
    file.write_text(f'model = "{MODEL}"\n{settings}', encoding="utf-8")
    with pytest.raises(SettingsError, match=text):
        install(
            request(config=file), Place(tmp_path, is_written=False, is_replacing=False), DeviceSettings, device_needs
        )


@pytest.mark.parametrize("option", ["--memory-max=0", "--cpu-quota=0%"])
def test_a_service_that_may_use_nothing_is_a_wrong_option(option: str) -> None:
    assert CliRunner().invoke(device_command, ["install-service", option]).exit_code == 2


def test_a_feeding_command_with_an_open_quote_is_none() -> None:
    with pytest.raises(SettingsError, match="no closing quotation"):
        device("rpicam-vid 'unclosed")
