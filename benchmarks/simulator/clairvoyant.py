"""A decider that knows what is to come: the reference that the other rules are measured against."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulator.deciding import Deciding
from benchmarks.simulator.foresight import EdgeAhead, Foresight, QueueAhead, QueueExpected, waits_expected_s
from twin_service.decision.optimising import exit_sets
from twin_service.decision.situation import Situation
from twin_service.decision.statistics import Array, statistics_of
from twin_service.decision.utility import NEVER, Batch, PayloadTerms, batch_of
from twinsplit.plan import NO_REPRESENTATION
from twinsplit.types import NO_EVIDENCE, Decision

if TYPE_CHECKING:
    from benchmarks.simulator.device import SimulatedDevice
    from benchmarks.simulator.world import World
    from device.plan_keeping import Observed
    from device.task import Task


class Clairvoyant(Deciding):
    """Knows every arrival to come at the device and at its edge, and the rates of its uplink; not what exits will show.

    For each set of exits it reckons the *realised* outcome of stopping at this and every later epoch: when a payload
    would reach the edge over the uplink as it is, what it would wait there behind all that will have come (other users'
    jobs, what is queued, uploads on their way), how long the device's queue will be meanwhile. Only evidence is an
    expectation, over the manifest's transition matrices, by backward induction. The set of exits worth most at service
    start is run.

    **A reference, not a bound.** It optimises task by task, as all rules do, with the same price of waiting,
    ``1 / (1 - rho_d)`` on the waiting that a task causes. Foreseeing how the end of this task changes the next ones, or
    keeping the edge free for them, could do better. It reckons noise of service times and delays at their means, other
    devices' tails once they are on their way, and the edge's queue without a bound.

    Args:
        foresees: what it knows ahead. The rest it takes to go on as open loop does: tasks at their tracked rate, the
            backlog by dead reckoning, the uplink as it is. So what not knowing costs can be told by kind.
    """

    def __init__(self, name: str = "clairvoyant", foresees: Collection[Foresight] = tuple(Foresight)) -> None:
        self._name = name
        self._foresees = frozenset(foresees)
        self._edges: dict[int, EdgeAhead] = {}
        self._arrivals_s: dict[int, Array] = {}
        self._delivered_at_s: dict[int, float] = {}
        self._chosen: dict[int, _Chosen] = {}
        self._outlooks: dict[tuple[tuple[float, ...], float], list[_Outlook]] = {}

    @property
    def name(self) -> str:
        return self._name

    def begin(self, world: World) -> None:
        self._edges = {edge.index: EdgeAhead(edge) for edge in world.edges}
        self._arrivals_s = {device.index: np.array(device.samples.arrivals_s) for device in world.devices}
        self._delivered_at_s = {}
        self._chosen = {}
        self._outlooks = {}

    def standing(self, device: SimulatedDevice, now_s: float) -> _Outlook:
        task = device.task
        chosen = self._chosen.get(device.index)
        situation = device.situation(now_s)
        every, *singly = self._outlooks_of(device, situation)
        if task is not None and chosen is not None and chosen.task is task:
            outlook = singly[chosen.row]
            prospects = self._prospects(device, situation, outlook, task, now_s)
            self._chosen[device.index] = _Chosen(task, chosen.row, prospects, 0)
            return outlook
        if task is None:
            return singly[0]
        prospects = self._prospects(device, situation, every, task, now_s)
        row = int(np.argmax(prospects.best(NO_EVIDENCE)))
        self._chosen[device.index] = _Chosen(task, row, prospects, row)
        return singly[row]

    def decision(
        self, device: SimulatedDevice, now_s: float, epoch: int, evidence: int, observed: Observed
    ) -> Decision:
        chosen = self._chosen[device.index]
        prospects, row = chosen.prospects, chosen.prospects_row
        decision = prospects.decision(row, evidence)
        if decision.is_offload:
            self._sent(device, chosen.task, prospects.departure_s(row, decision), decision)
        return decision

    def _sent(self, device: SimulatedDevice, task: Task, departs_s: float, decision: Decision) -> None:
        """Keep in mind what is on its way, at the instant at which it will really arrive."""
        samples, number = device.samples, task.task_id - 1
        arrives_s = departs_s + device.world.scenario.uplink_delay_s + samples.delays_s[number]
        arrives_s = max(arrives_s, self._delivered_at_s.get(device.index, arrives_s))
        self._delivered_at_s[device.index] = arrives_s
        cut = task.epoch if decision is Decision.OFFLOAD_TENSOR else 0
        self._edges[device.edge.index].sent(arrives_s, device.edge.tail_s[cut] * samples.edge_jitters[number])

    def _outlooks_of(self, device: SimulatedDevice, situation: Situation) -> list[_Outlook]:
        """That of all sets of exits at once, and that of each."""
        key = (device.speeds.segment_s, situation.goodput_bytes_per_s)
        found = self._outlooks.get(key)
        if found is None:
            sets = exit_sets(len(situation.manifest.exits))
            found = [_Outlook(situation, sets), *(_Outlook(situation, sets[[row]]) for row in range(len(sets)))]
            self._outlooks[key] = found
        return found

    def _prospects(
        self, device: SimulatedDevice, situation: Situation, outlook: _Outlook, task: Task, now_s: float
    ) -> _Prospects:
        scenario = device.world.scenario
        batch, epoch = outlook.batch, task.epoch
        reached_s = now_s + batch.reached_s[:, epoch:] - batch.reached_s[:, [epoch]]  # (D, n)
        factor, deadline_s = situation.waiting_factor, situation.weights.deadline_s
        queue = self._queue(device, situation, now_s)
        queued_s = queue.area_s(reached_s)

        sent = outlook.sent
        encode_s = sent.encode_s[:, :, epoch:]
        ready_s = reached_s + encode_s
        begins_s = np.maximum(ready_s, now_s + device.link.busy_s(now_s))
        departs_s = self._departures_s(device, sent.wire_bytes[:, :, epoch:], begins_s)
        arrives_s = departs_s + (scenario.uplink_delay_s + scenario.uplink_jitter_s)
        arrives_s = np.maximum(arrives_s, self._delivered_at_s.get(device.index, now_s))
        waits_s = self._waits_s(device, now_s, arrives_s)
        answered_s = arrives_s + waits_s + sent.tail_s[:, :, epoch:] + scenario.uplink_delay_s
        paid = (
            answered_s
            - reached_s
            + factor * (queue.area_s(ready_s) - queued_s)
            + batch.energy_compute[:, None] * encode_s
            + batch.energy_transmit[:, None] * (departs_s - begins_s)
        )
        alpha = batch.alpha[0]
        latest_s = np.inf if deadline_s is None else task.arrived_at_s + deadline_s
        right = alpha * (batch.statistics.p_whole_right - sent.loss[:, :, epoch:, None])
        worth = right * (answered_s <= latest_s)[..., None] - paid[..., None]
        offload = np.where(sent.is_available[:, :, epoch:, None], worth, NEVER)  # (payload, D, n, E)
        step_s = batch.step_s[:, epoch:]
        price = step_s * (1.0 + batch.energy_compute[:, None]) + factor * np.diff(queued_s, axis=1)
        going_on, leave = _induction(batch, epoch, offload.max(axis=0), price, reached_s <= latest_s)
        return _Prospects(offload[:, :, 0], going_on, leave, departs_s[:, :, 0])

    def _queue(self, device: SimulatedDevice, situation: Situation, now_s: float) -> QueueAhead | QueueExpected:
        length = device.pipeline.queue_length
        if Foresight.ARRIVALS in self._foresees:
            return QueueAhead(length, now_s, self._arrivals_s[device.index])
        return QueueExpected(length, now_s, situation.task_rate_per_s)

    def _departures_s(self, device: SimulatedDevice, wire_bytes: Array, begins_s: Array) -> Array:
        """When the last byte would leave, each payload on its own."""
        if Foresight.UPLINK not in self._foresees:
            return begins_s + wire_bytes / device.link.bytes_per_s(device.world.now_s)
        found = map(device.link.departure_s, wire_bytes.ravel().tolist(), begins_s.ravel().tolist())
        return np.fromiter(found, dtype=float, count=begins_s.size).reshape(begins_s.shape)

    def _waits_s(self, device: SimulatedDevice, now_s: float, arrives_s: Array) -> Array:
        if Foresight.LOAD in self._foresees:
            return self._edges[device.edge.index].waits_s(now_s, arrives_s)
        return waits_expected_s(device.edge, now_s, arrives_s)


class _Outlook:
    """What does not change from task to task, for some sets of exits; the standing of a single one."""

    def __init__(self, situation: Situation, sets: NDArray[np.bool_]) -> None:
        manifest = situation.manifest
        self.batch = batch_of([situation] * len(sets), statistics_of(manifest), sets)
        self.exits_run = tuple(bool(run) for run in sets[0])
        self.tensor_representations = _positions(self.batch.tensor)
        self.input_representations = _positions(self.batch.input)
        self.sent = _Sent.of(situation, self.batch)


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """What is sent at every epoch: tensor, input.  # (payload, D, K)"""

    wire_bytes: Array
    encode_s: Array
    tail_s: Array
    loss: Array
    is_available: NDArray[np.bool_]

    @classmethod
    def of(cls, situation: Situation, batch: Batch) -> _Sent:
        terms = (batch.tensor, batch.input)
        cuts = (range(batch.last_epoch + 1), (0,) * (batch.last_epoch + 1))
        wire_bytes = [
            [_wire_bytes(situation, cut, position) for cut, position in zip(found, _positions(payload), strict=True)]
            for found, payload in zip(cuts, terms, strict=True)
        ]
        return cls(
            np.repeat(np.array(wire_bytes, dtype=float)[:, None], batch.size, axis=1),
            np.stack([payload.encode_s for payload in terms]),
            np.stack([payload.tail_s for payload in terms]),
            np.stack([payload.loss for payload in terms]),
            np.stack([payload.is_available for payload in terms]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Prospects:
    """What each decision is worth at one epoch of a task, seconds of utility to go, for some sets of exits."""

    offload: Array  # (payload, D, E) tensor, input
    going_on: Array  # (D, E)
    leave: Array  # (D, E)
    departs_s: Array  # (payload, D) instant at which the last byte leaves

    def best(self, evidence: int) -> Array:
        """Value of the best decision.  # (D,)"""
        stop = np.maximum(self.offload[:, :, evidence].max(axis=0), self.leave[:, evidence])
        best: Array = np.maximum(stop, self.going_on[:, evidence])
        return best

    def decision(self, row: int, evidence: int) -> Decision:
        """The best one; ties stop at an exit first and go on last, as in tables."""
        tensor, sent_input = self.offload[:, row, evidence]
        leave, going_on = self.leave[row, evidence], self.going_on[row, evidence]
        if max(tensor, sent_input) > max(going_on, leave):
            return Decision.OFFLOAD_TENSOR if tensor >= sent_input else Decision.OFFLOAD_INPUT
        return Decision.EXIT if leave >= going_on else Decision.CONTINUE

    def departure_s(self, row: int, decision: Decision) -> float:
        """When the last byte leaves of what ``decision`` sends."""
        return float(self.departs_s[0 if decision is Decision.OFFLOAD_TENSOR else 1, row])


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    """The set of exits that is run for a task, and how it stands at its newest epoch."""

    task: Task
    row: int
    """Of the set among all."""
    prospects: _Prospects
    prospects_row: int


def _induction(
    batch: Batch, epoch: int, offload: Array, price: Array, is_in_time: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Value of going on and of leaving at ``epoch``.

    ``offload`` (D, n, E), ``price`` (D, n - 1) of segments, ``is_in_time`` (D, n); from ``epoch`` on.
    """
    statistics = batch.statistics
    alpha = batch.alpha[0]
    going_on = alpha * statistics.p_whole_right * is_in_time[:, [-1]]
    if not batch.is_whole:
        going_on = np.full_like(going_on, NEVER / 2)
    for ahead in range(price.shape[1], -1, -1):
        at = epoch + ahead
        is_exit = statistics.seen[at].copy()
        is_exit[0] = False
        leave = np.where(is_exit, alpha * statistics.p_exit_right * is_in_time[:, [ahead]], NEVER)
        if ahead == 0:
            break
        value = np.maximum(np.maximum(offload[:, ahead], leave), going_on)
        going_on = batch.after_exits_at(at, value, is_in_time[:, [ahead]]) - price[:, [ahead - 1]]
    return going_on, leave


def _positions(payload: PayloadTerms) -> tuple[int, ...]:
    return tuple(int(position) for position in payload.representation[0])


def _wire_bytes(situation: Situation, cut: int, position: int) -> int:
    """As the simulated device sends it; 0 where nothing is sent."""
    if position == NO_REPRESENTATION:
        return 0
    return round(situation.manifest.cuts[cut].representations[position].mean_bytes)
