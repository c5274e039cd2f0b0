"""Where a device attaches, when it goes elsewhere, and that it does not flap."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinsplit.replicas.choice import (
    LOOK_LAST_S,
    LOOKS_WHILE_UP,
    RETURN_AFTER_S,
    RETURN_LAST_S,
    SETTLED_S,
    SPREAD_S,
    ReplicaChoice,
)
from twinsplit.replicas.rendezvous import ranked
from twinsplit.transport.limits import RECONNECT_LAST_S

REPLICAS = ("a:7000", "b:7000", "c:7000")
STEP_S = 0.1
CONNECT_S = 0.1


class Sky:
    """A device in made-up time before replicas that are up or down as ``is_up(address, now_s)`` says."""

    def __init__(
        self,
        is_up: Callable[[str, float], bool],
        replicas: Iterable[str] = REPLICAS,
        device_id: str = "cam",
        seed: int = 1,
    ) -> None:
        self.now_s = 0.0
        self.choice = ReplicaChoice(device_id, replicas, random.Random(seed))
        self.attached: list[tuple[float, str]] = []
        self.tries: list[tuple[float, str]] = []
        self.looks: list[tuple[float, str]] = []
        self._is_up = is_up
        self._is_streaming = False

    @property
    def order(self) -> tuple[str, ...]:
        return self.choice.ranked

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self._step()
            self.now_s += STEP_S

    def _step(self) -> None:
        choice = self.choice
        if not choice.is_attached:
            address, wait_s = choice.next(self.now_s)
            if wait_s > 0.0:
                return
            choice.trying(address)
            self.tries.append((self.now_s, address))
            self.now_s += CONNECT_S
            if self._is_up(address, self.now_s):
                choice.welcomed(self.now_s)
                self.attached.append((self.now_s, address))
            else:
                choice.ended(self.now_s)
            return
        assert choice.current is not None
        if not self._is_up(choice.current, self.now_s):
            choice.ended(self.now_s)
            return
        for address in choice.to_look_at(self.now_s):
            self.looks.append((self.now_s, address))
            is_up = self._is_up(address, self.now_s)
            if is_up:
                choice.told(address)
            if choice.looked(address, self.now_s, is_up=is_up):
                choice.ended(self.now_s)
                return


def down_between(address: str, begin_s: float, end_s: float) -> Callable[[str, float], bool]:
    return lambda each, now_s: each != address or not begin_s <= now_s < end_s


def test_a_device_attaches_to_the_replica_that_it_prefers_and_stays() -> None:
    sky = Sky(lambda address, now_s: True)
    sky.run(600.0)
    assert [address for _, address in sky.attached] == [ranked("cam", REPLICAS)[0]]
    assert sky.looks == [], "whoever is where it belongs asks nobody"


def test_a_lost_replicas_device_goes_to_the_next_one_and_returns_when_it_is_steadily_back() -> None:
    first, second, _ = ranked("cam", REPLICAS)
    sky = Sky(down_between(first, 100.0, 150.0))
    sky.run(300.0)
    assert [address for _, address in sky.attached] == [first, second, first]
    assert sky.attached[1][0] < 100.0 + SPREAD_S + 1.0
    assert RETURN_AFTER_S - 1.0 < sky.attached[2][0] - 150.0 < 1.5 * RETURN_AFTER_S + LOOK_LAST_S + 1.0
    assert sky.choice.moves == 2
    assert sky.choice.untold == frozenset()
    looks = [at_s for at_s, _ in sky.looks if at_s >= 150.0]
    assert LOOKS_WHILE_UP < len(looks) <= 2 * LOOKS_WHILE_UP + 2


def test_a_stream_that_breaks_is_made_again_at_the_same_replica_first() -> None:
    first = ranked("cam", REPLICAS)[0]
    sky = Sky(down_between(first, 100.0, 100.0 + STEP_S))
    sky.run(200.0)
    assert [address for _, address in sky.attached] == [first, first]
    assert sky.choice.moves == 0


def test_a_replica_that_says_nothing_any_more_is_not_tried_again_first() -> None:
    first, second, _ = ranked("cam", REPLICAS)
    sky = Sky(lambda address, now_s: True)
    sky.run(100.0)
    sky.choice.silent()
    sky.choice.ended(sky.now_s)
    sky.run(3.0)
    assert [address for _, address in sky.attached] == [first, second]


def test_with_two_replicas_lost_the_third_takes_over() -> None:
    first, second, third = ranked("cam", REPLICAS)
    sky = Sky(lambda address, now_s: address == third or now_s < 100.0)
    sky.run(110.0)
    assert [address for _, address in sky.attached] == [first, third]
    assert sky.attached[-1][0] < 100.0 + 2.0 * SPREAD_S + 1.0
    assert {address for _, address in sky.looks} == {first, second}


def test_one_replica_is_tried_again_and_again_with_pauses_that_grow() -> None:
    sky = Sky(lambda address, now_s: now_s >= 60.0, ["a:7000"])
    sky.run(70.0)
    pauses = [after - before for (before, _), (after, _) in pairwise(sky.tries)]
    assert max(pauses) <= RECONNECT_LAST_S + CONNECT_S + 2.0 * STEP_S
    assert pauses[0] < 0.5
    assert sky.attached[0][0] < 60.0 + RECONNECT_LAST_S + 1.0


def test_two_devices_that_end_each_others_streams_do_so_about_once_a_second() -> None:
    choices = [ReplicaChoice("cam", REPLICAS[:1], random.Random(seed)) for seed in (1, 2)]
    due_s, attached_at_s = [0.0, 0.5], []
    for turn in range(100):
        mine, other = turn % 2, (turn + 1) % 2
        now_s = due_s[mine]
        choices[mine].trying(REPLICAS[0])
        choices[mine].welcomed(now_s)
        attached_at_s.append(now_s)
        if choices[other].is_attached:
            choices[other].ended(now_s)
            due_s[other] = now_s + choices[other].next(now_s).wait_s
    assert attached_at_s[-1] - attached_at_s[0] > 50.0


def test_when_all_are_lost_each_is_tried_within_the_longest_pause() -> None:
    sky = Sky(lambda address, now_s: not 100.0 <= now_s < 400.0)
    sky.run(410.0)
    for address in REPLICAS:
        tried = [at_s for at_s, each in sky.tries if each == address and 120.0 < at_s < 400.0]
        gaps = [after - before for before, after in pairwise(tried)]
        assert max(gaps) < RECONNECT_LAST_S + len(REPLICAS) * (CONNECT_S + STEP_S) + 1.0
    assert sky.attached[1][0] < 400.0 + RECONNECT_LAST_S + 0.5


def test_there_is_an_alternative_until_every_other_replica_has_failed() -> None:
    choice = ReplicaChoice("cam", REPLICAS, random.Random(1))
    assert choice.has_alternative
    seen = []
    for _ in REPLICAS:
        address = choice.next(1e9).address
        choice.trying(address)
        seen.append(choice.has_alternative)
        choice.ended(0.0)
    assert seen == [True, True, False]
    alone = ReplicaChoice("cam", REPLICAS[:1], random.Random(1))
    alone.trying(REPLICAS[0])
    assert not alone.has_alternative


def test_a_new_replica_gets_its_devices_once_it_has_been_up_for_a_while() -> None:
    first = ranked("cam", REPLICAS)[0]
    sky = Sky(lambda address, now_s: address != first or now_s >= 150.0, [r for r in REPLICAS if r != first])
    sky.run(100.0)
    assert sky.choice.listed(REPLICAS, sky.now_s) is False
    sky.run(100.0)
    assert sky.attached[-1][1] == first
    assert sky.attached[-1][0] > 150.0 + RETURN_AFTER_S - 1.0
    assert sky.choice.moves == 1


def test_a_replica_that_is_taken_off_the_list_is_left_and_never_tried_again() -> None:
    first, second, _ = ranked("cam", REPLICAS)
    sky = Sky(lambda address, now_s: True)
    sky.run(100.0)
    assert sky.choice.listed([r for r in REPLICAS if r != first], sky.now_s) is True
    sky.choice.ended(sky.now_s)
    sky.run(100.0)
    assert [address for _, address in sky.attached] == [first, second]
    assert sky.attached[1][0] <= 100.0 + SPREAD_S + 1.0
    assert sky.choice.untold == frozenset(), "what is not on the list is told nothing"


@pytest.mark.slow
@pytest.mark.parametrize("period_s", [2.0, 8.0, 30.0])
def test_a_replica_that_comes_and_goes_does_not_make_its_devices_come_and_go(period_s: float) -> None:
    first, second, _ = ranked("cam", REPLICAS)
    sky = Sky(lambda address, now_s: address != first or now_s % (2.0 * period_s) < period_s)
    sky.run(3600.0)
    # Every return that does not last doubles the time for which the next one must have been up. Few looks may miss a
    # short outage, which happens the more rarely the more of them there must be.
    most_returns = 3 + sum(RETURN_AFTER_S * 2.0**n <= period_s for n in range(10))
    returns = sum(address == first for _, address in sky.attached[1:])
    stays = sum(1 for (_, before), (_, after) in pairwise(sky.attached) if before == after)
    assert returns - stays <= most_returns
    assert sky.attached[-1][1] == second


@pytest.mark.slow
def test_a_replica_that_has_settled_again_is_trusted_as_before() -> None:
    first = ranked("cam", REPLICAS)[0]
    outages = [(100.0, 120.0), (130.0, 150.0), (170.0, 200.0), (1000.0, 1010.0)]
    sky = Sky(lambda address, now_s: address != first or not any(b <= now_s < e for b, e in outages))
    sky.run(1100.0)
    back = [at_s for at_s, address in sky.attached if address == first]
    assert back[-1] - 1010.0 < 1.5 * RETURN_AFTER_S + LOOK_LAST_S + 1.0
    assert 1010.0 - SETTLED_S > 200.0 + RETURN_LAST_S, "it had time to settle"


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(min_value=0, max_value=10_000), st.integers(min_value=0, max_value=1000))
def test_whatever_fails_the_device_is_soon_at_a_replica_that_is_up(fate: int, seed: int) -> None:
    draw = random.Random(fate)
    outages = {
        address: [(begin := draw.uniform(5.0, 60.0), begin + draw.uniform(0.05, 30.0)) for _ in range(3)]
        for address in REPLICAS
    }
    last_s = max(end for spans in outages.values() for _, end in spans)

    def is_up(address: str, now_s: float) -> bool:
        return not any(begin <= now_s < end for begin, end in outages[address])

    sky = Sky(is_up, device_id=f"cam-{seed}", seed=seed)
    sky.run(last_s + RECONNECT_LAST_S + SPREAD_S + 1.0)
    if sky.choice.is_leaving:  # for one that it prefers, at this very moment
        sky.run(CONNECT_S + 2.0 * STEP_S)
    assert sky.choice.is_attached
    sky.run(RETURN_LAST_S + LOOK_LAST_S + 5.0)
    assert sky.choice.current == sky.order[0], "in the end it is where it belongs"
    assert sky.choice.untold == frozenset()


@pytest.mark.slow
def test_devices_of_a_lost_replica_arrive_elsewhere_spread_over_a_second() -> None:
    lost = REPLICAS[0]
    names = [name for name in (f"cam-{n}" for n in range(120)) if ranked(name, REPLICAS)[0] == lost]
    arrivals = []
    for seed, name in enumerate(names):
        sky = Sky(down_between(lost, 20.0, 1e9), device_id=name, seed=seed)
        sky.run(25.0)
        arrivals.append(sky.attached[1][0])
    assert max(arrivals) - min(arrivals) > 0.6 * SPREAD_S
    assert max(arrivals) < 20.0 + SPREAD_S + 1.0
