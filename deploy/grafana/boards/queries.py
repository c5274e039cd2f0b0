"""Queries that more than one dashboard asks."""

from __future__ import annotations

RATE = "[$__rate_interval]"
TASKS = f"sum(rate(twinsplit_tasks_total{RATE}))"
"""Ended tasks per second, all devices."""
WHOLE_NETWORK = (
    f"sum(rate(twinsplit_whole_network_cost_seconds_total{RATE})) / sum(rate(twinsplit_costed_tasks_total{RATE}))"
)
"""What the whole network's own mistakes would cost per task, seconds."""
COST = (
    f"sum(rate(twinsplit_cost_seconds_total{RATE})) / sum(rate(twinsplit_costed_tasks_total{RATE})) - {WHOLE_NETWORK}"
)
"""Cost per task as the glossary has it, seconds."""
COST_TEXT = (
    "alpha (A_whole - A) + T + beta E, and the penalty of a lost task: what rules make small. "
    "Below 0 where exits are right more often than the whole network."
)
REGRET = f"sum(rate(twinsplit_regret_seconds_sum{RATE})) / sum(rate(twinsplit_regret_seconds_count{RATE}))"
"""Mean regret of replayed tasks, seconds."""
RIGHT_IN_HINDSIGHT = (
    f'sum(rate(twinsplit_regret_seconds_bucket{{le="0.0"}}{RATE})) / sum(rate(twinsplit_regret_seconds_count{RATE}))'
)
"""Share of replayed tasks without regret."""
MIRROR_ACCURACY = (
    f"rate(twinsplit_mirror_right_seconds_total{RATE}) / rate(twinsplit_mirror_judged_seconds_total{RATE})"
)
"""By twin service."""
