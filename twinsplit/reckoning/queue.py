"""How many tasks wait at a device between reports."""

from __future__ import annotations


def expected_queue_length(reported: int, task_rate_per_s: float, unreported_s: float, *, is_serving: bool) -> float:
    """Tasks expected to wait now.

    Args:
        reported: tasks waiting at the newest report.
        task_rate_per_s: tasks entering per second.
        unreported_s: time since that report, seconds.
        is_serving: whether a task is in service; if not, what arrives would have been served, and reported, at once.
    """
    return reported + task_rate_per_s * max(0.0, unreported_s) if is_serving else float(reported)
