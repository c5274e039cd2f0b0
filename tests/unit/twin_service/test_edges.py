"""The edges that a twin keeps, and which of them a device may use."""

from __future__ import annotations

from tests.unit.twin_service.made_up_twins import DIGEST, World, edge_hello
from twin_service.device_twin import DeviceTwin
from twin_service.edge_twin import EdgeTwin
from twin_service.edges import Edges


def edge(name: str, **changes: object) -> EdgeTwin:
    return EdgeTwin(edge_hello(name, **changes), 0.0)


def device(**changes: object) -> DeviceTwin:
    world = World()
    world.attach_device(**changes)
    return world.core.devices["cam"]


def names(edges: Edges, who: DeviceTwin) -> list[str]:
    return [each.edge_id for each in edges.usable(who)]


def test_edges_that_hold_the_model_may_be_used_while_they_are_attached():
    edges, who = Edges(), device()
    for each in (edge("a"), edge("other", models={"f" * 64: (0.1, 0.1, 0.1)}), edge("cut", models={DIGEST: (0.1,)})):
        edges.attach(each)
    assert names(edges, who) == ["a"]
    edges.attach(edge("b"))
    assert names(edges, who) == ["a", "b"], "found anew"
    edges.detach(edges["a"])
    assert names(edges, who) == ["b"]
    assert edges.usable_by(who, "a") is None
    assert edges.usable_by(who, "b") is edges["b"]
    assert edges.usable_by(who, "nobody") is None


def test_a_device_that_was_told_its_edge_may_use_that_one_under_any_of_its_addresses():
    edges, who = Edges(), device(fixed_edge_address="edge:7100")
    edges.attach(edge("a"))
    edges.attach(edge("b", other_addresses=("edge:7100",)))
    assert names(edges, who) == ["b"]
    assert names(edges, device()) == ["a", "b"]


def test_of_too_many_edges_the_first_detached_one_is_forgotten():
    edges = Edges(most=2)
    for name in ("a", "b"):
        assert edges.attach(edge(name)) is None
    assert edges.attach(edge("c")) is None, "all are in use"
    edges.detach(edges["b"])
    assert edges.attach(edge("d")) == "b"
    assert list(edges) == ["a", "c", "d"]
