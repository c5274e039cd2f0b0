"""Deadlines: accuracy counts only in an answer that is in time (design section 5).

The time that a task has spent since its generation is part of its state: payoffs get an axis A of ages at the present
epoch, and ``alpha * P`` counts where the dead-reckoned answer is no older than the deadline: of an offload after its
way, the backlog expected at its arrival and its tail, of an exit at once, of the device after its last segment. Time
costs as ever, so a task that is late ends as cheaply as it can. What is reckoned without a deadline is in
:mod:`twin_service.decision.stopping`; nothing of it passes through here.

Two things weigh more than without a deadline. Inflow while the payload is on its way can make an answer late, so the
backlog met is the one that device and twin predict, and not only what is left of the present one. And a second that a
later task waits costs it not only that second but also accuracy: see :func:`with_lateness_priced`.

The necessary conditions of :mod:`twin_service.decision.reduction` prune nothing here: with a deadline they hold only
between payloads of which the later one is also no faster at the edge, and only as long as both are in time or both
lose the same accuracy, so that too little is left to pay for looking.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.reduction import ceiling_s
from twin_service.decision.situation import MAX_BUSY_SHARE, Situation
from twin_service.decision.statistics import Array
from twin_service.decision.tables import QUEUES
from twin_service.decision.utility import NEVER, Batch, Course, PayloadTerms, arrival_s, course, offload
from twinsplit.plan import Observation
from twinsplit.types import Decision

BACKLOG_LEVELS = 18
"""Backlogs at which payoffs are reckoned, up to where no offload in time is worth it; and beyond:"""
_LATE_LEVELS = 6
AGE_LEVELS = 12
"""Ages at which payoffs are reckoned, from where an answer may be late up to the deadline."""
MAX_BACKLOG_BANDS = 12
MAX_AGE_BANDS = 9
"""Bands of a plan, neighbours that decide most alike being merged: its message grows with the product."""
_FIRST_AGE_SHARE = 0.01
_GRID_POWER = 1.5
_LEAST_WAIT_S = 1e-3
_USUAL_BACKLOGS = (0.0, 0.7, 2.0)
_LONG_BACKLOGS = (4.0, 8.0)
"""In parts of the mean. Long ones tell sets of exits apart where all offload at once at the others."""
_IN_ORDER_OF_TIES = (Decision.EXIT, Decision.CONTINUE, Decision.OFFLOAD_TENSOR, Decision.OFFLOAD_INPUT)


@dataclass(frozen=True, slots=True, eq=False)
class TimedPayoffs:
    """Expected utility to go of every decision of one device, seconds, at every epoch, queue, backlog and age."""

    worth: Array  # (decision, K, Q, G, A, E)
    backlog_s: Array  # (G,)
    age_s: Array  # (A,) the last is infinite: an answer is late whatever is done
    counts: NDArray[np.bool_]  # (K, A, E) states that tasks can be in

    def spread(self, columns: NDArray[np.int64]) -> TimedPayoffs:
        """The same with ``columns`` of the evidence axis."""
        return replace(self, worth=self.worth[..., columns], counts=self.counts[..., columns])

    def table(self) -> tuple[NDArray[np.uint8], tuple[float, ...], tuple[float, ...]]:
        """Table (K, E, Q, bands, age bands) and break points of backlog and age; without any of age (K, E, Q, bands).

        Every band is decided at its far end, where the answer is latest; beyond the last backlog nothing changes.
        """
        order = np.array(_IN_ORDER_OF_TIES, dtype=np.uint8)
        best = order[np.argmax(self.worth[order], axis=0)]  # (K, Q, G, A, E)
        counted = np.broadcast_to(self.counts[:, None, None], best.shape)
        by_backlog = _kept_ends(np.moveaxis(best, 2, 0), np.moveaxis(counted, 2, 0), self.backlog_s, MAX_BACKLOG_BANDS)
        best, counted = best[:, :, by_backlog], counted[:, :, by_backlog]
        by_age = _kept_ends(np.moveaxis(best, 3, 0), np.moveaxis(counted, 3, 0), self.age_s, MAX_AGE_BANDS)
        table = np.ascontiguousarray(best[:, :, :, by_age].transpose(0, 4, 1, 2, 3))
        edges = tuple(float(edge) for edge in self.backlog_s[by_backlog[:-1]])
        ages = tuple(float(age) for age in self.age_s[by_age[:-1]])
        return (table if ages else table[..., 0]), edges, ages


def timed_payoffs(batch: Batch, situation: Situation, observation: Observation) -> TimedPayoffs:
    """Payoffs of the one device in ``batch``, which stands in ``situation``, on levels of backlog and age that suit a
    table."""
    deadline_s = deadline_of(situation)
    batch = with_lateness_priced(batch, situation)
    backlog_s = _backlog_levels_s(batch, deadline_s, observation)
    age_s = _age_levels_s(batch, deadline_s, max(float(backlog_s[-1]), situation.backlog_mean_s))
    statistics = batch.statistics
    run = np.repeat(batch.exits_run[0], statistics.bin_count)
    seen = statistics.seen[: batch.last_epoch + 1] & np.concatenate(([True], run))
    earliest = np.zeros(batch.last_epoch + 1) if observation is Observation.SERVICE_START else batch.reached_s[0]
    counts = seen[:, None, :] & (age_s >= earliest[:, None])[..., None]
    return TimedPayoffs(worth(batch, deadline_s, QUEUES, backlog_s, age_s, observation)[:, 0], backlog_s, age_s, counts)


def worth(
    batch: Batch, deadline_s: float, queue: Array, backlog_s: Array, age_s: Array, observation: Observation
) -> Array:
    """Payoffs with ``queue`` (Q,), ``backlog_s`` (G,) and ``age_s`` (A,) at the present epoch, or, with
    ``Observation.SERVICE_START``, at service start.  # (decision, D, K, Q, G, A, E)"""
    if observation is Observation.SERVICE_START:
        return np.stack(list(_seen_from(batch, deadline_s, queue, backlog_s, age_s, 0))[::-1], axis=2)
    presents = range(batch.last_epoch + 1)
    return np.stack([_present(batch, deadline_s, queue, backlog_s, age_s, k) for k in presents], axis=2)


def deadline_of(situation: Situation) -> float:
    """Its deadline, seconds; only for a situation that has one."""
    deadline_s = situation.weights.deadline_s
    assert deadline_s is not None
    return deadline_s


def with_lateness_priced(batch: Batch, situation: Situation) -> Batch:
    """``batch`` with the price of caused waiting raised by the accuracy that it takes from later tasks.

    A later task that waits a second longer loses that second and what its value at service start falls by with its age:
    the slope from age 0 to twice the likely wait. That value depends on the price in turn; two rounds are near enough.
    """
    waited_s = max(2.0 * float(likely_ages_s(situation)[0][1]), _LEAST_WAIT_S)
    priced = batch
    for _ in range(2):
        fresh, waited = _start_values(priced, situation, np.array([0.0, waited_s]), _USUAL_BACKLOGS).mean(axis=0)
        priced = replace(batch, factor=batch.factor * (1.0 + max(float(fresh - waited) / waited_s, 0.0)))
    return priced


def exits_worth_running(batch: Batch, situation: Situation) -> int:
    """Position in ``batch``, which holds ``situation`` with various exits run, of those that are worth most."""
    ages_s, shares = likely_ages_s(situation)
    backlogs = (*_USUAL_BACKLOGS, *_LONG_BACKLOGS)
    return int(np.argmax((_start_values(batch, situation, ages_s, backlogs) * shares).sum(axis=1)))


def _start_values(batch: Batch, situation: Situation, ages_s: Array, backlogs: Sequence[float]) -> Array:
    """What a task is worth at service start by age, averaged over a few queue lengths and over ``backlogs``, which are
    parts of the mean.  # (D, A)"""
    backlog_s = situation.backlog_mean_s * np.array(backlogs)
    start = _present(batch, deadline_of(situation), QUEUES[:2], backlog_s, ages_s, 0)[..., 0]  # (decision, D, Q, G, A)
    values: Array = start.max(axis=0).mean(axis=(1, 2))
    return values


def likely_ages_s(situation: Situation) -> tuple[Array, Array]:
    """Ages at service start that stand for all, seconds, and their shares: of a task that finds the device idle, and
    of one that waits as long as it does with a fixed service time, but no longer than half the deadline."""
    deadline_s = deadline_of(situation)
    busy = min(max(situation.busy_share, 0.0), MAX_BUSY_SHARE)
    service_s = busy / max(situation.task_rate_per_s, 1e-3)
    waited_s = min(service_s / (2.0 * (1.0 - busy)), deadline_s / 2.0)
    return np.array([0.0, waited_s]), np.array([1.0 - busy, busy])


def _present(batch: Batch, deadline_s: float, queue: Array, backlog_s: Array, age_s: Array, epoch: int) -> Array:
    """Payoffs at the present ``epoch``.  # (decision, D, Q, G, A, E)"""
    *_, found = _seen_from(batch, deadline_s, queue, backlog_s, age_s, epoch)
    return found


def _seen_from(
    batch: Batch, deadline_s: float, queue: Array, backlog_s: Array, age_s: Array, start: int
) -> Iterator[Array]:
    """Payoffs at every epoch from the last back to ``start`` as expected there.  # (decision, D, Q, G, A, E)"""
    epochs = np.arange(start, batch.last_epoch + 1)
    backlogs = np.broadcast_to(backlog_s, (batch.size, len(backlog_s)))
    there = course(batch, queue, backlogs, np.full_like(epochs, start), epochs)
    ages = there.elapsed_s[..., None] + age_s  # (D, epochs, A)
    sendings = [
        (decision, _Sending(batch, payload, there, ages, deadline_s))
        for decision, payload in ((Decision.OFFLOAD_TENSOR, batch.tensor), (Decision.OFFLOAD_INPUT, batch.input))
    ]
    alpha = batch.alpha[:, None, None, None, None]
    exit_right, right = alpha * batch.statistics.p_exit_right, alpha * batch.statistics.p_whole_right
    shape = (batch.size, len(queue), len(backlog_s), len(age_s), batch.statistics.evidence_count)
    value: Array | None = None
    for position in range(len(epochs) - 1, -1, -1):
        epoch = int(epochs[position])
        is_in_time = (ages[:, position] <= deadline_s)[:, None, None, :, None]
        is_exit = batch.statistics.seen[epoch].copy()
        is_exit[0] = False
        found = np.empty((len(Decision), *shape))
        for decision, sending in sendings:
            found[decision] = sending.payoff(position)
        found[Decision.EXIT] = np.where(is_exit, np.where(is_in_time, exit_right, 0.0), NEVER)
        if value is not None:
            price = batch.price(batch.step_s[:, epoch, None], there.queue[:, position])  # (D, Q)
            counts = (ages[:, position + 1] <= deadline_s)[:, None, None, :, None]
            going_on = batch.after_exits_at(epoch + 1, value, counts) - price[..., None, None, None]
            found[Decision.CONTINUE] = np.maximum(going_on, NEVER / 2)  # what cannot be done must not look better
        else:
            found[Decision.CONTINUE] = np.where(is_in_time, right, 0.0) if batch.is_whole else NEVER / 2
        yield found
        value = found.max(axis=0)


class _Sending:
    """Offloading one payload at every epoch of a course: P0 with accuracy only in time."""

    def __init__(self, batch: Batch, payload: PayloadTerms, there: Course, ages: Array, deadline_s: float) -> None:
        way_s = arrival_s(batch, payload, there)[..., None]
        mean_s, time_constant_s = batch.backlog_mean_s[:, None, None], batch.backlog_time_constant_s[:, None, None]
        expected_s = mean_s + (there.backlog_s - mean_s) * np.exp(-way_s / time_constant_s)
        met_s = np.maximum(np.maximum(there.backlog_s - way_s, expected_s), 0.0)  # as twinsplit.reckoning has it
        taken = way_s + met_s + payload.tail_s[:, there.epochs, None]
        self._is_in_time = ages[:, :, None, :] + taken[..., None] <= deadline_s  # (D, epochs, G, A)
        self._paid = offload(batch, payload, there)  # (D, epochs, Q, G), with the accuracy that is lost
        self._lost = (batch.alpha[:, None] * payload.loss)[:, there.epochs]  # it is not lost where none counts
        self._right = (batch.alpha[:, None] * batch.statistics.p_whole_right)[:, None, None, :]

    def payoff(self, position: int) -> Array:
        """At the epoch of that position.  # (D, Q, G, A, E)"""
        lost = self._lost[:, position, None, None, None]
        counted = np.where(self._is_in_time[:, position, ..., None], self._right, lost)  # (D, G, A, E)
        return self._paid[:, position, :, :, None, None] + counted[:, None]


def _backlog_levels_s(batch: Batch, deadline_s: float, observation: Observation) -> Array:
    """Far ends of the finest bands of backlog, up to where no decision depends on it.  # (G,)

    Above the ceiling R3 an offload in time is worth less than staying if that is in time, too; if it is not, the task
    is so near its deadline that a backlog longer than the rest of the way is late. Most levels lie below. A late
    offload can be worth it as long as the backlog costs less than all the way on the device.
    """
    longest = QUEUES[-1] + batch.task_rate[:, None] * batch.reached_s[:, :-1]
    whole_s = float(batch.price(batch.step_s, longest).sum())
    in_time_s = max(min(deadline_s, float(ceiling_s(batch, QUEUES)[0])), 0.01)
    if observation is Observation.SERVICE_START:
        # It drains until a later epoch looks at what was seen at the start.
        whole_s, in_time_s = (seconds + float(batch.reached_s[0, -1]) for seconds in (whole_s, in_time_s))
    inner = in_time_s * np.linspace(1.0 / BACKLOG_LEVELS, 1.0, BACKLOG_LEVELS) ** _GRID_POWER
    beyond = np.linspace(in_time_s, max(whole_s, in_time_s), _LATE_LEVELS + 1)[1:]
    return np.concatenate((inner, beyond[beyond > in_time_s]))


def _age_levels_s(batch: Batch, deadline_s: float, longest_backlog_s: float) -> Array:
    """Ages at the far ends of the finest bands.  # (A,)

    At the first no answer can be late, at the last, infinite one all are. Where some are late even at age 0, the first
    is close to it: there a task starts on an idle device.
    """
    ways_s = [(payload.encode_s + payload.upload_s + payload.tail_s).max() for payload in (batch.tensor, batch.input)]
    longest_s = batch.reached_s[0, -1] + batch.uplink_busy_s[0] + batch.overhead_s[0] + max(ways_s) + longest_backlog_s
    spare_s = deadline_s - longest_s
    first_s = max(spare_s, _FIRST_AGE_SHARE * deadline_s)
    levels = np.linspace(max(spare_s, 0.0), deadline_s, AGE_LEVELS)
    return np.concatenate(([first_s], levels[levels > first_s], [np.inf]))


def _kept_ends(best: NDArray[np.uint8], counts: NDArray[np.bool_], levels_s: Array, most: int) -> list[int]:
    """Levels that stay ends of bands when neighbours along the first axis of ``best`` are merged, those first that cost
    the fewest and narrowest changed decisions, until at most ``most`` are left. Of two the far one stays."""
    kept = list(range(len(levels_s)))
    below_s = [0.0, *levels_s[:-1]]
    costs = [_changed(best, counts, near, near + 1) * (levels_s[near] - below_s[near]) for near in kept[:-1]]
    while costs and (len(kept) > most or min(costs) == 0.0):
        near = int(np.argmin(costs))
        del kept[near], costs[near]
        for position in (near - 1, near):
            if 0 <= position < len(costs):
                low = levels_s[kept[position - 1]] if position else 0.0
                changed = _changed(best, counts, kept[position], kept[position + 1])
                costs[position] = changed * (levels_s[kept[position]] - low)
    return kept


def _changed(best: NDArray[np.uint8], counts: NDArray[np.bool_], near: int, far: int) -> int:
    return int(((best[near] != best[far]) & counts[near]).sum())
