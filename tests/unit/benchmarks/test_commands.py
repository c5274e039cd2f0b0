"""The testbed's command lines are ones that the services understand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from benchmarks.scenario import changed_scenario
from benchmarks.testbed.commands import Ports, device_arguments, edge_arguments, twin_arguments
from benchmarks.testbed.frames import PreparedFrames
from benchmarks.testbed.scenarios import DEMO
from device.settings import DeviceSettings
from edge.settings import EdgeSettings
from twin_service.settings import TwinSettings
from twinsplit.settings_options import settings_options

PORTS = Ports(1, 2, 3, 4, (5, 7), (6, 8))
SPEEDS: Any = SimpleNamespace(device_slowdown=4.0, edge_slowdown=2.0)
FRAMES = PreparedFrames(Path("frames"), Path("trace"), None, 3)
FILE = Path("profile")
SCENARIO = changed_scenario(DEMO, is_polled=True, uplink_outages=("1+2", "4+1"), penalty_s=1.5)


def parsed(cls: Any, arguments: list[str]) -> Any:
    """The settings that a service makes of its command line."""

    @click.command()
    @settings_options(cls)
    def command(loaded: Any) -> Any:
        return loaded.values

    return command.main(args=arguments[2:], standalone_mode=False)


def test_the_twin_is_told_rule_and_weights() -> None:
    settings = parsed(TwinSettings, twin_arguments(SCENARIO, PORTS, Path("run")))
    assert (settings.rule, settings.alpha_s, settings.penalty_s) == ("multi-step", 2.5, 1.5)
    assert settings.listen == "127.0.0.1:1"


def test_the_edge_is_told_its_models_its_twin_and_its_slowdown() -> None:
    settings = parsed(EdgeSettings, edge_arguments(SCENARIO, SPEEDS, PORTS, FILE))
    assert (settings.models, settings.twin, settings.emulate_slowdown) == (SCENARIO.model, "127.0.0.1:1", 2.0)


def test_the_device_is_told_frames_arrivals_and_everything_emulated() -> None:
    arguments = device_arguments(SCENARIO, SPEEDS, PORTS, FRAMES, FILE, Path("run"))
    settings = parsed(DeviceSettings, arguments)
    assert (settings.source, settings.arrivals) == ("frames:frames", "trace:trace")
    assert (settings.twin, settings.edge) == ("127.0.0.1:1", "127.0.0.1:3")
    assert settings.emulate_slowdown == 4.0
    assert settings.emulate_uplink_bytes_per_s == SCENARIO.uplink_bytes_per_s
    assert settings.emulate_uplink_outages == ("1+2", "4+1")
    assert settings.polled


def test_what_a_scenario_says_of_queues_payloads_and_deadlines_reaches_the_services() -> None:
    scenario = changed_scenario(
        SCENARIO,
        payloads="tensors-only",
        queue_capacity=3,
        edge_queue_capacity=5,
        kept_tensors=2,
        answer_timeout_s=0.7,
        is_waiting_priced_up=False,
        deadline_s=0.4,
        device_factors=(1.5,),
    )
    device = parsed(DeviceSettings, device_arguments(scenario, SPEEDS, PORTS, FRAMES, FILE, Path("run"), 1))
    assert (device.id, device.listen, device.http_listen) == ("testbed-device-2", "127.0.0.1:7", "127.0.0.1:8")
    assert (device.payloads.value, device.queue_capacity, device.kept_tensors) == ("tensors-only", 3, 2)
    assert (device.answer_timeout_s, device.emulate_slowdown) == (0.7, 6.0)
    assert parsed(EdgeSettings, edge_arguments(scenario, SPEEDS, PORTS, FILE)).queue_capacity == 5
    twin = parsed(TwinSettings, twin_arguments(scenario, PORTS, Path("run")))
    assert (twin.price_waiting_up, twin.deadline_s) == (False, 0.4)


@pytest.mark.parametrize("rule", ["device-only", "static:2"])
def test_rules_are_the_twins_business_alone(rule: str) -> None:
    one, other = (changed_scenario(SCENARIO, rule=each) for each in ("multi-step", rule))
    assert edge_arguments(one, SPEEDS, PORTS, FILE) == edge_arguments(other, SPEEDS, PORTS, FILE)
    arguments = [device_arguments(each, SPEEDS, PORTS, FRAMES, Path("p"), Path("run")) for each in (one, other)]
    assert arguments[0] == arguments[1]
