"""The demo: three services on this machine under bursts of load, four rules on the same arrivals, a closing table."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.comparison import compared, expected_s, planned_runs, rule_document
from benchmarks.demo_view import view_for
from benchmarks.provenance import provenance
from benchmarks.results import ResultFile
from benchmarks.scenario import Scenario
from benchmarks.testbed.commands import address
from benchmarks.testbed.process import HOST, free_ports
from benchmarks.verdict import PRODUCT, failures, sentence

USUAL_CONSOLE_PORT = 8080


def run_demo(scenario: Scenario, rules: Sequence[str], json_path: Path | None, console: Console) -> None:
    """Run the demo and print what it shows.

    Raises:
        SettingsError: a rule that does not exist.
        StorageError: ``json_path`` cannot be written; found out before anything runs.
        TwinsplitError: a service cannot start or ends by itself.
    """
    polled_rule = PRODUCT if PRODUCT in rules else None
    console_address = address(console_port())
    runs = planned_runs(watched(scenario, console_address), rules, polled_rule)
    result_file = None if json_path is None else ResultFile(json_path)
    view = view_for(console)
    try:
        view.says(announcement(runs, polled_rule))
        view.says(emulation(scenario))
        view.says(f"Live console while it runs, of one rule after the other: http://{console_address}/")
        with view:
            comparison = compared(runs, view)
        view.closes(comparison.results)
        if result_file is not None:
            seeds, digests = [scenario.seed], {"model": comparison.results[0].model_digest}
            result_file.write(
                {
                    "provenance": provenance(seeds=seeds, digests=digests, scenario=scenario.described()),
                    "rules": {r.rule: rule_document(comparison, r) for r in comparison.results if not r.is_polled},
                }
            )
        for line in (*failures(comparison.results), sentence(comparison.results)):
            view.says(line)
    finally:
        if result_file is not None:
            result_file.discard()


def watched(scenario: Scenario, console_address: str) -> Scenario:
    """The scenario with a console to look at; it sends no message more."""
    return scenario.model_copy(
        update={
            "twin_settings": (*scenario.twin_settings, f"--console-listen={console_address}"),
            "device_settings": (*scenario.device_settings, "--thumbnails"),
        }
    )


def console_port() -> int:
    """The usual one if it is free, so that an open page finds every demo; else any."""
    with contextlib.suppress(OSError), socket.create_server((HOST, USUAL_CONSOLE_PORT)):
        return USUAL_CONSOLE_PORT
    return free_ports(1)[0]


def announcement(runs: Sequence[Scenario], polled_rule: str | None) -> str:
    """How long it will take."""
    count = sum(not run.is_polled for run in runs)
    rules = "1 rule" if count == 1 else f"{count} rules"
    polled = "" if polled_rule is None else f" and {polled_rule} once more, asking the twin at every epoch"
    return (
        f"{rules} for {runs[0].seconds:g} s each{polled}: about {_duration(expected_s(runs))} with starting and "
        "stopping all services. Ctrl-C stops everything."
    )


def emulation(scenario: Scenario) -> str:
    """What is emulated, said as such."""
    parts = []
    if scenario.device_slowdown or scenario.device_whole_s:
        devices = "a device that is" if scenario.devices == 1 else f"{scenario.devices} devices that are"
        parts.append(f"{devices} slow ({_speed(scenario.device_slowdown, scenario.device_whole_s)})")
    if scenario.uplink_bytes_per_s:
        delay = f", {scenario.uplink_delay_s * 1e3:g} ms delay" if scenario.uplink_delay_s else ""
        bad = f" and at times {scenario.uplink_bad_bytes_per_s / 1e3:g}" if scenario.uplink_bad_bytes_per_s else ""
        parts.append(f"an uplink of {scenario.uplink_bytes_per_s / 1e3:g}{bad} kB/s{delay}")
    elif scenario.uplink_trace:
        parts.append(f"an uplink as in {scenario.uplink_trace.name}")
    if scenario.edge_slowdown or scenario.edge_whole_s:
        parts.append(f"an edge of its own ({_speed(scenario.edge_slowdown, scenario.edge_whole_s)})")
    if scenario.load_shape is not None:
        parts.append(
            f"other users who load the edge to {scenario.load_share:g} of its capacity ({scenario.load_pattern.value})"
        )
    if not parts:
        return "Nothing is emulated: with device and edge on one machine, not splitting is right."
    return f"Emulated on this one machine: {'; '.join(parts)}. Services, gRPC, inferences and frames are real."


def _speed(slowdown: float | None, whole_s: float | None) -> str:
    if slowdown is not None:
        return f"{slowdown:g} times this machine's time"
    return f"{(whole_s or 0.0) * 1e3:g} ms for the whole network"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds / 5.0) * 5, 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
