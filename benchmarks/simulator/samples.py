"""What is drawn for a device's tasks before any rule decides: arrivals, what exits would show, noise of its steps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np

from benchmarks.scenario import Scenario
from benchmarks.simulator.jitter import jitter_factors
from benchmarks.streams import stream_seed
from twinsplit.model.answers import ExitAnswer
from twinsplit.model.manifest import Manifest
from twinsplit.types import NO_EVIDENCE, evidence_state


@dataclass(frozen=True, slots=True, eq=False)
class TaskSamples:
    """Of one device; tasks are numbered from 0 (a pipeline's task id less 1)."""

    arrivals_s: Sequence[float]
    uniforms: Sequence[Sequence[float]]  # (tasks, exits)
    shown_bins: Sequence[Sequence[int]] | None  # (tasks, exits) what exits show; None: drawn, by ``uniforms``
    segment_jitters: Sequence[Sequence[float]]  # (tasks, segments)
    edge_jitters: Sequence[float]  # (tasks,) of its tail, if it is sent
    delays_s: Sequence[float]  # (tasks,) of its payload on top of the uplink's fixed one


def samples_of(
    scenario: Scenario,
    manifest: Manifest,
    device: int,
    arrivals_s: Sequence[float],
    shown_bins: Sequence[Sequence[int]] | None = None,
) -> TaskSamples:
    """What is drawn for the tasks of ``device`` that arrive at ``arrivals_s``."""
    tasks, segments = len(arrivals_s), manifest.segment_count
    evidence, noise = (
        np.random.default_rng(stream_seed(scenario.seed, name, device)) for name in ("evidence", "service-jitter")
    )
    jitters = jitter_factors(noise, tasks * (segments + 1), scenario.service_jitter)
    rows = [jitters[i * (segments + 1) : (i + 1) * (segments + 1)] for i in range(tasks)]
    delays = np.random.default_rng(stream_seed(scenario.seed, "uplink-delay", device))
    jitter_s = scenario.uplink_jitter_s
    return TaskSamples(
        arrivals_s=arrivals_s,
        uniforms=evidence.random((tasks, max(len(manifest.exits), 1))).tolist(),
        shown_bins=shown_bins,
        segment_jitters=rows,
        edge_jitters=[row[-1] for row in rows],
        delays_s=(delays.exponential(jitter_s, tasks) if jitter_s > 0.0 else np.zeros(tasks)).tolist(),
    )


class EvidenceDraw:
    """What an exit shows: the bin at a task's uniform number, by the manifest's prior or transition matrix."""

    def __init__(self, manifest: Manifest) -> None:
        self._bins = manifest.bin_count
        self._cumulative = {
            (NO_EVIDENCE, e.index): _cumulative(e.prior)
            for e in manifest.exits
        } | {
            (evidence_state(before.index, b, manifest.bin_count), index): _cumulative(row)
            for before in manifest.exits
            for index, matrix in before.transitions.items()
            for b, row in enumerate(matrix)
        }  # fmt: skip
        self._answers = [
            [
                ExitAnswer(0, _middle(e.bin_edges, b), evidence_state(e.index, b, self._bins), p_right)
                for b, p_right in enumerate(e.p_right)
            ]
            for e in manifest.exits
        ]

    def evidence(self, before: int, exit_index: int, uniform: float) -> int:
        """Evidence state after the exit ran on a task whose evidence was ``before``."""
        return evidence_state(exit_index, self._bin(before, exit_index, uniform), self._bins)

    def answer(self, samples: TaskSamples, task: int, before: int, exit_index: int) -> ExitAnswer:
        """The exit's answer on a task whose evidence was ``before``; its label is of no meaning."""
        if samples.shown_bins is not None:
            return self._answers[exit_index][samples.shown_bins[task][exit_index]]
        return self._answers[exit_index][self._bin(before, exit_index, samples.uniforms[task][exit_index])]

    def _bin(self, before: int, exit_index: int, uniform: float) -> int:
        return min(bisect_right(self._cumulative[before, exit_index], uniform), self._bins - 1)


@lru_cache(maxsize=16)
def evidence_draw(manifest: Manifest) -> EvidenceDraw:
    """The draw of a manifest, made once."""
    return EvidenceDraw(manifest)


def _cumulative(distribution: Sequence[float]) -> list[float]:
    total = sum(distribution)
    return [share / total for share in accumulate(distribution)]


def _middle(edges: Sequence[float], bin_index: int) -> float:
    borders = (0.0, *edges, 1.0)
    return 0.5 * (borders[bin_index] + borders[bin_index + 1])
