"""The vectorised backward induction against a plain recursion written from the formulas of design section 5."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "decision"))
from situations import BINS, manifest_of, situation_of

from twin_service.decision.reduction import ceiling_s
from twin_service.decision.situation import Situation
from twin_service.decision.statistics import statistics_of
from twin_service.decision.stopping import present_payoffs
from twin_service.decision.tables import QUEUES, banded
from twin_service.decision.utility import NEVER, batch_of
from twinsplit.plan import Observation
from twinsplit.reckoning import BacklogState, predicted_backlog_s
from twinsplit.types import Decision

MANIFESTS = (manifest_of(), manifest_of(6, (2, 4), seed=3), manifest_of(4, ()), manifest_of(5, (1,), device_segments=3))


class Plain:
    """One present state at a time, no arrays: slow and obvious."""

    def __init__(self, s: Situation, exits_run: tuple[bool, ...]) -> None:
        self.s = s
        self.m = s.manifest
        self.exits_run = exits_run
        self.run_at = {e.after_segment: e for e in self.m.exits if exits_run[e.index]}

    def price(self, d: float, queue: float) -> float:
        w = self.s.weights
        caused = queue * d + self.s.task_rate_per_s * d * d / 2
        return d + self.s.waiting_factor * caused + w.beta_s_per_joule * w.compute_watts * d

    def step(self, epoch: int) -> float:
        there = self.run_at.get(epoch + 1)
        return self.s.segment_s[epoch] + (self.s.exit_s[there.index] if there else 0.0)

    def offload(self, epoch: int, cut: int, evidence: int, queue: float, backlog: float, elapsed: float) -> float:
        s, w = self.s, self.s.weights
        is_input = cut == 0
        if s.tail_s is None or (s.is_tensors_only and is_input) or epoch == self.m.segment_count:
            return NEVER
        best_cost, best = float("inf"), None
        for entry in self.m.cuts[cut].representations:
            upload = entry.mean_bytes / s.goodput_bytes_per_s
            cost = (
                w.alpha_s * entry.loss
                + entry.encode_s * (1 + w.beta_s_per_joule * w.compute_watts)
                + upload * (1 + w.beta_s_per_joule * w.transmit_watts)
            )
            if cost < best_cost:
                best_cost, best = cost, (entry, upload)
        assert best is not None
        entry, upload = best
        u = entry.encode_s + max(s.uplink_busy_s - elapsed, 0.0) + upload + s.overhead_s
        return (
            w.alpha_s * (self.m.p_whole_right(evidence) - entry.loss)
            - (u + max(backlog - u, 0.0) + s.tail_s[cut])
            - w.beta_s_per_joule * w.transmit_watts * upload
            - (self.price(entry.encode_s, queue) - entry.encode_s)
        )

    def value(
        self, epoch: int, evidence: int, queue0: float, backlog0: float, elapsed: float, decision: Decision
    ) -> float:
        alpha = self.s.weights.alpha_s
        queue = queue0 + self.s.task_rate_per_s * elapsed
        state = BacklogState(backlog0, 0.0, self.s.backlog_mean_s, self.s.backlog_time_constant_s)
        backlog = predicted_backlog_s(state, elapsed)
        if decision is Decision.EXIT:
            return alpha * self.m.p_exit_right(evidence) if evidence else NEVER
        if decision is Decision.OFFLOAD_INPUT:
            return self.offload(epoch, 0, evidence, queue, backlog, elapsed)
        if decision is Decision.OFFLOAD_TENSOR:
            return self.offload(epoch, epoch, evidence, queue, backlog, elapsed) if epoch else NEVER
        if epoch == self.m.held_segments:
            return alpha * self.m.p_whole_right(evidence) if epoch == self.m.segment_count else NEVER / 2
        d = self.step(epoch)
        after = [(evidence, 1.0)]
        if epoch + 1 in self.run_at:
            exit_there = self.run_at[epoch + 1]
            row = (
                exit_there.prior
                if evidence == 0
                else self.m.exits[(evidence - 1) // BINS].transitions[exit_there.index][(evidence - 1) % BINS]
            )
            after = [(1 + exit_there.index * BINS + b, p) for b, p in enumerate(row)]
        ahead = sum(
            p * max(self.value(epoch + 1, e, queue0, backlog0, elapsed + d, any_) for any_ in Decision)
            for e, p in after
        )
        # Evidence makes the network no better: over it P(whole right) has to keep its mean.
        seeming = self.m.p_whole_right(evidence) - sum(p * self.m.p_whole_right(e) for e, p in after)
        return ahead + alpha * seeming - self.price(d, queue)


def reachable(plain: Plain, epoch: int) -> list[int]:
    last = max((e.index for e in plain.m.exits if e.after_segment <= epoch and plain.exits_run[e.index]), default=None)
    return [0] if last is None else [1 + last * BINS + b for b in range(BINS)]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(MANIFESTS), st.booleans(), st.booleans())
def test_payoffs_equal_the_plain_recursion(seed: int, manifest, tensors_only: bool, runs_exits: bool) -> None:
    s = situation_of(manifest, seed, tensors_only=tensors_only)
    exits_run = (runs_exits,) * len(manifest.exits)
    batch = batch_of([s], statistics_of(manifest), exits_run)
    backlogs = np.array([[0.0, 0.21, 0.9]])
    found = present_payoffs(batch, QUEUES[:3], backlogs, is_reduced=False).dense(0)
    plain = Plain(s, exits_run)
    rng = np.random.default_rng(seed)
    for epoch in range(manifest.held_segments + 1):
        evidence = int(rng.choice(reachable(plain, epoch)))
        queue, position = int(rng.integers(3)), int(rng.integers(3))
        for decision in Decision:
            expected = plain.value(epoch, evidence, queue, backlogs[0, position], 0.0, decision)
            got = found[decision, epoch, queue, position, evidence]
            assert got == pytest.approx(expected, abs=1e-9) or (got < NEVER / 4 and expected < NEVER / 4)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from(MANIFESTS), st.booleans(), st.sampled_from(Observation))
def test_reduction_changes_no_decision_and_no_value_that_wins(seed, manifest, tensors_only, observation) -> None:
    s = situation_of(manifest, seed, tensors_only=tensors_only)
    batch = batch_of([s], statistics_of(manifest), (True,) * len(manifest.exits))
    backlogs = np.linspace(0.0, 1.5, 24)[None, :]
    full = present_payoffs(batch, QUEUES, backlogs, observation, is_reduced=False)
    reduced = present_payoffs(batch, QUEUES, backlogs, observation, is_reduced=True)
    assert full.pruning.considered == 0
    best, best_reduced = full.dense(0), reduced.dense(0)
    if observation is Observation.EACH_EPOCH:
        np.testing.assert_allclose(best.max(axis=0), best_reduced.max(axis=0), atol=1e-9)
        assert np.array_equal(best.argmax(axis=0), best_reduced.argmax(axis=0))
    np.testing.assert_allclose(best[:, 0].max(axis=0), best_reduced[:, 0].max(axis=0), atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from(MANIFESTS))
def test_a_table_has_the_best_decision_in_every_cell_of_a_fine_grid_but_for_the_merging_of_break_points(
    seed: int, manifest
) -> None:
    s = situation_of(manifest, seed)
    batch = batch_of([s], statistics_of(manifest), (True,) * len(manifest.exits))
    backlogs = np.linspace(0.0, 1.5, 200)[None, :]
    payoffs = present_payoffs(batch, QUEUES, backlogs, is_reduced=False)
    table, edges = banded(payoffs, 0, backlogs[0])
    dense = payoffs.dense(0)
    bands = np.searchsorted(edges, backlogs[0], side="right")
    for epoch in range(manifest.held_segments + 1):
        seen = batch.statistics.seen[epoch]
        chosen = table[epoch][:, :, bands].transpose(1, 2, 0)[..., seen].astype(np.intp)
        here = dense[:, epoch][..., seen]
        lost = here.max(axis=0) - np.take_along_axis(here, chosen[None], axis=0)[0]
        assert lost.mean() < 0.003
        assert (table[epoch][~seen] == Decision.CONTINUE).all()


def test_reduction_prunes_a_good_share() -> None:
    shares = []
    for seed in range(40):
        s = situation_of(MANIFESTS[0], seed)
        batch = batch_of([s], statistics_of(MANIFESTS[0]), (True, True))
        backlogs = np.linspace(0, 1.5, 24)[None, :]
        shares.append(present_payoffs(batch, QUEUES, backlogs, is_reduced=True).pruning.share)
    assert 0.1 < float(np.mean(shares)) < 1.0


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from(MANIFESTS))
def test_nobody_offloads_above_the_ceiling(seed: int, manifest) -> None:
    s = situation_of(manifest, seed)
    batch = batch_of([s], statistics_of(manifest), (True,) * len(manifest.exits))
    ceiling = ceiling_s(batch, QUEUES)
    if not np.isfinite(ceiling[0]):
        assert manifest.device_segments is not None
        return
    above = np.array([[1.0, 1.5, 3.0]]) * ceiling[0] + 1e-6
    dense = present_payoffs(batch, QUEUES, above).dense(0)
    for epoch in range(manifest.held_segments + 1):
        best = dense[:, epoch].argmax(axis=0)[..., batch.statistics.seen[epoch]]
        assert not (best >= Decision.OFFLOAD_TENSOR).any()
