"""What an edge's GPUs draw: a metric with its source, unknown while NVML is silent; a stand-in of NVML, no GPU."""

from __future__ import annotations

import sys

import pytest

from edge.gpu_energy import GpuEnergy, gpu_energy_of
from tests.unit.energy.test_nvml import StandIn
from twinsplit.clock import ManualClock
from twinsplit.errors import SettingsError
from twinsplit.telemetry.exposition import StateCollector


def series(energy: GpuEnergy) -> dict[str, float]:
    collector = StateCollector("edge", energy.samples)
    samples = [sample for family in collector.collect() for sample in family.samples]
    assert all(sample.labels["source"] == "nvml" for sample in samples)
    return {sample.name: sample.value for sample in samples}


def test_joules_and_power_are_counted_and_a_lost_gpu_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml, clock = StandIn(), ManualClock(50.0)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    energy = gpu_energy_of("auto", "CUDAExecutionProvider", clock)
    assert energy is not None
    energy.sampler.look()
    assert series(energy) == {"twinsplit_energy_meter_up": 1.0, "twinsplit_energy_meter_losses_total": 0.0}
    clock.advance(1.0)
    nvml.nvmlDeviceGetTotalEnergyConsumption = lambda handle: 11_000
    energy.sampler.look()
    counted = series(energy)
    assert counted["twinsplit_energy_joules_total"] == pytest.approx(19.0)
    assert counted["twinsplit_power_watts"] == pytest.approx(19.0)
    nvml.nvmlDeviceGetTotalEnergyConsumption = StandIn.nvmlDeviceGetTotalEnergyConsumption.__get__(nvml)
    nvml.is_lost = True
    clock.advance(1.0)
    energy.sampler.look()
    silent = series(energy)
    assert (silent["twinsplit_energy_meter_up"], silent["twinsplit_energy_meter_losses_total"]) == (0.0, 1.0)
    assert "twinsplit_power_watts" not in silent


def test_an_edge_without_a_gpu_has_no_such_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    clock = ManualClock()
    assert gpu_energy_of("auto", "CPUExecutionProvider", clock) is None
    assert gpu_energy_of("auto", "CUDAExecutionProvider", clock) is None
    assert gpu_energy_of("none", "CUDAExecutionProvider", clock) is None
    with pytest.raises(SettingsError, match="--energy nvml: the package nvidia-ml-py is not installed; install"):
        gpu_energy_of("nvml", "CPUExecutionProvider", clock)
