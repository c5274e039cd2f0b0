"""The periodic scheme's reporter: everything there is to tell, once a period, and nothing between."""

from __future__ import annotations

from device.reporting import Reporter


class PeriodicReporter(Reporter):
    """Reports at heartbeats only."""

    def is_due(self, now_s: float) -> bool:
        return now_s >= self.next_heartbeat_s
