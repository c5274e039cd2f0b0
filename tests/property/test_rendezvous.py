"""Only the names of a replica that goes or comes move, and shares are even."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinsplit.replicas.rendezvous import ranked

pytestmark = pytest.mark.slow

names = st.text(min_size=1, max_size=20)
replica_sets = st.sets(st.text(min_size=1, max_size=20), min_size=2, max_size=8)


@settings(deadline=None, max_examples=50)
@given(names, replica_sets, st.data())
def test_who_goes_changes_nothing_between_the_others(name: str, replicas: set[str], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(replicas)))
    before = ranked(name, replicas)
    assert ranked(name, replicas - {gone}) == tuple(each for each in before if each != gone)


@settings(deadline=None, max_examples=50)
@given(st.sets(names, min_size=1, max_size=30), replica_sets, st.data())
def test_only_names_of_the_lost_replica_move(device_ids: set[str], replicas: set[str], data: st.DataObject) -> None:
    lost = data.draw(st.sampled_from(sorted(replicas)))
    for device_id in device_ids:
        before, after = ranked(device_id, replicas)[0], ranked(device_id, replicas - {lost})[0]
        assert (before == lost) == (before != after)


@settings(deadline=None, max_examples=50)
@given(st.sets(names, min_size=1, max_size=30), replica_sets, names)
def test_names_move_to_a_new_replica_and_to_no_other(device_ids: set[str], replicas: set[str], new: str) -> None:
    for device_id in device_ids:
        assert ranked(device_id, replicas | {new})[0] in (new, ranked(device_id, replicas)[0])


@settings(deadline=None, max_examples=50)
@given(names, st.lists(st.text(min_size=1), min_size=1, max_size=8), st.randoms())
def test_the_order_of_the_list_is_of_no_account(name: str, replicas: list[str], random: object) -> None:
    shuffled = list(replicas)
    random.shuffle(shuffled)
    assert ranked(name, replicas) == ranked(name, shuffled)
    assert set(ranked(name, replicas)) == set(replicas)


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_shares_are_even(count: int) -> None:
    replicas = [f"twin-{index}.twin:7000" for index in range(count)]
    devices = 4000
    held = Counter(ranked(f"cam-{index}", replicas)[0] for index in range(devices))
    expected = devices / count
    # Four standard deviations of a share drawn at random.
    allowed = 4.0 * (expected * (1.0 - 1.0 / count)) ** 0.5
    assert set(held) == set(replicas)
    assert all(abs(share - expected) < allowed for share in held.values()), held


def test_a_lost_replicas_devices_spread_over_all_others() -> None:
    replicas = [f"10.0.0.{index}:7000" for index in range(1, 5)]
    orphans = [name for name in (f"cam-{index}" for index in range(4000)) if ranked(name, replicas)[0] == replicas[0]]
    heirs = Counter(ranked(name, replicas[1:])[0] for name in orphans)
    assert set(heirs) == set(replicas[1:])
    assert max(heirs.values()) < 1.3 * min(heirs.values()), heirs


def test_names_and_addresses_that_run_into_one_another_are_told_apart() -> None:
    one = [replica[-1] for replica in ranked("xy", [f"z{end}" for end in "abcdef"])]
    other = [replica[-1] for replica in ranked("x", [f"yz{end}" for end in "abcdef"])]
    assert one != other
