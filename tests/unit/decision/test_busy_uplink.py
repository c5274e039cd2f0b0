"""Plans that tell a busy uplink from a free one: only the device knows when its own payloads have left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from situations import manifest_of, situation_of

from twin_service.decision.optimising import LOAD_ONLY, ONE_TIME, OPEN_LOOP
from twin_service.decision.regret import regret_s
from twin_service.decision.rules import rule_named
from twin_service.decision.situation import Situation
from twinsplit.types import Decision

MANIFEST = manifest_of()
SLOW, FAST = 20_000.0, 10_000_000.0


def situation(seed: int, share: float | None, goodput: float = SLOW) -> Situation:
    return replace(situation_of(MANIFEST, seed), uplink_busy_share=share, goodput_bytes_per_s=goodput)


@pytest.mark.parametrize("rule", [OPEN_LOOP, LOAD_ONLY, ONE_TIME], ids=lambda rule: rule.name)
@pytest.mark.parametrize("seed", range(6))
def test_either_part_is_what_a_device_with_that_uplink_would_be_told(rule, seed) -> None:
    s = situation(seed, 0.2)
    table = rule.evaluate([s])[0].plan_table
    busy = table.busy_uplink
    assert busy is not None
    sizes = [
        MANIFEST.cuts[k].representations[r].mean_bytes
        for k, r in (*enumerate(table.tensor_representations), *((0, r) for r in table.input_representations))
        if r >= 0
    ]
    longest_s = max(sizes) / SLOW
    assert busy.from_s == pytest.approx(longest_s / 3.0)
    run = np.array([table.exits_run])
    for found, uplink_s in ((table, 0.0), (table.while_uplink_is_busy(), longest_s)):
        known = replace(s, uplink_busy_s=uplink_s, uplink_busy_share=None)
        expected = rule.evaluate([known], run)[0].plan_table
        assert found.band_edges_s == pytest.approx(expected.band_edges_s)
        np.testing.assert_array_equal(found.table, expected.table)


def test_a_busy_uplink_makes_offloads_rarer_somewhere() -> None:
    free = busy = 0
    for seed in range(20):
        table = OPEN_LOOP.evaluate([situation(seed, 0.2)])[0].plan_table
        free += int((table.table[:, 0, :, 0] >= Decision.OFFLOAD_TENSOR).sum())
        busy += int((table.while_uplink_is_busy().table[:, 0, :, 0] >= Decision.OFFLOAD_TENSOR).sum())
    assert busy < free


@pytest.mark.parametrize(
    ("share", "goodput"), [(None, SLOW), (0.2, FAST)], ids=["its wait is known", "payloads leave at once"]
)
def test_nothing_is_told_apart_where(share, goodput) -> None:
    assert OPEN_LOOP.evaluate([situation(1, share, goodput)])[0].plan_table.busy_uplink is None


def test_nor_without_an_edge_nor_with_a_deadline_nor_by_a_fixed_threshold() -> None:
    s = situation(1, 0.2)
    assert OPEN_LOOP.evaluate([replace(s, tail_s=None)])[0].plan_table.busy_uplink is None
    timed = replace(s, weights=replace(s.weights, deadline_s=0.5))
    assert OPEN_LOOP.evaluate([timed])[0].plan_table.busy_uplink is None
    for name in ("one-time-threshold:0.8", "threshold-static:2,0.8", "edge-only"):
        assert rule_named(name).table(s).busy_uplink is None


def test_a_batch_is_told_apart_as_each_of_it_is() -> None:
    batch = [situation(1, 0.2), situation(2, None), situation(3, 0.1, FAST), situation(4, 0.0)]
    together = [e.plan_table for e in OPEN_LOOP.evaluate(batch)]
    assert [table.busy_uplink is not None for table in together] == [True, False, False, True]
    for table, s in zip(together, batch, strict=True):
        assert table.is_same(OPEN_LOOP.evaluate([s])[0].plan_table)


class TestKeepingAnOldPlan:
    def lost_s(self, old: Situation, now: Situation) -> float:
        table = OPEN_LOOP.evaluate([old])[0].plan_table
        return regret_s(table, OPEN_LOOP.evaluate([now])[0], now, backlog_s=0.0, queue_length=0)

    def test_the_same_plan_loses_nothing(self) -> None:
        for seed in range(6):
            assert self.lost_s(situation(seed, 0.2), situation(seed, 0.2)) == 0.0

    def test_one_that_knows_no_busy_uplink_loses_in_proportion_to_its_share(self) -> None:
        lost = []
        for seed in range(12):
            old = replace(situation(seed, None), uplink_busy_s=0.0)
            run = np.array([OPEN_LOOP.evaluate([situation(seed, 0.5)])[0].plan_table.exits_run])
            table = OPEN_LOOP.evaluate([old], run)[0].plan_table
            by_share = [
                regret_s(table, OPEN_LOOP.evaluate([s], run)[0], s, backlog_s=0.0, queue_length=0)
                for s in (situation(seed, share) for share in (0.0, 0.25, 0.5))
            ]
            assert by_share[0] < 1e-4, "tables are cut into bands"
            assert by_share[1] == pytest.approx((by_share[0] + by_share[2]) / 2.0)
            lost.append(by_share[2])
        assert max(lost) > 0.001

    def test_what_is_enough_is_more_than_enough_in_full(self) -> None:
        enough_s, more = 0.001, 0
        for seed in range(40):
            now = situation(seed, (None, 0.0, 0.3, 1.0)[seed % 4])
            old = OPEN_LOOP.table(replace(now, goodput_bytes_per_s=SLOW * (0.02, 0.3, 3.0, 100.0)[seed // 4 % 4]))
            evaluation = OPEN_LOOP.evaluate([now])[0]
            in_full_s, bounded_s = (
                regret_s(old, evaluation, now, backlog_s=0.0, queue_length=0, **bound)
                for bound in ({}, {"enough_s": enough_s})
            )
            assert (in_full_s > enough_s) == (bounded_s > enough_s)
            assert bounded_s <= in_full_s + 1e-4, "lines are drawn between the points of the grid"
            more += bounded_s < in_full_s - 1e-4
        assert more > 5

    def test_tables_that_differ_for_a_busy_uplink_alone_are_not_the_same(self) -> None:
        table = OPEN_LOOP.evaluate([situation(1, 0.2)])[0].plan_table
        assert table.busy_uplink is not None
        assert not table.is_same(replace(table, busy_uplink=None))
        later = replace(table.busy_uplink, from_s=2.0 * table.busy_uplink.from_s)
        assert not table.is_same(replace(table, busy_uplink=later))
        assert table.is_same(replace(table, busy_uplink=replace(table.busy_uplink)))
