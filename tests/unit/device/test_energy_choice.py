"""Which meter is taken: the best that is here, one by name with the cure where it is not, or a plug-in."""

from __future__ import annotations

import logging
from importlib.metadata import EntryPoint

import pytest

from device.energy import choice
from device.energy.choice import chosen_meter
from tests.unit.device.recorded_sensors import RECORDINGS, Firmware, copied, places_of, write
from twinsplit.energy import MeterReading
from twinsplit.errors import SettingsError


class Socket:
    """A made-up network meter."""

    source = "socket"
    interval_s = 1.0

    def __init__(self, address: str) -> None:
        if address == "nowhere":
            raise OSError("nobody answers")
        self.address = address

    def read(self) -> MeterReading:
        return MeterReading(watts=7.0)

    def close(self) -> None:
        return


class Broken:
    """No meter at all."""

    def __init__(self, argument: str) -> None:
        return


@pytest.fixture
def plug_ins(monkeypatch):
    """Plug-ins by name to what they lead to."""

    def install(**targets: str) -> None:
        points = [EntryPoint(name, f"{__name__}:{target}", choice.PLUG_IN_GROUP) for name, target in targets.items()]
        monkeypatch.setattr(choice, "entry_points", lambda group: points if group == choice.PLUG_IN_GROUP else [])

    install()
    return install


@pytest.mark.parametrize(
    ("recording", "source"),
    [
        ("jetson-orin-nano", "jetson"),
        ("jetson-nano-jetpack4", "jetson"),
        ("ina226", "ina"),
        ("rapl-desktop", "rapl"),
        ("cpufreq-board", None),
        # Nobody said which of its supplies is the device's.
        ("ina3221-three-supplies", None),
    ],
)
def test_the_best_meter_of_a_machine_is_taken(plug_ins, recording, source):
    meter = chosen_meter("auto", places_of(recording))
    assert (None if meter is None else meter.source) == source


def test_a_raspberry_pi_5_has_its_own(plug_ins):
    places = choice.Places(RECORDINGS / "cpufreq-board", Firmware(pmic_read_adc="pmic_read_adc"))
    assert chosen_meter("auto", places).source == "pi5-pmic"
    assert chosen_meter("pi5-pmic", places).source == "pi5-pmic"


def test_model_and_none_look_at_no_meter(plug_ins):
    assert chosen_meter("model", places_of("rapl-desktop")) is None
    assert chosen_meter("none", places_of("rapl-desktop")) is None


@pytest.mark.parametrize(
    ("wish", "recording", "text"),
    [
        ("rapl", "ina226", "--energy rapl: .*has no RAPL zone; .*choose another meter"),
        ("rapl:gpu", "rapl-desktop", "has no zone 'gpu', only core, dram, package-0"),
        ("ina", "ina3221-three-supplies", "several: sensor, board; say which one feeds this device"),
        ("jetson", "rapl-desktop", "no rail of a Jetson"),
        ("pi5-pmic", "rapl-desktop", "group `video`"),
        ("pi5-pmic:HDMI", "rapl-desktop", "it has no rail 'HDMI'"),
        ("coal", "rapl-desktop", "'coal' is no meter; choose one of auto, model, none, jetson, ina, pi5-pmic, rapl"),
    ],
)
def test_a_meter_asked_for_by_name_that_is_not_there_is_an_error_with_the_cure(plug_ins, wish, recording, text):
    with pytest.raises(SettingsError, match=text):
        chosen_meter(wish, places_of(recording))


def test_a_plug_in_is_asked_for_by_name_with_what_it_needs(plug_ins):
    plug_ins(socket="Socket")
    meter = chosen_meter("socket:192.0.2.7", places_of("rapl-desktop"))
    assert (meter.source, meter.address) == ("socket", "192.0.2.7")
    with pytest.raises(SettingsError, match=r"OSError: nobody answers; mend or remove it"):
        chosen_meter("socket:nowhere", places_of("rapl-desktop"))
    with pytest.raises(SettingsError, match=r"one of .*, socket"):
        chosen_meter("coal", places_of("rapl-desktop"))


def test_auto_takes_a_plug_in_before_anything_else(plug_ins):
    plug_ins(socket="Socket")
    assert chosen_meter("auto", places_of("jetson-orin-nano")).source == "socket"


def test_a_broken_plug_in_is_said_and_the_next_meter_taken(plug_ins, caplog):
    plug_ins(broken="Broken")
    with caplog.at_level(logging.INFO, logger="twinsplit.device.energy"):
        assert chosen_meter("auto", places_of("rapl-desktop")).source == "rapl"
    assert any(record.fields["source"] == "broken" for record in caplog.records)
    with pytest.raises(SettingsError, match=r"the plug-in .*:Broken fails: AttributeError"):
        chosen_meter("broken", places_of("rapl-desktop"))


def test_no_plug_in_takes_the_place_of_a_built_in_meter(plug_ins):
    plug_ins(rapl="Socket")
    assert chosen_meter("rapl", places_of("rapl-desktop")).interval_s == 0.05


def test_auto_says_what_is_there_but_cannot_be_read(plug_ins, tmp_path, caplog):
    places = copied("rapl-laptop", tmp_path)
    for number in (0, 1):
        write(places, f"class/powercap/intel-rapl:{number}/energy_uj", "")
    with caplog.at_level(logging.INFO, logger="twinsplit.device.energy"):
        assert chosen_meter("auto", places) is None
    (record,) = caplog.records
    assert (record.fields["source"], "udev" in record.fields["cure"]) == ("rapl", True)
