"""Which plan holds, when, and what a look-up says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from device.plan_keeping import Observed, PlanKeeper, default_contingency
from tests.unit.device.made_up_device import DIGEST, EDGE, manifest_of, offload_at, plan_of
from twinsplit.errors import BadMessageError, WrongDigestError
from twinsplit.model.manifest import Manifest
from twinsplit.plan import BusyUplink, Contingency
from twinsplit.reckoning import BacklogState, predicted_backlog_s
from twinsplit.types import NO_EVIDENCE, Decision, Payloads, Reason

MANIFEST = manifest_of()
IDLE = Observed(0, 0.0)


def busy_plan(decide, from_s=0.05, **changes):
    """Go on but while the uplink is busy for ``from_s``; then ``decide``."""
    busy = plan_of(MANIFEST, decide)
    part = BusyUplink(from_s, changes.pop("band_edges_s", busy.band_edges_s), changes.pop("table", busy.table))
    return replace(plan_of(MANIFEST), busy_uplink=part, **changes)


def keeper_of(**changes) -> PlanKeeper:
    return PlanKeeper(changes.pop("manifest", MANIFEST), DIGEST, **changes)


def with_macs(manifest: Manifest, macs: tuple[int, ...]) -> Manifest:
    segments = [s.model_copy(update={"macs": n}) for s, n in zip(manifest.segments, macs, strict=True)]
    return manifest.model_copy(update={"segments": tuple(segments)})


class TestPlans:
    def test_only_a_newer_plan_replaces_the_one_that_stands(self):
        keeper = keeper_of()
        assert keeper.plan_received(plan_of(MANIFEST, plan_id=5), None, 0.0)
        assert not keeper.plan_received(plan_of(MANIFEST, plan_id=5), None, 1.0)
        assert not keeper.plan_received(plan_of(MANIFEST, plan_id=4), None, 1.0)
        assert keeper.plan_received(plan_of(MANIFEST, plan_id=6), None, 2.0)
        assert keeper.last_plan_id == 6
        assert (keeper.plans_received, keeper.plans_ignored) == (2, 2)
        assert keeper.plan_age_s(3.0) == 1.0

    def test_a_plan_for_another_model_is_refused_and_the_old_one_stands(self):
        keeper = keeper_of()
        keeper.plan_received(plan_of(MANIFEST, plan_id=1), None, 0.0)
        with pytest.raises(WrongDigestError, match="for model cdcd"):
            keeper.plan_received(replace(plan_of(MANIFEST, plan_id=2), model_digest="cd" * 32), None, 0.0)
        assert keeper.last_plan_id == 1

    def test_a_plan_that_does_not_fit_the_model_is_refused(self):
        with pytest.raises(BadMessageError, match="table has shape"):
            keeper_of().plan_received(plan_of(manifest_of(5)), None, 0.0)

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"from_s": 0.0}, "above 0"),
            ({"from_s": float("nan")}, "above 0"),
            ({"from_s": float("inf")}, "above 0"),
            ({"band_edges_s": (0.2, 0.1)}, "must ascend"),
            ({"band_edges_s": (0.1, 0.2)}, "table has shape"),
            ({"table": plan_of(MANIFEST).table + 9}, "a decision that this version does not know"),
            ({"table": np.full_like(plan_of(MANIFEST).table, Decision.EXIT)}, "EXIT without evidence"),
            ({"tensor_representations": (-1,) * 5}, "offloads without a representation"),
        ],
    )
    def test_a_part_for_a_busy_uplink_that_cannot_be_obeyed_is_refused(self, changes, match):
        with pytest.raises(BadMessageError, match=match):
            keeper_of().plan_received(busy_plan(offload_at(2), **changes), None, 0.0)

    def test_a_busy_uplink_is_not_told_apart_where_there_is_a_deadline(self):
        plan = busy_plan(offload_at(2))
        timed = replace(plan, age_edges_s=(0.1,), table=np.repeat(plan.table[..., None], 2, axis=-1))
        with pytest.raises(BadMessageError, match="only without a deadline"):
            keeper_of().plan_received(timed, None, 0.0)

    def test_the_part_for_a_busy_uplink_holds_from_its_time_on(self):
        keeper = keeper_of()
        keeper.plan_received(busy_plan(offload_at(2)), None, 0.0)
        for busy_s, decision in ((0.049, Decision.CONTINUE), (0.05, Decision.OFFLOAD_TENSOR)):
            assert keeper.choose(0.0, 2, NO_EVIDENCE, IDLE._replace(uplink_busy_s=busy_s)).decision is decision

    @pytest.mark.parametrize("threshold", [float("nan"), -0.1])
    def test_a_threshold_that_no_confidence_can_be_compared_with_is_refused(self, threshold):
        with pytest.raises(BadMessageError, match="threshold"):
            keeper_of().plan_received(plan_of(MANIFEST, thresholds=(0.9, threshold)), None, 0.0)
        assert keeper_of().plan_received(plan_of(MANIFEST, thresholds=(0.9, float("inf"))), None, 0.0)

    @pytest.mark.parametrize(
        "plan",
        [
            plan_of(MANIFEST, offload_at(2, Decision.OFFLOAD_INPUT)),
            plan_of(MANIFEST, offload_at(0, Decision.OFFLOAD_TENSOR)),
            plan_of(MANIFEST, contingency_cut=0),
            busy_plan(offload_at(2, Decision.OFFLOAD_INPUT)),
            busy_plan(offload_at(0, Decision.OFFLOAD_TENSOR)),
        ],
        ids=[
            "input at an inner epoch",
            "tensor of cut 0",
            "contingency at cut 0",
            "input while the uplink is busy",
            "tensor of cut 0 while the uplink is busy",
        ],
    )
    def test_a_plan_that_sends_the_input_is_refused_where_only_tensors_may_leave(self, plan):
        with pytest.raises(BadMessageError, match="tensors only"):
            keeper_of(payloads=Payloads.TENSORS_ONLY).plan_received(plan, None, 0.0)
        assert keeper_of().plan_received(plan, None, 0.0)

    @pytest.mark.parametrize(
        "plan", [plan_of(MANIFEST, offload_at(2)), plan_of(MANIFEST, contingency_cut=2), busy_plan(offload_at(2))]
    )
    def test_a_tensor_before_which_nothing_is_multiplied_counts_as_the_input(self, plan):
        manifest = with_macs(MANIFEST, (0, 0, 7, 0))
        with pytest.raises(BadMessageError, match="tensors only"):
            keeper_of(manifest=manifest, payloads=Payloads.TENSORS_ONLY).plan_received(plan, None, 0.0)
        assert keeper_of(manifest=manifest).plan_received(plan, None, 0.0)

    def test_the_first_tensor_behind_a_product_may_leave(self):
        keeper = keeper_of(manifest=with_macs(MANIFEST, (0, 0, 7, 0)), payloads=Payloads.TENSORS_ONLY)
        assert keeper.plan_received(plan_of(MANIFEST, offload_at(3)), None, 0.0)
        forbidden = [keeper.is_forbidden(Decision.OFFLOAD_TENSOR, epoch) for epoch in range(4)]
        assert forbidden == [True, True, True, False]
        assert keeper.is_forbidden(Decision.OFFLOAD_INPUT, 3)
        assert not keeper.is_forbidden(Decision.CONTINUE, 0)


class TestLease:
    def test_every_message_renews_it(self):
        keeper = keeper_of()
        keeper.plan_received(plan_of(MANIFEST, lease_s=10.0), None, 0.0)
        keeper.lease_renewed(10.0, 8.0)
        assert keeper.absence(17.9) is None
        assert keeper.lease_left_s(17.0) == pytest.approx(1.0)
        assert keeper.absence(18.0) is Reason.LEASE_ENDED
        assert keeper.is_degraded(18.0)

    def test_the_newest_message_says_how_long_it_is(self):
        keeper = keeper_of()
        keeper.plan_received(plan_of(MANIFEST, lease_s=10.0), None, 0.0)
        keeper.lease_renewed(1.0, 1.0)
        assert keeper.absence(2.0) is Reason.LEASE_ENDED

    def test_before_the_first_plan_there_is_none(self):
        keeper = keeper_of()
        keeper.lease_renewed(10.0, 0.0)
        assert keeper.absence(1.0) is Reason.NO_PLAN
        assert keeper.lease_left_s(1.0) == 0.0
        assert keeper.plan_age_s(1.0) is None


class TestBacklog:
    def test_the_newest_reading_is_carried_forward(self):
        keeper = keeper_of()
        keeper.backlog_seen(BacklogState(1.0, at_s=10.0))
        keeper.backlog_seen(BacklogState(9.0, at_s=9.0))
        assert keeper.backlog_s(10.0) == 1.0
        assert keeper.backlog_s(10.4) == predicted_backlog_s(BacklogState(1.0, 10.0), 10.4) < 1.0

    def test_nothing_known_counts_as_no_backlog(self):
        assert keeper_of().backlog_s(5.0) == 0.0

    def test_a_reading_of_another_edge_does_not_count(self):
        keeper = keeper_of()
        keeper.plan_received(plan_of(MANIFEST), None, 0.0)
        keeper.backlog_seen(BacklogState(3.0, 1.0), "192.0.2.9:7100")
        assert keeper.backlog is None
        keeper.backlog_seen(BacklogState(3.0, 1.0), EDGE)
        assert keeper.backlog_s(1.0) == 3.0

    def test_a_plan_for_another_edge_forgets_the_old_ones_backlog(self):
        keeper = keeper_of()
        keeper.plan_received(plan_of(MANIFEST, plan_id=1), BacklogState(3.0, 0.0), 0.0)
        moved = replace(plan_of(MANIFEST, plan_id=2), edge_address="192.0.2.9:7100")
        keeper.plan_received(moved, None, 0.0)
        assert keeper.backlog is None
        assert keeper.edge_address == "192.0.2.9:7100"

    def test_the_edge_that_the_device_was_told_stays(self):
        keeper = keeper_of(fixed_edge_address="192.0.2.1:1")
        keeper.plan_received(plan_of(MANIFEST), None, 0.0)
        assert keeper.edge_address == "192.0.2.1:1"


class TestLookUp:
    def test_it_reads_the_cell_of_epoch_evidence_queue_and_band(self):
        keeper = keeper_of()
        wanted = (2, 3, 3, 1)
        plan = plan_of(MANIFEST, lambda *cell: Decision.OFFLOAD_TENSOR if cell == wanted else Decision.CONTINUE)
        keeper.plan_received(plan, None, 0.0)
        seen = Observed(7, 0.1)  # 3 or more wait; a backlog on a break point belongs above it
        assert keeper.choose(0.0, 2, 3, seen).decision is Decision.OFFLOAD_TENSOR
        assert keeper.choose(0.0, 2, 3, Observed(7, 0.099)).decision is Decision.CONTINUE
        assert keeper.choose(0.0, 2, 3, Observed(2, 0.1)).decision is Decision.CONTINUE

    def test_with_a_deadline_it_reads_the_band_of_the_age(self):
        plain = plan_of(MANIFEST)
        table = np.repeat(plain.table[..., None], 3, axis=-1)
        table[1, ..., 1] = Decision.OFFLOAD_TENSOR
        keeper = keeper_of()
        keeper.plan_received(replace(plain, table=table, age_edges_s=(0.1, 0.3)), None, 0.0)
        found = [keeper.choose(0.0, 1, NO_EVIDENCE, Observed(0, 0.0, age_s)).decision for age_s in (0.09, 0.1, 0.3)]
        assert found == [Decision.CONTINUE, Decision.OFFLOAD_TENSOR, Decision.CONTINUE]

    @pytest.mark.parametrize("edges", [(0.3, 0.1), (0.1, float("nan")), (0.1,), tuple(range(40))])
    def test_ages_that_do_not_fit_the_table_are_refused(self, edges):
        plain = plan_of(MANIFEST)
        table = np.repeat(plain.table[..., None], 3, axis=-1)
        with pytest.raises(BadMessageError, match=r"age|shape"):
            keeper_of().plan_received(replace(plain, table=table, age_edges_s=edges), None, 0.0)

    def test_a_choice_says_why_and_by_which_plan(self):
        keeper = keeper_of()
        keeper.plan_received(plan_of(MANIFEST, offload_at(1), plan_id=9), None, 0.0)
        assert keeper.choose(0.0, 1, NO_EVIDENCE, IDLE)[:3] == (Decision.OFFLOAD_TENSOR, Reason.OFFLOAD_PAYS, 9)
        assert keeper.choose(0.0, 2, NO_EVIDENCE, IDLE)[:3] == (Decision.CONTINUE, Reason.NOT_WORTH_IT, 9)

    def test_what_hinders_an_offload_becomes_the_reason(self):
        keeper = keeper_of()
        keeper.plan_received(plan_of(MANIFEST, offload_at(1)), None, 0.0)
        choice = keeper.choose(0.0, 1, NO_EVIDENCE, IDLE, Reason.BREAKER_OPEN)
        assert (choice.decision, choice.reason) == (Decision.CONTINUE, Reason.BREAKER_OPEN)

    def test_without_a_plan_it_leaves_where_the_exit_is_as_sure_as_the_network(self):
        keeper = keeper_of()
        assert keeper.choose(0.0, 1, 3, IDLE)[:2] == (Decision.EXIT, Reason.EXIT_CONFIDENT)
        assert keeper.choose(0.0, 1, 2, IDLE)[:2] == (Decision.CONTINUE, Reason.NO_PLAN)
        assert keeper.exits_run(0.0) == (True, True)

    def test_the_default_never_offloads_from_a_device_that_holds_the_whole_network(self):
        assert default_contingency(MANIFEST) == Contingency((MANIFEST.p_whole_right(0),) * 2, None)
        assert default_contingency(manifest_of(4, (1,), device_segments=2)).cut == 2

    def test_without_measured_accuracy_the_default_leaves_at_no_exit(self):
        keeper = keeper_of(manifest=MANIFEST.model_copy(update={"whole_accuracy": None}))
        assert keeper.choose(0.0, 1, 3, IDLE).decision is Decision.CONTINUE
        assert keeper.exits_run(0.0) == (False, False), "an exit that answers nothing is not run"

    def test_exits_run_as_the_plan_says_and_after_the_lease_as_the_contingency_needs(self):
        keeper = keeper_of()
        plan = plan_of(MANIFEST, exits_run=(False, True), lease_s=1.0, thresholds=(0.9, 2.0))
        keeper.plan_received(plan, None, 0.0)
        assert keeper.exits_run(0.5) == (False, True)
        assert keeper.exits_run(1.0) == (True, False)

    def test_the_smallest_offered_representation_is_the_default(self):
        keeper = keeper_of(manifest=manifest_of(4, (), device_segments=2))
        assert keeper.representation(2, Decision.OFFLOAD_TENSOR) == 1

    def test_every_cell_of_a_fitting_plan_can_be_looked_up(self):
        keeper = keeper_of()
        plan = plan_of(MANIFEST, lambda e, v, q, b: Decision(2 + (e + v + q + b) % 2))
        keeper.plan_received(plan, None, 0.0)
        for epoch, evidence, queue, band in np.ndindex(plan.table.shape):
            seen = Observed(queue, 0.05 + 0.1 * band)
            assert keeper.choose(0.0, epoch, evidence, seen).decision == plan.table[epoch, evidence, queue, band]
