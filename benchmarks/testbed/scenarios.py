"""The scenarios that have a name, in one place."""

from __future__ import annotations

from benchmarks.scenario import SHIPPED_MODEL as SHIPPED_MODEL
from benchmarks.scenario import Scenario

DEMO = Scenario(
    model=SHIPPED_MODEL,
    seconds=15.0,
    task_rate_per_s=5.0,
    device_whole_s=0.17,
    edge_whole_s=0.015,
    uplink_bytes_per_s=20_000.0,
    uplink_delay_s=0.020,
    uplink_jitter_s=0.002,
    load_share=0.7,
    load_burst_s=0.6,
    load_peak=1.8,
)
"""A slow device on a thin uplink beside an edge that others load in bursts; 15 s per rule."""

DEMO_RULES = ("device-only", "edge-only", "one-time", "multi-step")
"""In the order in which they run; the last is the product's default."""
