"""Segments over the whole network: what cutting costs on one machine (goal: at most 1.03 times the whole network).

One process, the same threads, the same input; glibc keeps freed memory, as it does in device and edge. Every round runs
the whole network and the chain of its segments once, in an order drawn anew, so that whatever disturbs the machine
disturbs both alike.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks import light_network, whole_network
from benchmarks.samples import described, ms
from twinsplit.model.build import build_model
from twinsplit.model.check import random_inputs, relative_difference
from twinsplit.model.runtime import SegmentRuntime, Session, open_session
from twinsplit.transport.allocation import keep_freed_memory

GOAL = 1.03
WARM_UP = 5
LIGHT = {"alexnet-224": "bvlc_alexnet", "resnet50-224": "resnet50"}


@dataclass(frozen=True, slots=True)
class Subject:
    """One network to measure."""

    name: str
    runtime: SegmentRuntime
    whole: Session


def subjects(shipped: Path, folder: Path, threads: int, seed: int) -> list[Subject]:
    """The shipped network, AlexNet and ResNet-50, cut as ``twinsplit model split`` cuts them.

    Raises:
        ModelError: the shipped model folder cannot be used.
    """
    found = [_subject(shipped.parent.name, shipped, whole_network(shipped, folder), threads)]
    for name, light in LIGHT.items():
        whole = light_network(light, folder, seed)
        build_model(whole, folder / name, name=name)
        found.append(_subject(name, folder / name, whole, threads))
    return found


def measure(
    shipped: Path,
    *,
    rounds: int = 200,
    threads: int = 1,
    seed: int = 1,
    progress: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Times and ratios of every network, with whether the goal is met."""
    keep_freed_memory()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for subject in subjects(shipped, Path(scratch), threads, seed):
            progress(f"{subject.name}: {rounds} rounds")
            rows.append(_row(subject, rounds, random.Random(seed)))
    return {"rounds": rounds, "threads": threads, "goal": GOAL, "rows": rows}


def lines(found: dict[str, Any]) -> list[str]:
    """The figures for people."""
    out = [f"{'network':<18} {'parts':>5} {'whole ms (p95)':>20} {'segments ms (p95)':>20} {'ratio':>7}"]
    for row in found["rows"]:
        whole, parts = row["whole"], row["segments"]
        verdict = "met" if row["is_met"] else "MISSED"
        out.append(
            f"{row['network']:<18} {row['segment_count']:>5} "
            f"{ms(whole['median_s']) + ' (' + ms(whole['p95_s']) + ')':>20} "
            f"{ms(parts['median_s']) + ' (' + ms(parts['p95_s']) + ')':>20} {row['ratio']:>7.3f} {verdict}"
        )
    return [*out, f"Goal: segments at most {found['goal']} times the whole network, {found['threads']} thread(s)."]


def _subject(name: str, folder: Path, whole: Path, threads: int) -> Subject:
    runtime = SegmentRuntime.load(folder, threads=threads, with_exits=False)
    return Subject(name, runtime, open_session(whole, threads=threads))


def _row(subject: Subject, rounds: int, draw: random.Random) -> dict[str, Any]:
    manifest = subject.runtime.manifest
    ((_, tensor),) = random_inputs(manifest, 1)
    ways: dict[str, Callable[[], Any]] = {
        "whole": lambda: subject.whole.run(tensor),
        "segments": lambda: subject.runtime.run_tail(0, tensor),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    order = list(ways)
    for number in range(WARM_UP + rounds):
        draw.shuffle(order)
        for way in order:
            began_s = time.perf_counter()
            ways[way]()
            if number >= WARM_UP:
                times[way].append(time.perf_counter() - began_s)
    whole, parts = described(times["whole"]), described(times["segments"])
    ratio = parts["median_s"] / whole["median_s"]
    return {
        "network": subject.name,
        "digest": subject.runtime.digest,
        "segment_count": manifest.segment_count,
        "provider": subject.runtime.provider,
        "whole": whole,
        "segments": parts,
        "ratio": ratio,
        "p95_ratio": parts["p95_s"] / whole["p95_s"],
        "paired_ratio_quartiles": _paired_quartiles(times["segments"], times["whole"]),
        "difference": relative_difference(subject.whole.run(tensor), ways["segments"]()),
        "is_met": ratio <= GOAL,
    }


def _paired_quartiles(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Quartiles of the ratio within a round: how much one round says."""
    return [float(q) for q in np.percentile(np.asarray(first) / np.asarray(second), (25, 50, 75))]
