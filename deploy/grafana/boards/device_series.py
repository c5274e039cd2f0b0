"""Series of the device that is chosen above its dashboard."""

from __future__ import annotations

from deploy.grafana.boards.queries import RATE

ME = 'instance="$device"'


def gauge(name: str, more: str = "") -> str:
    """A value now; ``more``: further label matchers, beginning with a comma."""
    return f"twinsplit_{name}{{{ME}{more}}}"


def rate(name: str, more: str = "") -> str:
    """A counter per second."""
    return f"rate(twinsplit_{name}{{{ME}{more}}}{RATE})"
