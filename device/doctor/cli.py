"""``twinsplit doctor``."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from device.doctor.settings import DoctorSettings
from twinsplit.numbers import FiniteRange
from twinsplit.settings import Loaded
from twinsplit.settings_options import settings_options

if TYPE_CHECKING:
    from device.doctor.finding import Finding


@click.command()
@click.option("--json", "is_json", is_flag=True, help="One JSON object instead of lines.")
@click.option(
    "--timeout-s",
    type=FiniteRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Longest wait for an answer of edge or twin, seconds.",
)
@settings_options(DoctorSettings)
def doctor(loaded: Loaded[DoctorSettings], is_json: bool, timeout_s: float) -> None:
    """Look at everything that a device needs, a line each: ok, or BAD with the cure.

    It takes the settings of `twinsplit device run`: the file, the variables and the flags. Nothing is changed, and a
    device that runs is not disturbed. Exit code 0: nothing is bad; 1: something is.

    \b
    twinsplit doctor --config /etc/twinsplit/device.toml
    twinsplit doctor --model DIR --twin 10.0.0.1:7000
    """
    from device.doctor.report import document, failed, line
    from twinsplit.telemetry.logs import ROOT

    # What the parts that are looked at would log is found here anyway.
    logging.getLogger(ROOT).setLevel(logging.CRITICAL)
    findings: list[Finding] = []
    for finding in _findings(loaded.values, timeout_s):
        findings.append(finding)
        if not is_json:
            click.echo(line(finding))
    if is_json:
        click.echo(json.dumps(document(findings), indent=2))
    sys.exit(1 if failed(findings) else 0)


def _findings(settings: DoctorSettings, timeout_s: float) -> Iterator[Finding]:
    """Every check, the quick ones first."""
    from device.doctor.certificates import certificate_findings
    from device.doctor.collector import collector_finding
    from device.doctor.doors import door_findings
    from device.doctor.machine import provider_finding, read_model, sensor_findings
    from device.doctor.peers import peer_findings
    from device.doctor.versions import version_findings
    from device.energy.places import Places
    from device.health import HealthReader

    places = Places(settings.sysfs)
    reader = HealthReader(places)
    yield from version_findings()
    model, finding = read_model(settings.model)
    yield finding
    yield provider_finding(settings, model)
    yield from sensor_findings(settings, places, reader)
    yield from door_findings(settings)
    yield from certificate_findings(settings)
    yield from asyncio.run(peer_findings(settings, model, timeout_s))
    if settings.otlp_endpoint is not None:
        yield collector_finding(settings.otlp_endpoint, timeout_s)
