"""Several edges at the twin: which one a plan names, when it names another, and what devices are told of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.unit.twin_service.made_up_twins import (
    DIGEST,
    EDGE_ADDRESS,
    MANIFEST,
    World,
    device_hello,
    state,
)
from twin_service import messages, wire_views
from twin_service.console.snapshot import edge_documents
from twin_service.decision.optimising import Optimising
from twin_service.decision.regret import start_value_s
from twin_service.decision.situation import Situation, Weights
from twin_service.edge_choice import ANY_BACKLOG_S, payload_costs_s, payload_sizes
from twin_service.tables import device_text
from twinsplit.edge_list import MOST_LISTED, EdgeLink
from twinsplit.plan import Plan
from twinsplit.reckoning import BacklogState

SECOND_ADDRESS = "127.0.0.1:7200"


def two_edges(rule: object = None) -> World:
    world = World(rule or Optimising())
    world.attach_edge("first")
    world.attach_edge("second", advertise_address=SECOND_ADDRESS)
    return world


def plans(world: World) -> list[Plan]:
    return [m.plan for m in world.take(messages.PlanMessage)]  # type: ignore[attr-defined] # the kind asked for


def lists(world: World) -> list[list[str]]:
    return [[edge.edge_id for edge in m.edges] for m in world.take(messages.EdgeList)]  # type: ignore[attr-defined] # likewise


def named(world: World, device_id: str = "cam") -> str | None:
    standing = world.core.devices[device_id].standing
    assert standing is not None
    return standing.plan.edge_id


def revisions(world: World, device_id: str = "cam") -> dict[str, int]:
    return dict(world.core.devices[device_id].document.plan_revisions)


def link(edge_id: str, **changes: object) -> EdgeLink:
    return replace(EdgeLink(edge_id, 1e6, 0.002, True), **changes)


def hears(world: World, *links: EdgeLink) -> None:
    """The device tells of its links, later than any pause between weighings."""
    world.wait(1.1)
    world.say(messages.DeviceHeartbeat(state=state(links=links)))


class TestTheList:
    def test_a_device_is_told_of_all_edges_that_hold_its_model(self):
        world = two_edges()
        world.attach_edge("other-model", advertise_address="127.0.0.1:1", models={"f" * 64: (0.1, 0.1, 0.1)})
        world.attach_device()
        (told,) = world.take(messages.EdgeList)
        assert {(edge.edge_id, edge.address) for edge in told.edges} == {
            ("first", EDGE_ADDRESS),
            ("second", SECOND_ADDRESS),
        }
        assert told.edges[0].tail_s == (0.03, 0.02, 0.01)
        assert told.edges[0].backlog.at_s == world.now_s

    def test_edges_come_and_go(self):
        world = World(Optimising())
        world.attach_edge("first")
        world.attach_device()
        assert lists(world) == [], "the only edge is in the plan"
        world.attach_edge("second", advertise_address=SECOND_ADDRESS)
        assert lists(world) == [["first", "second"]]
        world.core.detach_edge("first", world.streams["first"])
        world.run()
        sent = world.take()
        assert [m.plan.edge_id for m in sent if isinstance(m, messages.PlanMessage)] == ["second"]
        assert [[e.edge_id for e in m.edges] for m in sent if isinstance(m, messages.EdgeList)] == [["second"]]
        world.attach_edge("first", advertise_address="127.0.0.1:7300")
        assert lists(world) == [["second", "first"]]

    def test_a_device_that_attaches_again_is_told_again(self):
        world = two_edges()
        for _ in range(2):
            world.attach_device()
            assert len(lists(world)) == 1

    def test_a_device_that_was_told_its_edge_gets_no_list(self):
        world = two_edges()
        world.attach_device(fixed_edge_address=SECOND_ADDRESS)
        sent = world.take()
        assert not any(isinstance(m, messages.EdgeList) for m in sent)
        assert named(world) == "second"

    def test_the_most_promising_are_listed(self):
        world = World(Optimising())
        for number in range(2 * MOST_LISTED):
            slow_s = 0.01 * number
            tails_s = (0.03 + slow_s, 0.02 + slow_s, 0.01 + slow_s)
            world.attach_edge(f"e{number}", advertise_address=f"127.0.0.1:{number + 1}", models={DIGEST: tails_s})
        world.attach_device()
        assert lists(world)[-1] == [f"e{number}" for number in range(MOST_LISTED)]

    def test_two_edges_that_claim_one_address_are_listed_as_one(self):
        world = World(Optimising())
        world.attach_edge("first")
        world.attach_edge("second")
        world.attach_device()
        assert lists(world) == []

    def test_a_list_is_told_again_when_an_edge_became_busy(self):
        world = two_edges()
        world.attach_device()
        world.take()
        for edge_id in ("first", "second"):
            busy = BacklogState(2.0, world.now_s, 2.0, 1.0)
            world.core.edge_said(edge_id, world.streams[edge_id], replace(world.report(2.0), backlog=busy), world.now_s)
        for _ in range(6):
            hears(world)
        (told,) = world.take(messages.EdgeList)
        assert [edge.backlog.mean_s for edge in told.edges] == [2.0, 2.0]

    def test_edges_behind_different_links_stand_in_the_order_that_each_promises_by_itself(self):
        world = World(Optimising())
        for number, slow_s in enumerate((0.02, 0.0, 0.05, 0.01)):
            tails_s = (0.03 + slow_s, 0.02 + slow_s, 0.01 + slow_s)
            world.attach_edge(f"e{number}", advertise_address=f"127.0.0.1:{number + 1}", models={DIGEST: tails_s})
        world.attach_device()
        for _ in range(2):
            hears(world, link("e1", goodput_bytes_per_s=2e4, round_trip_s=0.09), link("e2", goodput_bytes_per_s=4e6))
        chooser, device = world.core.planner.chooser, world.core.devices["cam"]
        edges = world.core.edges
        alone = {edge.edge_id: chooser.quickest_s(device, edge, world.now_s) for edge in edges.values()}
        assert len(set(alone.values())) == 4
        told = [edge.edge_id for edge in chooser.listed(device, edges, world.now_s)]
        assert told[0] == named(world)
        assert told[1:] == sorted(set(alone) - {told[0]}, key=lambda edge_id: alone[edge_id])


class TestTheChoice:
    def test_equal_edges_share_the_devices(self):
        world = two_edges()
        for number in range(6):
            world.attach_device(f"cam-{number}")
        assert Counter(named(world, f"cam-{number}") for number in range(6)) == {"first": 3, "second": 3}
        chooser = world.core.planner.chooser
        assert (chooser.devices_at("first"), chooser.devices_at("second")) == (3, 3)
        for number in range(6):
            world.core.detach_device(f"cam-{number}", world.streams[f"cam-{number}"])
        assert (chooser.devices_at("first"), chooser.devices_at("second")) == (0, 0)

    def test_devices_that_attach_together_share_equal_edges_too(self):
        world = two_edges()
        world.attach_device("cam-0")
        for number in range(1, 6):
            world.core.attach_device(device_hello(f"cam-{number}"), world.now_s)
        world.run()
        assert Counter(named(world, f"cam-{number}") for number in range(6)) == {"first": 3, "second": 3}

    def test_a_backlog_sends_devices_to_the_other_edge_and_a_small_one_does_not(self):
        world = two_edges()
        world.attach_device()
        own = named(world)
        other = {"first": "second", "second": "first"}[own]

        def backlog(mean_s: float) -> None:
            for edge_id, there_s in ((own, mean_s), (other, 0.05)):
                reading = BacklogState(there_s, world.now_s, there_s, 1.0)
                report = replace(world.report(0.0), backlog=reading)
                world.core.edge_said(edge_id, world.streams[edge_id], report, world.now_s)
            hears(world, link("first"), link("second"))

        backlog(0.053)
        assert named(world) == own
        backlog(1.0)
        assert named(world) == other
        assert revisions(world)["edge-better"] == 1
        backlog(0.05)
        assert named(world) == other, "the one that was left is not better again by the margin"

    @pytest.mark.parametrize("changes", [{"round_trip_s": 0.4}, {"goodput_bytes_per_s": 2e3}])
    def test_the_way_to_an_edge_counts(self, changes):
        world = two_edges()
        world.attach_device()
        own = named(world)
        other = {"first": "second", "second": "first"}[own]
        hears(world, link(own, **changes), link(other))
        assert named(world) == other

    def test_an_edge_that_the_device_does_not_reach_is_left_at_once_and_used_again(self):
        world = two_edges()
        world.attach_device()
        own = named(world)
        other = {"first": "second", "second": "first"}[own]
        world.say(messages.DeviceHeartbeat(state=state(links=(link(own, is_reachable=False), link(other)))))
        assert named(world) == other
        assert revisions(world) == {"attached": 1, "edge-lost": 1}
        world.say(messages.DeviceHeartbeat(state=state(links=(link(own), link(other, is_reachable=False)))))
        assert named(world) == own

    def test_where_no_edge_is_reached_the_plan_stands(self):
        world = two_edges()
        world.attach_device()
        own = named(world)
        gone = (link("first", is_reachable=False), link("second", is_reachable=False))
        world.say(messages.DeviceHeartbeat(state=state(links=gone)))
        assert named(world) == own
        assert revisions(world) == {"attached": 1}

    def test_not_all_devices_leave_an_edge_at_once(self):
        world = World(Optimising())
        world.attach_edge("first", models={DIGEST: (0.13, 0.12, 0.11)})
        ids = [f"cam-{number}" for number in range(16)]
        for device_id in ids:
            world.attach_device(device_id)
        tails_s = (0.003, 0.002, 0.001)
        world.attach_edge("second", advertise_address=SECOND_ADDRESS, models={DIGEST: tails_s})
        left = []
        for _ in range(18):
            left.append(sum(named(world, device_id) == "second" for device_id in ids))
            world.wait(1.1)
            for device_id in ids:
                world.say(messages.DeviceHeartbeat(), device_id)
        assert left[0] == 1, "an eighth of those that are left"
        assert all(after - before <= 1 for before, after in pairwise(left))
        assert left[-1] == len(ids)

    def test_an_edge_that_was_not_found_better_is_not_weighed_again_and_again(self):
        world = two_edges()
        world.core.detach_edge("second", world.streams["second"])
        world.attach_device()
        # Better for one cut, but worse for the payload that is quickest.
        world.attach_edge("second", advertise_address=SECOND_ADDRESS, models={DIGEST: (0.2, 0.0, 0.0)})
        world.wait(1.1)
        world.say(messages.DeviceHeartbeat())
        weighed = world.core.planner.weighed
        for _ in range(10):
            world.wait(1.1)
            world.say(messages.DeviceHeartbeat())
        assert named(world) == "first"
        assert world.core.planner.weighed <= weighed + 1


def many_edges(world: World, count: int, **changes: object) -> None:
    for number in range(count):
        world.attach_edge(f"e{number}", advertise_address=f"127.0.0.1:{number + 1}", **changes)


def mean_backlog(world: World, edge_id: str, mean_s: float, busy_share: float = 0.5) -> None:
    reading = BacklogState(mean_s, world.now_s, mean_s, 1.0)
    report = replace(world.report(0.0), backlog=reading, busy_share=busy_share)
    world.core.edge_said(edge_id, world.streams[edge_id], report, world.now_s)


class TestTheHerd:
    """Many devices that see the same backlogs."""

    def test_devices_without_an_edge_are_shared_out_by_the_load_that_they_will_bring(self):
        world = World(Optimising())
        many_edges(world, 2)
        for edge_id, mean_s in (("e0", 0.2), ("e1", 0.0)):
            mean_backlog(world, edge_id, mean_s, busy_share=0.6)
        world.attach_device("cam-0")
        for number in range(1, 40):
            world.core.attach_device(device_hello(f"cam-{number}"), world.now_s)
        world.run()
        counts = Counter(named(world, f"cam-{number}") for number in range(40))
        assert counts["e1"] > counts["e0"] > 0, "the idle one gets more, until it is no better"

    def test_an_edge_that_has_become_idle_is_not_overrun(self):
        world = World(Optimising())
        many_edges(world, 4, models={DIGEST: (0.1, 0.08, 0.05)})
        ids = [f"cam-{number}" for number in range(16)]
        for device_id in ids:
            world.attach_device(device_id)
        assert set(Counter(named(world, device_id) for device_id in ids).values()) == {4}
        most = 0
        for step in range(9):
            for number in range(4):
                # What is told stays: news that are as old as they can be.
                mean_backlog(world, f"e{number}", 0.0 if number == 0 else 0.25, busy_share=0.1 if number == 0 else 0.6)
            world.wait(1.1)
            for device_id in ids:
                world.say(messages.DeviceHeartbeat(state=state(entered=2 * step)), device_id)
            most = max(most, world.core.planner.chooser.devices_at("e0"))
        moves = sum(revisions(world, device_id).get("edge-better", 0) for device_id in ids)
        assert 4 < most <= 9, "some come, and not all"
        assert moves <= len(ids)

    def test_a_device_that_moved_stays_for_a_while(self):
        world = two_edges()
        world.attach_device()
        own = named(world)
        other = {"first": "second", "second": "first"}[own]
        for step in range(12):
            for edge_id in (own, other):
                mean_backlog(world, edge_id, 1.0 if edge_id == named(world) else 0.0)
            hears(world, link("first"), link("second"))
            if step == 1:
                assert named(world) == other
        assert revisions(world)["edge-better"] == 1

    def test_a_look_at_few_edges_finds_the_better_one_in_time(self):
        world = World(Optimising())
        many_edges(world, 40)
        world.attach_device()
        own = named(world)
        ids = [f"e{number}" for number in range(40)]
        for _ in range(80):
            for edge_id in ids:
                mean_backlog(world, edge_id, 0.0 if edge_id == "e33" else 0.2)
            world.wait(4.0)
            hears(world)
            if named(world) == "e33":
                break
        assert own != "e33"
        assert named(world) == "e33"

    def test_what_devices_stand_by_for_differs_from_device_to_device_and_stays(self):
        world = World(Optimising())
        many_edges(world, 12)
        ids = [f"cam-{number}" for number in range(24)]
        for device_id in ids:
            world.attach_device(device_id)
        told = {d: {edge.edge_id for edge in world.core.devices[d].told_edges} for d in ids}
        assert {len(edges) for edges in told.values()} == {MOST_LISTED}
        counts = Counter(edge_id for edges in told.values() for edge_id in edges)
        assert len(counts) == 12
        assert max(counts.values()) <= 16, "of 24 devices"
        world.take()
        for _ in range(12):
            world.wait(1.1)
            for device_id in ids:
                world.say(messages.DeviceHeartbeat(), device_id)
        assert lists(world) == []


def test_readers_see_the_ways_of_a_device_and_the_devices_of_an_edge():
    world = two_edges()
    world.attach_device()
    hears(world, link("first"), link("second", goodput_bytes_per_s=None, is_reachable=False))
    view = world.core.device_view("cam", world.now_s)
    read = wire_views.device_from_wire(wire_views.device_to_wire(view, world.now_s), world.now_s)
    assert read.links == view.links == (link("first"), link("second", goodput_bytes_per_s=None, is_reachable=False))
    text = device_text(read, is_live=False)
    assert "first   1 MB/s   2 ms        not open" in text
    assert "second  -        2 ms        open" in text
    assert {edge["id"]: edge["devices"] for edge in edge_documents(world.core, world.now_s)} == {
        "first": 1,
        "second": 0,
    }


def test_of_tensors_only_those_count_that_do_not_show_the_frame():
    segments = [s.model_copy(update={"macs": s.index}) for s in MANIFEST.segments]
    cuts, _ = payload_sizes(MANIFEST.model_copy(update={"segments": tuple(segments)}), True)
    assert set(cuts) == set(range(2, MANIFEST.segment_count))


def test_two_edges_never_differ_in_worth_by_more_than_the_bound():
    rng = np.random.default_rng(3)
    rule = Optimising(is_reduced=False)
    cuts, sizes = payload_sizes(MANIFEST, False)
    for _ in range(12):
        base = Situation(
            manifest=MANIFEST,
            weights=Weights(beta_s_per_joule=rng.uniform(0.0, 0.5)),
            segment_s=tuple(rng.uniform(0.01, 0.3, 3)),
            exit_s=(0.01,),
            encode_s={},
            tail_s=tuple(np.sort(rng.uniform(0.001, 0.2, 3))[::-1]),
            goodput_bytes_per_s=10.0 ** rng.uniform(3.5, 6.5),
            overhead_s=rng.uniform(0.0, 0.1),
            task_rate_per_s=rng.uniform(0.1, 2.0),
            busy_share=rng.uniform(0.0, 0.7),
            backlog_mean_s=rng.uniform(0.0, 0.5),
        )
        other = replace(
            base,
            tail_s=tuple(np.sort(rng.uniform(0.001, 0.2, 3))[::-1]),
            goodput_bytes_per_s=10.0 ** rng.uniform(3.5, 6.5),
            overhead_s=rng.uniform(0.0, 0.1),
        )
        worth = [
            start_value_s(evaluation, situation, backlog_s=0.2, queue_length=0)
            for evaluation, situation in zip(rule.evaluate([base, other]), (base, other), strict=True)
        ]
        backlogs_s = np.array(ANY_BACKLOG_S)
        costs_s = [payload_costs_s(situation, backlogs_s, cuts, sizes) for situation in (base, other)]
        bound_s = (costs_s[0] - costs_s[1]).max()
        assert worth[1] - worth[0] <= max(bound_s, 0.0) + 1e-6
