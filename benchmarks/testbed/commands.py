"""From a scenario to the command lines of the three services. Everything but this module is free of their flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.scenario import Scenario
from benchmarks.testbed.emulated import edge_queue_capacity, factor_of, uplink_rates
from benchmarks.testbed.frames import PreparedFrames
from benchmarks.testbed.process import HOST, free_ports
from benchmarks.testbed.speeds import Speeds
from edge.settings import EdgeSettings

DEVICE_ID = "testbed-device"
"""Of the first device; the others have a number behind it."""
EDGE_ID = "testbed-edge"
SINK_NAME = "tasks.jsonl"
STATE_NAME = "twin-state"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the services listen on the loopback interface."""

    twin: int
    twin_http: int
    edge: int
    edge_http: int
    device: tuple[int, ...]
    """One per device."""
    device_http: tuple[int, ...]

    @classmethod
    def free(cls, devices: int = 1) -> Ports:
        """Free ones, all different."""
        twin, twin_http, edge, edge_http, *device = free_ports(4 + 2 * devices)
        return cls(twin, twin_http, edge, edge_http, tuple(device[:devices]), tuple(device[devices:]))


def device_id(index: int) -> str:
    """Of the device at this position."""
    return DEVICE_ID if index == 0 else f"{DEVICE_ID}-{index + 1}"


def address(port: int) -> str:
    """HOST:PORT on the loopback interface."""
    return f"{HOST}:{port}"


def twin_arguments(scenario: Scenario, ports: Ports, folder: Path) -> list[str]:
    """``python -m twin_service ...``"""
    weights = scenario.weights
    return [
        "-m",
        "twin_service",
        *_flag("listen", address(ports.twin)),
        *_flag("http-listen", address(ports.twin_http)),
        *_flag("state", folder / STATE_NAME),
        *_flag("rule", scenario.rule),
        *_flag("alpha-s", weights.alpha_s),
        *_flag("beta-s-per-joule", weights.beta_s_per_joule),
        *_flag("penalty-s", weights.loss_penalty_s),
        *_flag("deadline-s", weights.deadline_s),
        *([] if weights.is_waiting_priced_up else ["--no-price-waiting-up"]),
        *_flag("log-format", "json"),
        *scenario.twin_settings,
    ]


def edge_arguments(scenario: Scenario, speeds: Speeds, ports: Ports, profile: Path) -> list[str]:
    """``python -m edge ...``"""
    return [
        "-m",
        "edge",
        *_flag("id", EDGE_ID),
        *_flag("listen", address(ports.edge)),
        *_flag("http-listen", address(ports.edge_http)),
        *_flag("models", scenario.model),
        *_flag("twin", address(ports.twin)),
        *_flag("threads", scenario.threads),
        # An edge that measures itself is up to half as fast again in one run as in the next on a busy machine.
        *(_flag("profile", profile) if "profile" in EdgeSettings.model_fields else []),
        *_flag("emulate-slowdown", speeds.edge_slowdown),
        *_flag("queue-capacity", edge_queue_capacity(scenario)),
        *_flag("drain-s", 0.0),
        *_flag("log-format", "json"),
        *scenario.edge_settings,
    ]


def device_arguments(
    scenario: Scenario,
    speeds: Speeds,
    ports: Ports,
    frames: PreparedFrames,
    profile: Path,
    folder: Path,
    index: int = 0,
) -> list[str]:
    """``python -m device ...`` for the device at position ``index``."""
    first_rate, later_rates = uplink_rates(scenario, index)
    uplink = [
        *_flag("emulate-uplink-bytes-per-s", first_rate),
        *_flag("emulate-uplink-delay-s", scenario.uplink_delay_s),
        *_flag("emulate-uplink-jitter-s", scenario.uplink_jitter_s),
    ]
    for outage in scenario.uplink_outages:
        uplink += _flag("emulate-uplink-outages", outage)
    for rate in later_rates:
        uplink += _flag("emulate-uplink-rates", rate)
    return [
        "-m",
        "device",
        *_flag("id", device_id(index)),
        *_flag("model", scenario.model),
        *_flag("twin", address(ports.twin)),
        *_flag("edge", address(ports.edge)),
        *_flag("listen", address(ports.device[index])),
        *_flag("http-listen", address(ports.device_http[index])),
        *_flag("source", f"frames:{frames.folder}"),
        *_flag("arrivals", f"trace:{frames.trace}"),
        *_flag("order", "sorted"),
        *_flag("seed", scenario.seed),
        *_flag("sink", folder / SINK_NAME),
        *_flag("profile", profile),
        *_flag("threads", scenario.threads),
        *_flag("emulate-slowdown", max(1.0, speeds.device_slowdown * factor_of(scenario, index))),
        *_flag("payloads", scenario.payloads.value),
        # A meter would measure this machine with all its services, and not an emulated device.
        *_flag("energy", "model"),
        *_flag("queue-capacity", scenario.queue_capacity),
        *_flag("kept-tensors", scenario.kept_tensors),
        *_flag("answer-timeout-s", scenario.answer_timeout_s),
        *(["--polled"] if scenario.is_polled else []),
        *_flag("drain-s", 0.0),
        *_flag("log-format", "json"),
        *uplink,
        *scenario.device_settings,
    ]


def _flag(name: str, value: object) -> list[str]:
    """Nothing where there is no value."""
    return [] if value is None else [f"--{name}", str(value)]
