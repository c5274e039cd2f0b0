"""Energy is a power times a time with its source, or unknown."""

from __future__ import annotations

import pytest

from device.energy import ModelMeter, NoMeter


def test_the_model_multiplies_powers_and_times_and_says_so():
    reading = ModelMeter(3.0, 1.2).task_energy(0.5, 0.25)
    assert reading is not None
    assert reading.joules == pytest.approx(1.8)
    assert reading.source == "model"


def test_no_meter_knows_nothing_rather_than_zero():
    assert NoMeter().task_energy(0.5, 0.25) is None
