"""``twinsplit device calibrate``: times, powers and uplink into a profile that a device then runs with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from device.calibration import Wishes, calibrate
from device.calibration_command import calibrate_and_tell
from device.cli import device as device_noun
from device.settings import DeviceSettings
from tests.integration.device_bench import running_device, running_edge, write_network
from tests.unit.device.recorded_sensors import copied
from twinsplit.errors import ModelFileError, PeerError, StorageError
from twinsplit.model.profile import load_profile
from twinsplit.settings import load_settings

pytestmark = pytest.mark.slow

POWER = "class/hwmon/hwmon1/power1_input"
MICROWATTS = {"idle power": 2_500_000, "times": 6_000_000, "busy power": 6_000_000, "uplink": 4_000_000}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(scope="module")
def shipped() -> Path:
    """The network that ships: its payloads are large enough to tell a rate."""
    return Path(__file__).resolve().parents[2] / "models/alexnet-fashion/1"


def settings_of(model: Path, **changes: object) -> DeviceSettings:
    return DeviceSettings(**{"model": model, "energy_interval_s": 0.01} | changes)


async def test_times_powers_and_uplink_are_measured(shipped, tmp_path):
    model = shipped
    places = copied("ina226", tmp_path)
    told: list[tuple[str, float]] = []

    def progress(what: str, share: float) -> None:
        """The machine draws what its stage makes it draw. The meter reads all the while, and never an empty file."""
        told.append((what, share))
        new = tmp_path / "microwatts"
        new.write_text(str(MICROWATTS[what]))
        new.replace(places.sysfs / POWER)

    async with running_edge(model) as edge:
        settings = settings_of(model, sysfs=places.sysfs, edge=edge.address)
        found = await asyncio.to_thread(calibrate, settings, Wishes(3, 0.4), progress)
        profile = found.profile
        assert (len(profile.segment_s), len(profile.exit_s)) == (5, 2)
        assert profile.powers.source == "ina"
        assert profile.powers.idle_watts == pytest.approx(2.5, abs=0.8)
        assert profile.powers.busy_watts == pytest.approx(6.0, abs=0.8)
        assert profile.powers.busy_cores > 0.0
        assert profile.uplink.edge == edge.address
        assert profile.uplink.goodput_bytes_per_s > 0.0
        assert 0.0 < profile.uplink.round_trip_s < 1.0
        stages = list(dict.fromkeys(what for what, _ in told))
        assert stages == ["idle power", "times", "busy power", "uplink"]
        assert all(0.0 <= share <= 1.0 for _, share in told)


async def test_the_command_shows_a_bar_and_a_table_says_what_to_do_next_and_a_device_starts_from_it(shipped, tmp_path):
    model = shipped
    out = tmp_path / "profile.json"
    more = ["--model", str(model), "--profile", str(out), "--energy", "model", "--seconds", "0.1", "--repeats", "3"]

    def command(*extra: str) -> str:
        done = CliRunner().invoke(device_noun, ["calibrate", *more, *extra], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    async with running_edge(model) as edge:
        text = await asyncio.to_thread(
            command, "--edge", edge.address, "--idle-watts", "2.5", "--busy-watts", "6.25", "--threads", "2"
        )
        for expected in (
            "calibrating",
            "segment 2 ",
            "exit 0 ",
            "encoding the input ",
            "idle power                    2.50 W  as given",
            "computing adds 3.75 W",
            "goodput of the uplink",
            f"wrote {out}; next:",
            f"twinsplit device run --model {model} --edge {edge.address} --threads 2 --profile {out} --energy model\n",
        ):
            assert expected in text
        profile = load_profile(out)
        written = out.read_bytes()
        async with running_device(model, profile=out, threads=2, energy="model") as bench:
            tracked = bench.device.status()["tracked"]
            assert tracked["goodput_bytes_per_s"] == profile.uplink.goodput_bytes_per_s
            assert tracked["segment_s"] == list(profile.segment_s)
            assert bench.device.status()["energy"]["meter"]["idle_watts"] == 2.5
        assert out.read_bytes() == written


def test_on_a_terminal_the_bar_fills_and_says_what_is_measured(model, tmp_path):
    command = "from twinsplit.cli import main; main()"
    more = [f"--model={model}", f"--profile={tmp_path / 'p.json'}", "--energy=none", "--repeats=3", "--seconds=0.05"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", command, "device", "calibrate", *more], stdout=theirs)
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # the terminal's other end was closed
        while data := os.read(ours, 4096):
            written += data
    os.close(ours)
    assert process.wait(60) == 0
    drawn = re.findall(r"calibrating  \[(#*)(-*)\] +(\d+)%  ([a-z ]+)", written.decode())
    shares = [int(share) for _, _, share, _ in drawn]
    assert shares[0] == 0
    assert shares[-1] == 100
    assert shares == sorted(shares)
    assert all(len(full) == pytest.approx(36 * int(share) / 100, abs=1.0) for full, _, share, _ in drawn)
    assert {what.strip() for *_, what in drawn} == {"starting", "times", "done"}


def test_what_cannot_be_measured_is_said_with_the_cure(model, tmp_path):
    found = calibrate(settings_of(model, sysfs=tmp_path), Wishes(3, 0.05))
    assert (found.profile.powers, found.profile.uplink) == (None, None)
    powers, uplink = found.remarks
    assert "no energy meter is here" in powers
    assert "say --edge" in uplink


def test_an_edge_that_is_not_there_or_has_another_model_is_named(model, tmp_path, monkeypatch):
    monkeypatch.setattr("device.uplink_probe.PATIENCE_S", 0.5)
    with pytest.raises(PeerError, match=r"127\.0\.0\.1:9 cannot be reached; start the edge"):
        calibrate(settings_of(model, energy="none", edge="127.0.0.1:9"), Wishes(3, 0.05))


async def test_an_edge_with_another_model_refuses_by_name(model, tmp_path):
    other = write_network(tmp_path / "other", device_segments=1)
    async with running_edge(other) as edge:
        with pytest.raises(PeerError, match=f"{edge.address} refuses a payload: .*model"):
            await asyncio.to_thread(calibrate, settings_of(model, energy="none", edge=edge.address), Wishes(3, 0.05))


async def test_a_network_whose_payloads_are_too_small_tells_no_rate(model):
    async with running_edge(model) as edge:
        settings = settings_of(model, energy="none", edge=edge.address)
        found = await asyncio.to_thread(calibrate, settings, Wishes(3, 0.05))
    assert found.profile.uplink is None
    assert "too small to tell a rate" in found.remarks[-1]


def test_half_of_two_powers_is_a_wrong_command_line(model):
    done = CliRunner().invoke(device_noun, ["calibrate", "--model", str(model), "--idle-watts", "2"])
    assert done.exit_code == 2
    assert "go together" in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--idle-watts", "nan", "--busy-watts", "nan"), "finite"),
        (("--idle-watts", "9", "--busy-watts", "3"), "no less than idle"),
        (("--seconds", "inf"), "finite"),
    ],
)
def test_powers_and_times_that_cannot_be_are_a_wrong_command_line(model, arguments, words):
    done = CliRunner().invoke(device_noun, ["calibrate", "--model", str(model), *arguments])
    assert done.exit_code == 2
    assert words in done.output


def test_a_place_that_cannot_be_written_is_said_before_anything_is_measured(model, tmp_path):
    other = tmp_path / "notes.json"
    other.write_text("{}", encoding="utf-8")
    given = {"model": model, "profile": other}
    with pytest.raises(ModelFileError, match="not a profile"):
        calibrate_and_tell(load_settings(DeviceSettings, None, given), Wishes(3, 0.05))
    assert other.read_text(encoding="utf-8") == "{}"
    given = {"model": model, "profile": tmp_path / "nowhere" / "profile.json"}
    with pytest.raises(StorageError, match="cannot be written"):
        calibrate_and_tell(load_settings(DeviceSettings, None, given), Wishes(3, 0.05))


def test_an_older_profile_is_still_read(model, tmp_path):
    found = calibrate(settings_of(model, energy="none"), Wishes(3, 0.05)).profile
    document = {
        "format": 1,
        "model_digest": found.model_digest,
        "provider": found.provider,
        "threads": 1,
        "machine": "a machine of last year",
        "repeats": 3,
        "segment_s": [0.01, 0.02],
        "exit_s": [0.001],
        "encode_s": [[0, 0, 0.001]],
    }
    path = tmp_path / "old.json"
    path.write_text(json.dumps(document))
    profile = load_profile(path)
    assert (profile.segment_s, profile.powers, profile.uplink, profile.speed_share) == ((0.01, 0.02), None, None, None)
