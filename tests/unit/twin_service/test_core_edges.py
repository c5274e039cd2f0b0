"""Which edges devices are planned with, as edges come, go and come again."""

from tests.unit.twin_service.made_up_twins import (
    DIGEST,
    World,
    plans,
)
from twinsplit.types import Decision


def test_without_an_edge_that_holds_the_model_the_plan_never_offloads() -> None:
    world = World()
    world.attach_edge(models={"f" * 64: (0.1, 0.1, 0.1)})
    world.attach_device()
    (plan,) = plans(world)
    assert plan.edge_id is None
    assert not (plan.table >= Decision.OFFLOAD_TENSOR).any()


def test_an_edge_whose_tails_do_not_fit_the_manifest_is_not_used() -> None:
    world = World()
    world.attach_edge(models={DIGEST: (0.1,)})
    world.attach_device()
    assert plans(world)[0].edge_id is None


def test_a_device_that_was_told_its_edge_gets_that_one_or_none() -> None:
    world = World()
    world.attach_edge("near", advertise_address="127.0.0.1:7")
    world.attach_device(fixed_edge_address="127.0.0.1:8")
    assert plans(world)[0].edge_id is None
    world.attach_edge("told", advertise_address="127.0.0.1:8")
    assert plans(world)[0].edge_id == "told"


def test_an_edge_is_known_by_any_of_its_addresses() -> None:
    world = World()
    world.attach_edge("near", advertise_address="192.168.1.10:7100", other_addresses=("edge:7100",))
    world.attach_device("inside", fixed_edge_address="edge:7100")
    world.attach_device("outside")
    assert [(plan.edge_id, plan.edge_address) for plan in plans(world)] == [("near", "192.168.1.10:7100")] * 2


def test_the_faster_edge_is_chosen_and_kept_until_another_is_clearly_faster() -> None:
    world = World()
    world.attach_edge("slow", models={DIGEST: (0.09, 0.06, 0.03)})
    world.attach_edge("fast", advertise_address="127.0.0.1:2")
    world.attach_device()
    assert plans(world)[0].edge_id == "fast"
    world.attach_edge("hardly", advertise_address="127.0.0.1:3", models={DIGEST: (0.028, 0.02, 0.01)})
    assert plans(world) == []
    world.attach_edge("clearly", advertise_address="127.0.0.1:4", models={DIGEST: (0.02, 0.01, 0.01)})
    assert plans(world)[0].edge_id == "clearly"


def test_when_an_edge_goes_devices_are_planned_without_it_and_with_it_when_it_returns() -> None:
    world = World()
    stream = world.attach_edge()
    world.attach_device()
    world.take()
    world.core.detach_edge("edge", stream)
    world.run()
    assert [plan.edge_id for plan in plans(world)] == [None]
    world.attach_edge()
    assert [plan.edge_id for plan in plans(world)] == ["edge"]
    assert world.core.devices["cam"].document.plan_revisions == {"attached": 1, "edge-lost": 1, "edge-found": 1}


def test_an_edge_that_attached_again_is_not_lost_with_its_old_stream() -> None:
    world = World()
    old = world.attach_edge()
    world.attach_device()
    world.attach_edge()
    world.take()
    world.core.detach_edge("edge", old)
    world.run()
    assert plans(world) == []


def test_edges_that_come_and_go_are_forgotten_in_the_end() -> None:
    world = World()
    for k in range(300):
        stream = world.attach_edge(f"e{k}", advertise_address=f"127.0.0.1:{k + 1}")
        if k != 7:
            world.core.detach_edge(f"e{k}", stream)
    assert len(world.core.edges) <= 257
    assert "e7" in world.core.edges
    world.attach_device()
    assert plans(world)[0].edge_id == "e7"
