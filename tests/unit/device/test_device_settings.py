"""Settings become the parts of a device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from device.assembly import emulations_of, pipeline_of, step_times_s, uplink_settings_of
from device.energy import MeterBooks, ModelBooks, NoBooks
from device.sensors import Sensors, energy_wish, powers_of
from device.settings import DeviceSettings
from tests.unit.device.made_up_device import DIGEST, manifest_of
from twinsplit.clock import ManualClock
from twinsplit.model.profile import Powers, Profile, UplinkMeasurement
from twinsplit.types import DropPolicy, Payloads

PROFILE = Profile(
    model_digest=DIGEST,
    provider="CPUExecutionProvider",
    threads=1,
    machine="a machine",
    repeats=10,
    segment_s=(0.01, 0.02),
    exit_s=(0.003,),
    encode_s={(0, 0): 0.001, (2, 1): 0.002},
)


class HeldModel:
    """What assembling needs of a runtime: a model of four segments, of which two are held, with one of two exits."""

    manifest = manifest_of(4, (1, 3), device_segments=2)
    digest = DIGEST


def settings_of(**changes) -> DeviceSettings:
    return DeviceSettings(model=Path("model"), **changes)


def pipeline(settings: DeviceSettings, *, is_live: bool = False):
    return pipeline_of(settings, HeldModel(), PROFILE, ModelBooks(3.0, 1.2), is_live=is_live)


def test_the_emulated_device_is_planned_for_as_slow_as_it_is():
    tracker = pipeline(settings_of(emulate_slowdown=10.0)).tracker
    assert tracker.segment_s == pytest.approx([0.1, 0.2])
    assert tracker.encode_s == pytest.approx({(0, 0): 0.01, (2, 1): 0.02})


def test_exits_that_are_not_held_are_told_to_take_no_time():
    assert pipeline(settings_of()).tracker.exit_s == [0.003, 0.0]


def test_every_step_has_its_measured_time():
    assert step_times_s(PROFILE) == {
        ("segment", 0): 0.01,
        ("segment", 1): 0.02,
        ("exit", 0): 0.003,
        ("encode", 0, 0): 0.001,
        ("encode", 2, 1): 0.002,
    }


@pytest.mark.parametrize(
    ("changes", "is_live", "policy", "capacity"),
    [
        ({}, False, DropPolicy.OLDEST_STAYS, 64),
        ({}, True, DropPolicy.NEWEST_WINS, 1),
        ({"queue_capacity": 3}, True, DropPolicy.NEWEST_WINS, 3),
        ({"drop_policy": "oldest-stays"}, True, DropPolicy.OLDEST_STAYS, 1),
        ({"drop_policy": "newest-wins"}, False, DropPolicy.NEWEST_WINS, 64),
    ],
)
def test_cameras_keep_the_newest_frame_unless_told_otherwise(changes, is_live, policy, capacity):
    settings = pipeline(settings_of(**changes), is_live=is_live).settings
    assert (settings.drop_policy, settings.queue_capacity) == (policy, capacity)


def test_offload_bounds_reach_the_pipeline():
    settings = pipeline(settings_of(kept_tensors=3, answer_timeout_s=0.7, deadline_s=1.5, polled=True)).settings
    assert (settings.offloads.kept_tensors, settings.offloads.answer_timeout_s) == (3, 0.7)
    assert (settings.offloads.deadline_s, settings.is_polled) == (1.5, True)


def test_emulations_are_named():
    settings = settings_of(emulate_slowdown=8.0, emulate_uplink_bytes_per_s=5e4, emulate_uplink_outages=("3+1",))
    emulations = emulations_of(settings, uplink_settings_of(settings))
    assert emulations["slowdown"] == 8.0
    assert emulations["uplink"]["bytes_per_s"] == 5e4
    assert emulations["uplink"]["outages"] == ["3+1"]
    assert emulations_of(settings_of(), uplink_settings_of(settings_of())) == {}


def test_payloads_and_energy_are_as_told():
    assert settings_of(payloads="tensors-only").payloads is Payloads.TENSORS_ONLY
    assert isinstance(Sensors(settings_of(energy="none"), ManualClock()).books(PROFILE), NoBooks)


CALIBRATED = replace(
    PROFILE,
    powers=Powers("ina", idle_watts=2.5, busy_watts=6.0, busy_cores=1.0, transmit_watts=0.8),
    uplink=UplinkMeasurement("edge:7100", 2e6, 0.004),
    speed_share=0.8,
)


def test_powers_are_those_told_else_those_calibrated_else_the_models():
    assert powers_of(settings_of(), PROFILE, has_meter=False) == (3.0, 1.2)
    assert powers_of(settings_of(), CALIBRATED, has_meter=False) == (3.5, 0.8)
    assert powers_of(settings_of(compute_watts=4.0), CALIBRATED, has_meter=True) == (4.0, 0.8)
    assert powers_of(settings_of(energy="none"), CALIBRATED, has_meter=False) == (None, None)


def test_what_a_meter_has_not_measured_yet_is_unknown_to_the_twin():
    assert powers_of(settings_of(), PROFILE, has_meter=True) == (None, None)


def test_an_emulated_device_has_neither_the_hosts_powers_nor_its_meter():
    emulated = settings_of(emulate_slowdown=5.0)
    assert powers_of(emulated, CALIBRATED, has_meter=False) == (3.0, 1.2)
    assert energy_wish(emulated) == "model"
    assert energy_wish(settings_of(emulate_slowdown=5.0, energy="rapl")) == "rapl"
    assert energy_wish(settings_of()) == "auto"


def test_the_model_follows_processor_time_once_its_powers_are_calibrated():
    sensors = Sensors(settings_of(energy="model"), ManualClock())
    assert isinstance(sensors.books(PROFILE), ModelBooks)
    books = sensors.books(CALIBRATED)
    assert isinstance(books, MeterBooks)
    assert (books.source, books.state(0.0).idle_watts) == ("model", 2.5)


def test_a_calibrated_profile_starts_uplink_and_speed_where_they_were_measured():
    tracker = pipeline_of(settings_of(), HeldModel(), CALIBRATED, NoBooks(), is_live=False).tracker
    assert (tracker.goodput_bytes_per_s, tracker.round_trip_s, tracker.speed_share) == (2e6, 0.004, 0.8)
    emulated = settings_of(emulate_uplink_bytes_per_s=5e4, emulate_slowdown=2.0)
    tracker = pipeline_of(emulated, HeldModel(), CALIBRATED, NoBooks(), is_live=False).tracker
    assert (tracker.goodput_bytes_per_s, tracker.round_trip_s, tracker.speed_share) == (None, None, 1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"energy_interval_s": 0.0},
        {"health_interval_s": 0.0},
        {"id": "no spaces"},
        {"emulate_slowdown": 0.5},
        {"count": 0},
        {"threads": 0},
        {"queue_capacity": 0},
        {"answer_timeout_s": 0.0},
        {"compute_watts": float("nan")},
        {"payloads": "none"},
        {"unknown": 1},
    ],
)
def test_impossible_values_are_refused(changes):
    with pytest.raises(ValidationError):
        settings_of(**changes)
