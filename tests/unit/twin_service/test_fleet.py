"""Several replicas read as one: each device by the replica that knows it best."""

from __future__ import annotations

from dataclasses import replace

from twin_service.fleet import Fleet
from twin_service.tables import fleet_table
from twin_service.views import DeviceView, EdgeView, Listing
from twinsplit.errors import PeerError


def device(name: str, epoch: int, *, is_attached: bool = True, tasks: int = 0) -> DeviceView:
    outcomes = {"device": tasks} if tasks else {}
    return DeviceView(name, 1, is_attached, "ab" * 32, (), 7, None, None, outcomes, {}, {}, {}, None, (), epoch)


def edge(name: str, *, is_attached: bool = True) -> EdgeView:
    return EdgeView(name, "127.0.0.1:7100", is_attached, (), ())


def fleet(**listings: Listing) -> Fleet:
    return Fleet(listings, {"c": PeerError("c does not answer")})


def test_a_device_is_shown_once_by_the_replica_that_holds_it() -> None:
    found = fleet(
        a=Listing("multi-step", [device("cam", 5, is_attached=False), device("dock", 9)], []),
        b=Listing("multi-step", [device("cam", 6), device("gate", 1)], []),
    )
    assert [(address, view.device_id) for address, view in found.devices()] == [
        ("b", "cam"),
        ("a", "dock"),
        ("b", "gate"),
    ]


def test_of_two_that_hold_a_device_the_newer_attachment_counts() -> None:
    for order in (("a", "b"), ("b", "a")):
        views = {"a": device("cam", 5), "b": device("cam", 6)}
        found = fleet(**{address: Listing("multi-step", [views[address]], []) for address in order})
        assert [address for address, _ in found.devices()] == ["b"]


def test_a_device_that_is_nowhere_attached_is_shown_where_it_was_last() -> None:
    lost = [device("cam", epoch, is_attached=False) for epoch in (5, 6)]
    found = fleet(a=Listing("multi-step", [lost[1]], []), b=Listing("multi-step", [lost[0]], []))
    assert [address for address, _ in found.devices()] == ["a"]


def test_an_edge_that_misses_a_replica_shows_it() -> None:
    both, one, none = edge("both"), edge("one"), edge("none", is_attached=False)
    found = fleet(
        a=Listing("multi-step", [device("cam", 6, tasks=3)], [both, replace(one, is_attached=False), none]),
        b=Listing("open-loop", [], [both, one]),
    )
    assert [(count, view.edge_id) for count, view in found.edges()] == [(2, "both"), (0, "none"), (1, "one")]
    text = fleet_table(found)
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert "attached to 1 of 2" in lines["one"]
    assert "detached" in lines["none"]
    assert "attached to" not in lines["both"]
    assert text.startswith("rule multi-step and open-loop; devices attached: 1 at a, 0 at b\n")
    assert lines["cam"].endswith("a")
    assert lines["device"].endswith("twin")
