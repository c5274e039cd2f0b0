"""Payoffs with a deadline against a plain recursion written from the formulas of design section 5."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "decision"))
from situations import BINS, manifest_of, situation_of

from twin_service.decision.deadline import TimedPayoffs, timed_payoffs, worth
from twin_service.decision.situation import Situation
from twin_service.decision.statistics import statistics_of
from twin_service.decision.stopping import present_payoffs
from twin_service.decision.tables import QUEUES
from twin_service.decision.utility import NEVER, batch_of
from twinsplit.model.manifest import Manifest, RepresentationEntry
from twinsplit.plan import Observation
from twinsplit.reckoning import BacklogState, predicted_backlog_s
from twinsplit.types import Decision

MANIFESTS = (manifest_of(), manifest_of(6, (2, 4), seed=3), manifest_of(4, ()), manifest_of(5, (1,), device_segments=3))
DEADLINES_S = (0.05, 0.2, 0.5, 1.5)
AGES_S = np.array([0.0, 0.07, 0.31, np.inf])


class Plain:
    """One state at a time, no arrays: what a task is worth at an epoch, ``elapsed`` seconds after the present."""

    def __init__(
        self, s: Situation, exits_run: tuple[bool, ...], queue: float, backlog_s: float, age_s: float, deadline_s: float
    ) -> None:
        self.s, self.m, self.w = s, s.manifest, s.weights
        self.run_at = {e.after_segment: e for e in self.m.exits if exits_run[e.index]}
        self.queue, self.backlog_s, self.age_s, self.deadline_s = queue, backlog_s, age_s, deadline_s

    def accuracy(self, p_right: float, answered_after_s: float) -> float:
        """alpha * P, and nothing where the answer comes too late."""
        return self.w.alpha_s * p_right if self.age_s + answered_after_s <= self.deadline_s else 0.0

    def side_price(self, d: float, queue: float) -> float:
        caused = queue * d + self.s.task_rate_per_s * d * d / 2
        return self.s.waiting_factor * caused + self.w.beta_s_per_joule * self.w.compute_watts * d

    def cheapest(self, cut: int) -> tuple[RepresentationEntry, float]:
        def cost(entry: RepresentationEntry) -> float:
            upload = entry.mean_bytes / self.s.goodput_bytes_per_s
            sending = upload * (1 + self.w.beta_s_per_joule * self.w.transmit_watts)
            encoding = entry.encode_s * (1 + self.w.beta_s_per_joule * self.w.compute_watts)
            return self.w.alpha_s * entry.loss + encoding + sending

        entry = min(self.m.cuts[cut].representations, key=cost)
        return entry, entry.mean_bytes / self.s.goodput_bytes_per_s

    def offload(self, cut: int, evidence: int, elapsed: float) -> float:
        assert self.s.tail_s is not None
        entry, upload = self.cheapest(cut)
        state = BacklogState(self.backlog_s, 0.0, self.s.backlog_mean_s, self.s.backlog_time_constant_s)
        backlog = predicted_backlog_s(state, elapsed)
        u = entry.encode_s + max(self.s.uplink_busy_s - elapsed, 0.0) + upload + self.s.overhead_s
        taken = u + max(backlog - u, 0.0) + self.s.tail_s[cut]
        there = BacklogState(backlog, 0.0, self.s.backlog_mean_s, self.s.backlog_time_constant_s)
        answered = elapsed + u + predicted_backlog_s(there, u) + self.s.tail_s[cut]
        queue = self.queue + self.s.task_rate_per_s * elapsed
        paid = self.w.beta_s_per_joule * self.w.transmit_watts * upload + self.side_price(entry.encode_s, queue)
        return self.accuracy(self.m.p_whole_right(evidence) - entry.loss, answered) - taken - paid

    def value(self, epoch: int, evidence: int, elapsed: float, decision: Decision) -> float:
        if decision is Decision.EXIT:
            return self.accuracy(self.m.p_exit_right(evidence), elapsed) if evidence else NEVER
        if decision.is_offload:
            is_input = decision is Decision.OFFLOAD_INPUT
            is_barred = (self.s.is_tensors_only if is_input else epoch == 0) or epoch == self.m.segment_count
            return NEVER if is_barred else self.offload(0 if is_input else epoch, evidence, elapsed)
        if epoch == self.m.held_segments:
            is_whole = epoch == self.m.segment_count
            return self.accuracy(self.m.p_whole_right(evidence), elapsed) if is_whole else NEVER / 2
        there = self.run_at.get(epoch + 1)
        d = self.s.segment_s[epoch] + (self.s.exit_s[there.index] if there else 0.0)
        after = [(evidence, 1.0)]
        if there is not None:
            before = None if evidence == 0 else self.m.exits[(evidence - 1) // BINS]
            row = there.prior if before is None else before.transitions[there.index][(evidence - 1) % BINS]
            after = [(1 + there.index * BINS + b, p) for b, p in enumerate(row)]
        ahead = sum(p * max(self.value(epoch + 1, e, elapsed + d, any_) for any_ in Decision) for e, p in after)
        # Evidence makes the network no better: over it P(whole right) has to keep its mean.
        seeming = self.m.p_whole_right(evidence) - sum(p * self.m.p_whole_right(e) for e, p in after)
        queue = self.queue + self.s.task_rate_per_s * elapsed
        return ahead + self.accuracy(seeming, elapsed + d) - d - self.side_price(d, queue)


def shown(manifest: Manifest, exits_run: tuple[bool, ...], epoch: int) -> list[int]:
    """Evidence that a task can have at ``epoch``."""
    last = max((e.index for e in manifest.exits if e.after_segment <= epoch and exits_run[e.index]), default=None)
    return [0] if last is None else [1 + last * BINS + b for b in range(BINS)]


def timed(s: Situation, exits_run: tuple[bool, ...], deadline_s: float, observation: Observation) -> TimedPayoffs:
    s = replace(s, weights=replace(s.weights, deadline_s=deadline_s))
    return timed_payoffs(batch_of([s], statistics_of(s.manifest), exits_run), s, observation)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(MANIFESTS),
    st.booleans(),
    st.booleans(),
    st.sampled_from(DEADLINES_S),
    st.sampled_from(Observation),
)
def test_payoffs_equal_the_plain_recursion(seed, manifest, tensors_only, runs_exits, deadline_s, observation) -> None:
    s = situation_of(manifest, seed, tensors_only=tensors_only)
    exits_run = (runs_exits,) * len(manifest.exits)
    batch = batch_of([s], statistics_of(manifest), exits_run)
    backlogs = np.array([0.0, 0.12, 0.9])
    found = worth(batch, deadline_s, QUEUES[:3], backlogs, AGES_S, observation)[:, 0]
    rng = np.random.default_rng(seed)
    for epoch in range(manifest.held_segments + 1):
        evidence = int(rng.choice(shown(manifest, exits_run, epoch)))
        q, w, a = (int(rng.integers(n)) for n in (3, 3, 4))
        plain = Plain(s, exits_run, q, backlogs[w], AGES_S[a], deadline_s)
        elapsed = batch.reached_s[0, epoch] if observation is Observation.SERVICE_START else 0.0
        for decision in Decision:
            expected = plain.value(epoch, evidence, elapsed, decision)
            got = found[decision, epoch, q, w, a, evidence]
            assert got == pytest.approx(expected, abs=1e-9) or (got < NEVER / 4 and expected < NEVER / 4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(MANIFESTS), st.sampled_from(Observation))
def test_a_deadline_far_away_changes_no_payoff(seed: int, manifest, observation) -> None:
    s = situation_of(manifest, seed)
    batch = batch_of([s], statistics_of(manifest), (True,) * len(manifest.exits))
    backlogs = np.linspace(0.0, 1.5, 6)
    found = worth(batch, 1e6, QUEUES, backlogs, np.array([0.0, 5.0]), observation)[:, 0]
    plain = present_payoffs(batch, QUEUES, backlogs[None], observation, is_reduced=False).dense(0)
    for age in (0, 1):
        possible = plain > NEVER / 4
        assert np.allclose(found[:, :, :, :, age][possible], plain[possible], rtol=0.0, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from(MANIFESTS), st.sampled_from(DEADLINES_S), st.sampled_from(Observation))
def test_beyond_the_last_backlog_no_decision_changes(seed: int, manifest, deadline_s, observation) -> None:
    s = situation_of(manifest, seed)
    exits_run = (True,) * len(manifest.exits)
    batch = batch_of([s], statistics_of(manifest), exits_run)
    payoffs = timed(s, exits_run, deadline_s, observation)
    beyond = payoffs.backlog_s[-1] * np.array([1.0, 1.3, 3.0])
    found = worth(batch, deadline_s, QUEUES, beyond, payoffs.age_s, observation)[:, 0]
    of_stay = found[: Decision.OFFLOAD_TENSOR].max(axis=0)
    of_offload = found[Decision.OFFLOAD_TENSOR :].max(axis=0)
    is_better = of_offload > of_stay + 1e-9
    for epoch in range(manifest.held_segments + 1):
        for evidence in shown(manifest, exits_run, epoch):
            there = is_better[epoch, :, :, :, evidence]  # (Q, beyond, A)
            assert (there == there[:, :1]).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from(MANIFESTS), st.sampled_from(DEADLINES_S), st.sampled_from(Observation))
def test_an_offload_that_a_table_takes_for_its_accuracy_is_in_time_anywhere_in_its_band(
    seed: int, manifest, deadline_s, observation
) -> None:
    s = situation_of(manifest, seed)
    exits_run = (True,) * len(manifest.exits)
    payoffs = timed(s, exits_run, deadline_s, observation)
    table, edges, ages = payoffs.table()
    table = table if ages else table[..., None]
    assert table.shape[3:] == (len(edges) + 1, len(ages) + 1)
    band_ends = (*edges, payoffs.backlog_s[-1])
    rng = np.random.default_rng(seed)
    batch = batch_of([s], statistics_of(manifest), exits_run)
    for epoch in range(manifest.held_segments):
        elapsed = batch.reached_s[0, epoch] if observation is Observation.SERVICE_START else 0.0
        for band, age_band in np.ndindex(table.shape[3:]):
            if age_band == len(ages) or band == len(edges):
                continue
            backlog_s = rng.uniform(0.0 if band == 0 else edges[band - 1], band_ends[band])
            age_s = rng.uniform(0.0 if age_band == 0 else ages[age_band - 1], ages[age_band])
            evidence = int(rng.choice(shown(manifest, exits_run, epoch)))
            decision = Decision(table[epoch, evidence, 0, band, age_band])
            if not decision.is_offload:
                continue
            at_end = Plain(s, exits_run, 0.0, band_ends[band], ages[age_band], deadline_s)
            within = Plain(s, exits_run, 0.0, backlog_s, age_s, deadline_s)
            assert (
                within.value(epoch, evidence, elapsed, decision)
                >= at_end.value(epoch, evidence, elapsed, decision) - 1e-9
            )


def test_without_a_deadline_nothing_has_an_age() -> None:
    from twin_service.decision.optimising import OPEN_LOOP

    s = situation_of(MANIFESTS[0], 1)
    assert OPEN_LOOP.table(s).age_edges_s == ()
    assert OPEN_LOOP.table(s).table.ndim == 4
    with_one = replace(s, weights=replace(s.weights, deadline_s=0.6))
    assert OPEN_LOOP.table(with_one).table.ndim == 5
