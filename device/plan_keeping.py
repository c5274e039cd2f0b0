"""What the device decides by: the newest plan, its lease and contingency, and the newest backlog reading. Sans-IO.

No look-up ever asks or waits for anyone (design sections 4 and 7). A newer plan or backlog counts from the next epoch
on, since every epoch reads what stands at that instant.
"""

from __future__ import annotations

from typing import NamedTuple

from twinsplit.errors import BadMessageError, WrongDigestError
from twinsplit.model.manifest import Manifest
from twinsplit.plan import NO_REPRESENTATION, Contingency, Observation, Plan, check_plan
from twinsplit.reckoning import BacklogState, predicted_backlog_s
from twinsplit.types import NO_EVIDENCE, Decision, Payloads, Reason

NEVER = 2.0
"""An exit threshold that no probability reaches."""


class Observed(NamedTuple):
    """What a look-up is made with."""

    queue_length: int
    """Tasks waiting."""
    backlog_s: float
    """Dead-reckoned backlog of the plan's edge; 0 where nothing is known."""
    age_s: float = 0.0
    """Generation of the task to now."""
    uplink_busy_s: float = 0.0
    """Expected time until what was sent before has left."""


class Choice(NamedTuple):
    """One decision with its reason."""

    decision: Decision
    reason: Reason
    """Of an EXIT or OFFLOAD: why it was taken. Of CONTINUE: why the task would end on the device."""
    plan_id: int | None
    """Plan in force; ``None``: none."""
    is_fallback: bool
    """A plan was expected and none is in force."""


def default_contingency(manifest: Manifest) -> Contingency:
    """What a device without any plan does: leave at an exit that is as sure to be right as the whole network, else go
    on; offload only where the device holds no more than the head."""
    threshold = NEVER if manifest.whole_accuracy is None else manifest.p_whole_right(NO_EVIDENCE)
    is_head_only = manifest.held_segments < manifest.segment_count
    return Contingency(
        exit_thresholds=tuple(threshold for _ in manifest.exits),
        cut=manifest.held_segments if is_head_only else None,
    )


class PlanKeeper:
    """Keeps the newest plan and backlog and looks decisions up."""

    def __init__(
        self,
        manifest: Manifest,
        model_digest: str,
        *,
        payloads: Payloads = Payloads.ANY,
        fixed_edge_address: str | None = None,
        is_plan_expected: bool = True,
    ) -> None:
        """
        Args:
            model_digest: hex; a plan for another model is refused.
            payloads: with TENSORS_ONLY a plan that would send the input, or a tensor that shows it, is refused.
            fixed_edge_address: the edge that this device was told to use; ``None``: the plan names it.
            is_plan_expected: False for a device without a twin, which is not degraded by having no plan.
        """
        self._manifest = manifest
        self._digest = model_digest
        self._first_cut = manifest.first_sent_cut(is_tensors_only=payloads is Payloads.TENSORS_ONLY)
        self._fixed_edge_address = fixed_edge_address
        self.edge_address = fixed_edge_address
        """Where offloads go; ``None``: nowhere."""
        self._is_plan_expected = is_plan_expected
        self._default = default_contingency(manifest)
        self._plan: Plan | None = None
        self._received_at_s = 0.0
        self._lease_ends_at_s = float("-inf")
        self._backlog: BacklogState | None = None
        self._default_exits = self._exits_within(self._default)
        self._contingent_exits = self._default_exits
        self.observes_each_epoch = True
        """False: the plan decides by what was seen at service start."""
        self.plans_received = 0
        """Plans accepted so far."""
        self.plans_ignored = 0
        """Plans that were not newer than the one that stands."""

    @property
    def plan(self) -> Plan | None:
        """Newest plan, in force or not."""
        return self._plan

    @property
    def last_plan_id(self) -> int:
        """Highest plan id seen; 0: none."""
        return self._plan.plan_id if self._plan is not None else 0

    @property
    def backlog(self) -> BacklogState | None:
        """Newest backlog reading of the plan's edge."""
        return self._backlog

    def plan_received(self, plan: Plan, backlog: BacklogState | None, now_s: float) -> bool:
        """Keep ``plan`` if it is newer than the one that stands; say whether it is.

        Raises:
            WrongDigestError: it was made for another model.
            BadMessageError: this device cannot obey it, or it would send the input against ``payloads``.
        """
        if plan.plan_id <= self.last_plan_id:
            self.plans_ignored += 1
            return False
        if plan.model_digest != self._digest:
            raise WrongDigestError(
                f"plan {plan.plan_id} is for model {plan.model_digest[:12]}, this device runs {self._digest[:12]}"
            )
        check_plan(plan, self._manifest)
        if _first_cut_sent(plan) < self._first_cut:
            raise BadMessageError(f"plan {plan.plan_id} sends the input, but this device sends tensors only")
        edge_before = self.edge_address
        self._plan = plan
        self.edge_address = self._fixed_edge_address or plan.edge_address
        self.observes_each_epoch = plan.observation is Observation.EACH_EPOCH
        self._received_at_s = now_s
        self._contingent_exits = self._exits_within(plan.contingency)
        self.plans_received += 1
        if self.edge_address != edge_before:
            self._backlog = None
        if backlog is not None:
            self.backlog_seen(backlog)
        self.lease_renewed(plan.lease_s, now_s)
        return True

    def lease_renewed(self, lease_s: float, now_s: float) -> None:
        """A message of the twin arrived at ``now_s``: the lease ends ``lease_s`` later."""
        self._lease_ends_at_s = now_s + lease_s

    def backlog_seen(self, state: BacklogState, edge_address: str | None = None) -> None:
        """A reading from an answer of the edge at ``edge_address``, or from the twin (``None``); the newest one of the
        plan's edge counts."""
        if edge_address is not None and edge_address != self.edge_address:
            return
        if self._backlog is None or state.at_s >= self._backlog.at_s:
            self._backlog = state

    def backlog_s(self, now_s: float) -> float:
        """Backlog expected now, seconds; 0 where nothing is known."""
        return 0.0 if self._backlog is None else predicted_backlog_s(self._backlog, now_s)

    def absence(self, now_s: float) -> Reason | None:
        """Why no plan is in force; ``None``: one is."""
        if self._plan is None:
            return Reason.NO_PLAN
        return Reason.LEASE_ENDED if now_s >= self._lease_ends_at_s else None

    def lease_left_s(self, now_s: float) -> float:
        """Time until the lease ends; 0 without a plan or after it."""
        return 0.0 if self._plan is None else max(0.0, self._lease_ends_at_s - now_s)

    def plan_age_s(self, now_s: float) -> float | None:
        """Time since the plan arrived; ``None``: there is none."""
        return None if self._plan is None else now_s - self._received_at_s

    def is_degraded(self, now_s: float) -> bool:
        """Whether a plan is expected and none is in force."""
        return self._is_plan_expected and self.absence(now_s) is not None

    def exits_run(self, now_s: float) -> tuple[bool, ...]:
        """Per exit of the manifest, whether it is run now."""
        if self._plan is None:
            return self._default_exits
        return self._plan.exits_run if now_s < self._lease_ends_at_s else self._contingent_exits

    def representation(self, epoch: int, decision: Decision) -> int:
        """Position of the representation in which ``decision`` sends its payload; NO_REPRESENTATION: it cannot."""
        plan = self._plan
        if plan is None:
            return self._default_representation(epoch if decision is Decision.OFFLOAD_TENSOR else 0)
        chosen = plan.tensor_representations if decision is Decision.OFFLOAD_TENSOR else plan.input_representations
        return chosen[epoch]

    def choose(
        self,
        now_s: float,
        epoch: int,
        evidence: int,
        observed: Observed,
        hindrance: Reason | None = None,
        *,
        does_edge_answer: bool = False,
    ) -> Choice:
        """Decision at ``epoch``.

        Args:
            evidence: evidence state of the task.
            observed: what is seen now, or was at service start where the plan says so (``observes_each_epoch``).
            hindrance: why nothing can be offloaded now; ``None``: it can.
            does_edge_answer: the edge is known to answer (only then a contingency offloads).
        """
        absence = self.absence(now_s)
        plan = self._plan
        if plan is None or absence is not None:
            contingency = self._default if plan is None else plan.contingency
            reason = absence or Reason.NO_PLAN
            decision = self._contingent(contingency, epoch, evidence, does_edge_answer and hindrance is None)
            return self._choice(decision, reason, is_fallback=self._is_plan_expected)
        decision = plan.decision(epoch, evidence, *observed)
        if hindrance is not None and decision.is_offload:
            decision = self._contingent(plan.contingency, epoch, evidence, False)
            return self._choice(decision, hindrance)
        if decision.is_offload:
            return self._choice(decision, Reason.OFFLOAD_PAYS)
        return self._choice(decision, Reason.NO_EDGE_HOLDS_MODEL if plan.edge_id is None else Reason.NOT_WORTH_IT)

    def polled(self, decision: Decision, epoch: int, evidence: int) -> Choice | None:
        """The twin's answer in polled mode as a choice; ``None``: it cannot be obeyed here."""
        if decision is Decision.EXIT and evidence == NO_EVIDENCE:
            return None
        if decision.is_offload and (
            self.representation(epoch, decision) == NO_REPRESENTATION or self.is_forbidden(decision, epoch)
        ):
            return None
        return self._choice(decision, Reason.OFFLOAD_PAYS if decision.is_offload else Reason.NOT_WORTH_IT)

    def is_forbidden(self, decision: Decision, epoch: int) -> bool:
        """Whether ``decision`` would send the input, or what shows it, from a device that sends tensors only."""
        return decision.is_offload and (epoch if decision is Decision.OFFLOAD_TENSOR else 0) < self._first_cut

    def _choice(self, decision: Decision, reason: Reason, *, is_fallback: bool = False) -> Choice:
        if decision is Decision.EXIT:
            reason = Reason.EXIT_CONFIDENT
        return Choice(decision, reason, self._plan.plan_id if self._plan is not None else None, is_fallback)

    def _contingent(self, contingency: Contingency, epoch: int, evidence: int, may_offload: bool) -> Decision:
        if evidence != NO_EVIDENCE:
            exit_index = (evidence - 1) // self._manifest.bin_count
            if self._manifest.p_exit_right(evidence) >= contingency.exit_thresholds[exit_index]:
                return Decision.EXIT
        if may_offload and epoch == contingency.cut:
            for decision in (Decision.OFFLOAD_TENSOR, Decision.OFFLOAD_INPUT):
                is_possible = self.representation(epoch, decision) != NO_REPRESENTATION
                if is_possible and not self.is_forbidden(decision, epoch):
                    return decision
        return Decision.CONTINUE

    def _exits_within(self, contingency: Contingency) -> tuple[bool, ...]:
        # An exit whose threshold no bin reaches would cost time for nothing.
        return tuple(
            max(e.p_right) >= threshold
            for e, threshold in zip(self._manifest.exits, contingency.exit_thresholds, strict=True)
        )

    def _default_representation(self, cut: int) -> int:
        offered = [(r.mean_bytes, i) for i, r in enumerate(self._manifest.cuts[cut].representations) if r.is_offered]
        return min(offered)[1] if offered else NO_REPRESENTATION


def _first_cut_sent(plan: Plan) -> float:
    """First cut whose tensor ``plan`` may send; infinity: it sends none."""
    cuts = [] if plan.contingency.cut is None else [plan.contingency.cut]
    for table in (plan.table,) if plan.busy_uplink is None else (plan.table, plan.busy_uplink.table):
        if (table == Decision.OFFLOAD_INPUT).any():
            return 0
        cuts += [k for k, row in enumerate(table) if (row == Decision.OFFLOAD_TENSOR).any()][:1]
    return min(cuts, default=float("inf"))
