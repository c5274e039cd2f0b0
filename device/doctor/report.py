"""Findings for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from device.doctor.finding import Check, Finding, Verdict
from twinsplit import __version__

_WIDTH = max(len(check.value) for check in Check)
_MARKS = {Verdict.OK: "ok", Verdict.BAD: "BAD", Verdict.SKIPPED: "-"}
_COLOURS = {Verdict.OK: "green", Verdict.BAD: "red", Verdict.SKIPPED: "bright_black"}


def line(finding: Finding) -> str:
    """One finding as one line, coloured for a terminal; ``click.echo`` takes the colours out elsewhere."""
    mark = click.style(
        f"{_MARKS[finding.verdict]:<4}", fg=_COLOURS[finding.verdict], bold=finding.verdict is Verdict.BAD
    )
    cure = "" if finding.cure is None else f"; {finding.cure}"
    return f"{mark} {finding.check.value:<{_WIDTH}}  {finding.text}{cure}"


def failed(findings: Sequence[Finding]) -> int:
    """How many are bad."""
    return sum(finding.verdict is Verdict.BAD for finding in findings)


def document(findings: Sequence[Finding]) -> dict[str, Any]:
    """All findings as one JSON object (docs/how-to/doctor.md)."""
    return {
        "version": __version__,
        "bad": failed(findings),
        "findings": [
            {
                "check": finding.check.value,
                "verdict": finding.verdict.value,
                "text": finding.text,
                "cure": finding.cure,
            }
            for finding in findings
        ],
    }
