"""The optimum in a setting small enough for dynamic programming: a bound that no rule without foresight can pass.

One device, tasks so far apart that none meets another or finds work that an earlier one has left, a fixed uplink, and
an edge that Poisson jobs of exponential size load. Then no task causes waiting, and all that matters of the past is the
epoch, the evidence and the edge's backlog W, a Markov process of its own. Backward induction over these three finds the
best that can be done by anybody who sees them and nothing of the future: decisions, representations, and whether the
next exit is run, each chosen again at every epoch. Rules whose set of exits is fixed for a task have less freedom.

What is minimised is the cost as the books keep it (:mod:`benchmarks.books`): an exit costs alpha times what the whole
network is expected to be better, given the same evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.scenario import Scenario
from benchmarks.simulator.deciding import Deciding
from benchmarks.simulator.load import job_sizes_s
from benchmarks.simulator.speeds import Speeds, speeds_of
from benchmarks.simulator.virtual_waiting import Array, VirtualWaiting, relaxation_time_s, stationary
from benchmarks.simulator.world import model_of
from edge.load_pattern import Pattern
from twin_service.decision.statistics import statistics_of
from twin_service.decision.utility import NEVER
from twinsplit.errors import SettingsError
from twinsplit.model.manifest import Manifest
from twinsplit.plan import NO_REPRESENTATION
from twinsplit.types import NO_EVIDENCE, Decision, Payloads

if TYPE_CHECKING:
    from benchmarks.simulator.device import SimulatedDevice
    from device.plan_keeping import Observed

_POINTS_PER_SIZE = 25.0
"""Of the grid of backlogs, per mean size of a job."""
_RELAXATIONS = 10.0
"""So many relaxation times lie between the end of a task and the next one: what it left at the edge is forgotten."""
_BEYOND = 1e-7
"""Share of time in which the backlog is above the grid's top."""


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """The optimum of one scenario, whatever its seed. Worths are costs with a minus, seconds."""

    spacing_s: float
    """Of the grid of backlogs, which begins at 0."""
    offload: Array  # (payload, K, G) tensor, input; NEVER where impossible
    representation: NDArray[np.int64]  # (payload, K, G) positions
    leave: Array  # (K, E)
    going_on: Array  # (exit after the next segment not run or run, K, E, G)
    exit_at: tuple[int | None, ...]
    """Exit that can be run at every epoch, by index."""
    exits: int
    cost_s: float
    """J*: expected cost of a task at the edge's stationary backlog."""


class Optimum(Deciding):
    """Looks the optimal decision up at the edge's own backlog."""

    def __init__(self, solution: Solution, name: str = "optimum") -> None:
        self._solution = solution
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def standing(self, device: SimulatedDevice, now_s: float) -> _Standing:
        task = device.task
        epoch, evidence = (0, NO_EVIDENCE) if task is None else (task.epoch, task.evidence)
        return _standing(self._solution, epoch, evidence, device.edge.backlog_s(now_s))

    def decision(
        self, device: SimulatedDevice, now_s: float, epoch: int, evidence: int, observed: Observed
    ) -> Decision:
        solution, backlog_s = self._solution, observed.backlog_s
        tensor, sent_input = (_at(solution, row[epoch], backlog_s) for row in solution.offload)
        going_on = max(_at(solution, row[epoch, evidence], backlog_s) for row in solution.going_on)
        leave = solution.leave[epoch, evidence]
        if max(tensor, sent_input) > max(going_on, leave):
            return Decision.OFFLOAD_TENSOR if tensor >= sent_input else Decision.OFFLOAD_INPUT
        return Decision.EXIT if leave >= going_on else Decision.CONTINUE


@dataclass(frozen=True, slots=True)
class _Standing:
    """What stands at one epoch; at the others it is of no meaning."""

    exits_run: tuple[bool, ...]
    tensor_representations: tuple[int, ...]
    input_representations: tuple[int, ...]


def solve(scenario: Scenario, points_per_size: float = _POINTS_PER_SIZE) -> Solution:
    """The optimum of ``scenario``, in seconds of one core.

    Args:
        points_per_size: fineness of the grid of backlogs, per mean size of a job.

    Raises:
        SettingsError: it is not of the setting above; the text names what does not fit.
    """
    manifest, _ = model_of(scenario.model)
    speeds = speeds_of(scenario, manifest)
    mean_s = scenario.load_mean_s or speeds.tail_s[0]
    check_setting(scenario, manifest)
    load = scenario.load_share
    top_s = float(np.log(load / _BEYOND)) * mean_s / (1.0 - load)
    waiting = VirtualWaiting(load / mean_s, job_sizes_s(scenario.load_sizes, mean_s), mean_s / points_per_size, top_s)
    device = speeds.device(scenario.device_factors[0])
    offload, representation = _offloads(scenario, manifest, device, waiting)
    leave, going_on = _induction(scenario, manifest, device, waiting, offload.max(axis=0))
    start = np.maximum(offload[:, 0].max(axis=0), going_on[:, 0, NO_EVIDENCE].max(axis=0))
    return Solution(
        spacing_s=waiting.spacing_s,
        offload=offload,
        representation=representation,
        leave=leave,
        going_on=going_on,
        exit_at=tuple(manifest.exit_after.get(epoch) for epoch in range(manifest.held_segments + 1)),
        exits=len(manifest.exits),
        cost_s=-float(start @ stationary(waiting.grid_s, load, mean_s)),
    )


def check_setting(scenario: Scenario, manifest: Manifest) -> None:
    """Whether the optimum can be found for ``scenario``.

    Raises:
        SettingsError: it cannot; the text names the first thing that does not fit.
    """
    for name, does_fit, needed in (
        ("devices", scenario.devices == 1, "one device"),
        ("edges", scenario.edges == 1, "one edge"),
        ("arrivals", scenario.arrivals == "periodic", "periodic arrivals"),
        ("load_pattern", scenario.load_pattern is Pattern.POISSON, "Poisson load"),
        ("load_share", 0.0 < scenario.load_share < 1.0, "a load between 0 and 1"),
        ("load_sizes", scenario.load_sizes == "exponential", "exponential sizes"),
        ("uplink", scenario.uplink == "fixed", "a fixed uplink"),
        ("uplink_jitter_s", scenario.uplink_jitter_s == 0.0, "an uplink without jitter"),
        ("service_jitter", scenario.service_jitter == 0.0, "service times without jitter"),
        ("step_at_s", scenario.step_at_s is None, "no step"),
        ("deadline_s", scenario.deadline_s is None, "no deadline"),
        ("answer_timeout_s", scenario.answer_timeout_s is None, "no time-out"),
        ("edge_queue_capacity", scenario.edge_queue_capacity is None, "an edge without a bound"),
        ("uplink_bytes_per_s", scenario.uplink_bytes_per_s is not None, "the rate of the uplink"),
    ):
        if not does_fit:
            raise SettingsError(f"scenario: {name}: the optimum is only known for {needed}")
    apart_s = _least_period_s(scenario, manifest)
    if 1.0 / scenario.task_rate_per_s < apart_s:
        raise SettingsError(
            f"scenario: task_rate_per_s: the optimum is only known for tasks that do not meet, here those "
            f"{apart_s:.3g} s apart: {1.0 / apart_s:.3g} per second at most"
        )


def _least_period_s(scenario: Scenario, manifest: Manifest) -> float:
    """Time after which a task, whatever it does, has left nothing behind."""
    speeds = speeds_of(scenario, manifest)
    device = speeds.device(scenario.device_factors[0])
    cuts = range(min(manifest.held_segments + 1, manifest.segment_count))
    way_s = max((sent.arrival_s for cut in cuts for sent in _sendings(scenario, manifest, device, cut)), default=0.0)
    relaxation_s = relaxation_time_s(scenario.load_share, scenario.load_mean_s or speeds.tail_s[0])
    return sum(device.segment_s) + sum(device.exit_s) + way_s + _RELAXATIONS * relaxation_s


class _Sending(NamedTuple):
    """Offloading one cut in one representation."""

    arrival_s: float
    """From the decision to the last byte at the edge."""
    other_s: float
    """All that it costs but that and waiting at the edge, seconds."""
    position: int


def _sendings(scenario: Scenario, manifest: Manifest, device: Speeds, cut: int) -> list[_Sending]:
    """Representations of the tensor after one cut (0: the input) that may be worth sending, by arrival.

    A backlog falls at most at rate one, so who arrives later is never done sooner: it must save something else.
    """
    weights, delay_s, rate = scenario.weights, scenario.uplink_delay_s, scenario.uplink_bytes_per_s
    assert rate is not None, "the setting was checked"
    found = []
    for position, r in enumerate(manifest.cuts[cut].representations):
        if r.is_offered:
            encode_s, upload_s = device.encode_s[cut, position], round(r.mean_bytes) / rate
            joules = weights.compute_watts * encode_s + weights.transmit_watts * upload_s
            other_s = device.tail_s[cut] + delay_s + weights.beta_s_per_joule * joules + weights.alpha_s * r.loss
            found.append(_Sending(encode_s + upload_s + delay_s, other_s, position))
    found.sort()
    return [sent for rank, sent in enumerate(found) if all(sent.other_s < before.other_s for before in found[:rank])]


def _offloads(
    scenario: Scenario, manifest: Manifest, device: Speeds, waiting: VirtualWaiting
) -> tuple[Array, NDArray[np.int64]]:
    """Worth of the best representation and its position, by payload, epoch and backlog.  # (payload, K, G)"""
    epochs, points = manifest.held_segments + 1, len(waiting.grid_s)
    worth = np.full((2, epochs, points), NEVER)
    position = np.full((2, epochs, points), NO_REPRESENTATION)
    by_cut = [_offload(scenario, manifest, device, waiting, cut) for cut in range(min(epochs, manifest.segment_count))]
    first_cut = manifest.first_sent_cut(is_tensors_only=scenario.payloads is Payloads.TENSORS_ONLY)
    for cut, (best, chosen) in enumerate(by_cut):
        if cut >= max(first_cut, 1):
            worth[0, cut], position[0, cut] = best, chosen
        if first_cut == 0:
            worth[1, cut], position[1, cut] = by_cut[0]
    return worth, position


def _offload(
    scenario: Scenario, manifest: Manifest, device: Speeds, waiting: VirtualWaiting, cut: int
) -> tuple[Array, NDArray[np.int64]]:
    """The same of the tensor after one cut (0: the input).  # (G,)"""
    sendings = _sendings(scenario, manifest, device, cut)
    if not sendings:
        return np.full(len(waiting.grid_s), NEVER), np.full(len(waiting.grid_s), NO_REPRESENTATION)
    waits_s = waiting.expected_backlogs_s([sent.arrival_s for sent in sendings])
    worth = -(waits_s + np.array([[sent.arrival_s + sent.other_s] for sent in sendings]))  # (representation, G)
    return worth.max(axis=0), np.array([sent.position for sent in sendings])[worth.argmax(axis=0)]


def _induction(
    scenario: Scenario, manifest: Manifest, device: Speeds, waiting: VirtualWaiting, offload: Array
) -> tuple[Array, Array]:
    """Worth of leaving (K, E) and of going on, (without and with the exit ahead, K, E, G); ``offload`` (K, G)."""
    weights, statistics = scenario.weights, statistics_of(manifest)
    held, evidences, points = manifest.held_segments, statistics.evidence_count, len(waiting.grid_s)
    can_leave = statistics.seen[: held + 1] & (np.arange(evidences) != NO_EVIDENCE)
    lost = weights.alpha_s * (statistics.p_exit_right - statistics.p_whole_right)
    leave = np.where(can_leave, lost, NEVER)
    going_on = np.full((2, held + 1, evidences, points), NEVER)
    if held == manifest.segment_count:
        going_on[0, held] = 0.0
    per_second = 1.0 + weights.beta_s_per_joule * weights.compute_watts
    for epoch in range(held - 1, -1, -1):
        ahead = np.maximum(going_on[:, epoch + 1].max(axis=0), leave[epoch + 1][:, None])
        ahead = np.maximum(ahead, offload[epoch + 1])  # (E, G)
        segment_s = device.segment_s[epoch]
        going_on[0, epoch] = waiting.expected(ahead.T, segment_s).T - per_second * segment_s
        index = manifest.exit_after.get(epoch + 1)
        if index is not None:
            step_s = segment_s + device.exit_s[index]
            shown = statistics.transitions[index] @ ahead
            going_on[1, epoch] = waiting.expected(shown.T, step_s).T - per_second * step_s
    return leave, going_on


def _standing(solution: Solution, epoch: int, evidence: int, backlog_s: float) -> _Standing:
    without, run = (_at(solution, row[epoch, evidence], backlog_s) for row in solution.going_on)
    ahead = solution.exit_at[epoch + 1] if epoch + 1 < len(solution.exit_at) else None
    point = min(round(backlog_s / solution.spacing_s), solution.representation.shape[2] - 1)
    tensor, sent_input = solution.representation[:, :, point].tolist()
    return _Standing(
        tuple(index == ahead and run > without for index in range(solution.exits)), tuple(tensor), tuple(sent_input)
    )


def _at(solution: Solution, values: Array, backlog_s: float) -> float:
    """``values`` (G,) at a backlog, linear between points; beyond the top those of the top."""
    place = min(backlog_s / solution.spacing_s, len(values) - 1.0)
    low = min(int(place), len(values) - 2)
    return float(values[low] + (place - low) * (values[low + 1] - values[low]))
