"""Why goals were missed and what was tried: read by people who judge the full report, kept beside its data."""

from __future__ import annotations

CAUSES: dict[str, str] = {}
"""By :attr:`Goal.key`. Printed only while the goal is missed."""
