"""Does a process grow? Memory, file descriptors and threads over one life of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import psutil

BLOCKS = 10
"""Neighbouring samples are alike, so a confidence interval is taken from the means of so many blocks."""
T_95_OF_8 = 1.860
"""One-sided 95 % quantile of Student's t for BLOCKS - 2 degrees of freedom."""
GROWTH_SHARE = 0.05
"""A process counts as growing when, with 95 % confidence, its memory rises by more than this share of its mean within
the time it was looked at."""
SPARE_HANDLES = 3
"""Connections and pool threads that may be there by chance when one looks."""
MIN_SAMPLES = 3 * BLOCKS


@dataclass(frozen=True, slots=True)
class Sample:
    """A process at one instant."""

    at_s: float
    pid: int
    memory_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Growth:
    """What a life of a process looked like."""

    samples: int
    mean_mb: float
    slope_mb_per_min: float
    """Least squares through the means of blocks."""
    slope_low_mb_per_min: float
    """Lower end of its one-sided 95 % confidence interval."""
    problems: tuple[str, ...]


def sampled(pid: int, at_s: float) -> Sample | None:
    """The process now; ``None``: it is gone."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return Sample(at_s, pid, process.memory_info().rss, process.num_fds(), process.num_threads())
    except psutil.Error:
        return None


def growth_of(samples: Sequence[Sample]) -> Growth | None:
    """Of the samples of one process; ``None``: there are too few to say."""
    if len(samples) < MIN_SAMPLES:
        return None
    minutes = np.array([np.mean(block) for block in np.array_split([s.at_s / 60.0 for s in samples], BLOCKS)])
    megabytes = np.array([np.mean(block) for block in np.array_split([s.memory_bytes / 1e6 for s in samples], BLOCKS)])
    slope, low = slope_and_low(minutes, megabytes)
    span_min, mean_mb = float(minutes[-1] - minutes[0]), float(megabytes.mean())
    has_grown = low * span_min > GROWTH_SHARE * mean_mb
    problems = (f"memory grows by {slope:.2f} MB a minute, at least {low:.2f}",) if has_grown else ()
    return Growth(len(samples), mean_mb, slope, low, problems)


def piled_up(before: Sample, after: Sample) -> list[str]:
    """What a process holds more of than before, both times at rest."""
    counts = {name: (getattr(before, name), getattr(after, name)) for name in ("descriptors", "threads")}
    return [
        f"{name} grew from {first} to {last}" for name, (first, last) in counts.items() if last > first + SPARE_HANDLES
    ]


def slope_and_low(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least-squares slope and the lower end of its one-sided 95 % confidence interval."""
    spread = x - x.mean()
    squares = float((spread**2).sum())
    slope = float((spread * (y - y.mean())).sum()) / squares
    residuals = y - y.mean() - slope * spread
    error = float(np.sqrt((residuals**2).sum() / (len(x) - 2) / squares))
    return slope, slope - T_95_OF_8 * error
