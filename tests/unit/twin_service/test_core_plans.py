from dataclasses import replace

import pytest

from tests.unit.twin_service.made_up_twins import (
    DIGEST,
    EDGE_ADDRESS,
    MANIFEST,
    MANIFEST_BYTES,
    StepRule,
    World,
    device_hello,
    ended_task,
    manifest_bytes,
    state,
)
from twin_service import messages
from twin_service.decision.rules import rule_named
from twin_service.documents import Desired
from twin_service.memory import VolatileMemory
from twin_service.messages import DeviceHeartbeat, LeaseRenewal, PlanMessage, PollRequest, TaskReport, Welcome
from twin_service.planner import PlannerSettings
from twinsplit.errors import BadMessageError, StaleWriteError, UnknownTwinError, WrongDigestError
from twinsplit.model.manifest import manifest_digest
from twinsplit.plan import Observation, Plan, check_plan
from twinsplit.types import Decision


def plans(world: World) -> list[Plan]:
    return [message.plan for message in world.take(PlanMessage)]


def test_a_device_is_welcomed_asked_for_its_manifest_and_gets_a_plan() -> None:
    world = World()
    world.attach_edge()
    world.attach_device()
    welcome, plan = world.take()
    assert welcome == Welcome(needs_manifest=True, attachment_epoch=1)
    assert isinstance(plan, PlanMessage)
    assert (plan.plan.edge_id, plan.plan.edge_address, plan.plan.rule) == ("edge", EDGE_ADDRESS, "step")
    assert plan.backlog is not None


def test_every_plan_can_be_obeyed_by_its_device() -> None:
    for rule in (
        "multi-step",
        "one-time",
        "device-only",
        "edge-only",
        "static:1",
        "load-only",
        "one-time-threshold:0.9",
    ):
        world = World(rule_named(rule))
        world.attach_device()
        world.attach_edge()
        made = plans(world)
        assert [plan.edge_id for plan in made] == [None, "edge"]
        for plan in made:
            check_plan(plan, MANIFEST)


def test_a_known_manifest_is_not_asked_for_again() -> None:
    world = World()
    world.attach_device("cam")
    world.take()
    world.attach_device("dock")
    assert world.take(Welcome) == [Welcome(needs_manifest=False, attachment_epoch=1)]


def test_plan_ids_grow_over_restarts_and_beyond_what_a_device_has_seen() -> None:
    memory = VolatileMemory()
    ids = []
    for last_seen in (0, 0, 700):
        world = World(memory=memory)
        world.attach_device(last_plan_id=last_seen)
        ids += [plan.plan_id for plan in plans(world)]
    assert ids == sorted(set(ids))
    assert ids[-1] == 701


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


def test_a_plan_is_kept_while_keeping_it_costs_nothing() -> None:
    world = World(rule_named("open-loop"))
    world.attach_edge()
    world.attach_device()
    world.take()
    for k in range(1, 6):
        world.wait(1.0)
        task = ended_task(k, world.now_s - 0.5)
        world.say(TaskReport((task,), state=state(entered=k, goodput_bytes_per_s=1e6 * (1 + 0.02 * k))))
    assert plans(world) == []


def test_a_goodput_that_collapses_brings_a_new_plan_with_its_cause() -> None:
    world = World(rule_named("open-loop"))
    world.attach_edge()
    world.attach_device()
    (first,) = plans(world)
    world.wait(1.0)
    world.say(DeviceHeartbeat(state=state(entered=1, goodput_bytes_per_s=500.0)))
    (second,) = plans(world)
    assert second.plan_id > first.plan_id
    assert world.core.devices["cam"].document.plan_revisions["goodput"] == 1
    world.say(DeviceHeartbeat(state=state(entered=1, goodput_bytes_per_s=500.0)))
    assert plans(world) == []


def test_a_plan_that_a_high_threshold_does_not_buy_is_not_sent() -> None:
    world = World(rule_named("open-loop"), planner=PlannerSettings(plan_threshold_s=1e9))
    world.attach_edge()
    world.attach_device()
    world.take()
    weighed = world.core.planner.weighed
    world.wait(1.0)
    world.say(DeviceHeartbeat(state=state(entered=1, goodput_bytes_per_s=3e5)))
    assert world.core.planner.weighed == weighed + 1
    assert plans(world) == []


def test_a_device_whose_numbers_jump_is_not_weighed_all_the_time() -> None:
    world = World(rule_named("open-loop"))
    world.attach_edge()
    world.attach_device()
    weighed = world.core.planner.weighed
    for k in range(200):
        world.wait(0.01)
        world.say(DeviceHeartbeat(state=state(entered=1, goodput_bytes_per_s=3e5 if k % 2 else 3e6)))
    assert 1 <= world.core.planner.weighed - weighed <= 4


def test_what_moves_right_after_a_weighing_is_weighed_when_that_is_no_longer_fresh() -> None:
    world = World(rule_named("open-loop"))
    world.attach_edge()
    world.attach_device()
    world.take()
    world.wait(0.1)
    world.say(DeviceHeartbeat(state=state(entered=1, goodput_bytes_per_s=500.0)))
    world.wait(0.39)
    assert plans(world) == [], "not yet"
    world.wait(0.02)
    assert len(plans(world)) == 1, "without another word of the device"


def test_a_device_that_goes_right_after_a_weighing_is_not_considered_again() -> None:
    world = World(rule_named("open-loop"))
    world.attach_edge()
    world.attach_device()
    world.say(DeviceHeartbeat(state=state(entered=1, goodput_bytes_per_s=500.0)))
    weighed = world.core.planner.weighed
    world.core.detach_device("cam", world.streams["cam"])
    world.wait(2.0)
    assert world.core.planner.weighed == weighed


def test_desired_weights_change_the_plan() -> None:
    world = World(rule_named("open-loop"))
    world.attach_edge()
    world.attach_device(goodput_bytes_per_s=1e4)
    world.take()
    version = world.core.device_view("cam", world.now_s).version
    assert world.core.desire("cam", Desired(alpha_s=0.01), version) == version + 1
    world.run()
    assert len(plans(world)) == 1
    assert world.core.devices["cam"].document.plan_revisions["weights"] == 1
    with pytest.raises(StaleWriteError):
        world.core.desire("cam", Desired(alpha_s=1.0), version)
    with pytest.raises(UnknownTwinError):
        world.core.desire("nobody", Desired(), 0)


def test_desired_weights_survive_a_restart() -> None:
    memory = VolatileMemory()
    world = World(memory=memory)
    world.attach_device()
    world.core.desire("cam", Desired(alpha_s=0.5), world.core.device_view("cam", 0.0).version)
    world.core.archive.save()
    again = World(memory=memory)
    assert not again.core.device_view("cam", again.now_s).is_attached
    again.attach_device()
    assert again.core.devices["cam"].weights(again.core.planner.weights).alpha_s == 0.5


def test_silence_is_ended_by_a_renewal_at_half_of_the_lease() -> None:
    world = World()
    world.attach_device()
    world.take()
    world.wait(4.9)
    assert world.take() == []
    world.wait(0.2)
    assert world.take() == [LeaseRenewal()]
    world.wait(5.1)
    assert world.take() == [LeaseRenewal()]


def test_any_message_puts_the_renewal_off() -> None:
    world = World()
    world.attach_device()
    world.take()
    world.wait(4.0)
    world.attach_edge()
    assert len(plans(world)) == 1
    world.wait(4.0)
    assert world.take(LeaseRenewal) == []
    world.wait(1.5)
    assert world.take(LeaseRenewal) == [LeaseRenewal()]


def test_a_detached_device_gets_nothing_more() -> None:
    world = World()
    stream = world.attach_device()
    world.core.detach_device("cam", stream)
    world.take()
    world.attach_edge()
    world.wait(60.0)
    assert world.take() == []
    with pytest.raises(StaleWriteError):
        world.core.device_said("cam", stream + 1, DeviceHeartbeat(), world.now_s)


def test_the_stream_that_attached_last_speaks_for_a_device() -> None:
    world = World()
    old = world.attach_device()
    world.attach_device()
    with pytest.raises(StaleWriteError, match="attached again"):
        world.core.device_said("cam", old, DeviceHeartbeat(queue_length=9), world.now_s)
    world.core.detach_device("cam", old)
    assert world.core.devices["cam"].is_attached
    assert world.core.devices["cam"].status.queue_length == 0


def test_the_stream_that_attached_last_speaks_for_an_edge() -> None:
    world = World()
    old = world.attach_edge()
    world.attach_edge()
    with pytest.raises(StaleWriteError, match="attached again"):
        world.core.edge_said("edge", old, world.report(9.0), world.now_s)


def test_a_manifest_that_is_not_the_announced_one_is_refused() -> None:
    world = World()
    stream, _ = world.core.attach_device(device_hello(), world.now_s)
    with pytest.raises(WrongDigestError, match="digest"):
        world.core.device_said("cam", stream, messages.ManifestUpload(manifest_bytes("another")), world.now_s)
    world.core.device_said("cam", stream, messages.ManifestUpload(MANIFEST_BYTES), world.now_s)
    world.run()
    assert len(plans(world)) == 1


def test_a_manifest_that_is_none_is_refused() -> None:
    world = World()
    stream, _ = world.core.attach_device(device_hello(model_digest=manifest_digest(b"{}")), world.now_s)
    with pytest.raises(BadMessageError, match="manifest"):
        world.core.device_said("cam", stream, messages.ManifestUpload(b"{}"), world.now_s)


def test_a_refused_report_leaves_no_trace() -> None:
    world = World()
    world.attach_device()
    good = ended_task(1, world.now_s)
    for bad in (
        TaskReport((good, replace(good, evidence=99))),
        TaskReport((good,), messages.StartReport(2, world.now_s, first_epoch=9)),
        TaskReport((good,), state=state(segment_s=(0.1,))),
    ):
        with pytest.raises(BadMessageError):
            world.say(bad)
    view = world.core.device_view("cam", world.now_s)
    assert view.outcomes == {}
    assert view.mirror_accuracy is None
    world.say(TaskReport((good,)))
    assert world.core.device_view("cam", world.now_s).outcomes == {"device": 1}


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


def test_many_devices_are_planned_in_batches() -> None:
    world = World(plan_batch=4)
    world.attach_device("d0")
    world.take()
    for k in range(1, 10):
        world.core.attach_device(device_hello(f"d{k}"), world.now_s)
    sizes = []
    while world.core.next_due_s() <= world.now_s:
        sizes.append(len(world.core.tick(world.now_s)))
    assert sizes == [4, 4, 1]


def moved(world: World, *device_ids: str) -> int:
    """Has the goodput of these devices collapse: how many are planned at once."""
    weighed = world.core.planner.weighed
    for device_id in device_ids:
        world.say(DeviceHeartbeat(state=state(entered=1, goodput_bytes_per_s=500.0)), device_id)
    return world.core.planner.weighed - weighed


def paused_world(devices: int, **settings: object) -> World:
    """Devices that were planned a while ago, in a core that pauses between plannings."""
    world = World(rule_named("open-loop"), plan_pause_s=0.1, **settings)
    world.attach_edge()
    for k in range(devices):
        world.attach_device(f"d{k}")
    world.wait(1.0)
    world.take()
    return world


def test_plans_that_fall_due_within_a_pause_are_made_together_at_its_end() -> None:
    world = paused_world(4)
    assert moved(world, "d0") == 1, "nobody was planned just before"
    world.wait(0.02)
    assert moved(world, "d1", "d2", "d3") == 0
    world.wait(0.07)
    assert len(plans(world)) == 1
    world.wait(0.02)
    assert len(plans(world)) == 3
    assert world.core.next_due_s() > world.now_s


def test_a_pause_ends_for_a_whole_batch() -> None:
    world = paused_world(5, plan_batch=3)
    moved(world, "d0")
    assert moved(world, "d1", "d2") == 0
    assert moved(world, "d3") == 3
    assert moved(world, "d4") == 0


def test_no_device_is_kept_without_a_plan_or_with_an_edge_that_is_gone_by_a_pause() -> None:
    world = paused_world(2)
    moved(world, "d0")
    world.take()
    world.attach_device("new")
    (plan,) = plans(world)
    assert plan.edge_id == "edge"
    world.core.detach_edge("edge", world.streams["edge"])
    world.run()
    assert [plan.edge_id for plan in plans(world)] == [None] * 3


def test_a_polled_device_is_answered_from_the_same_table_with_the_backlog_of_now() -> None:
    world = World()
    world.attach_edge()
    world.attach_device(is_polled=True)
    world.take()
    world.say(PollRequest(1, 1, 1, 0))
    world.edge_reports(0.9)
    world.say(PollRequest(1, 1, 1, 0))
    world.say(PollRequest(1, 1, 2, 0))
    decisions = [message.decision for message in world.take()]
    assert decisions == [Decision.OFFLOAD_TENSOR, Decision.CONTINUE, Decision.EXIT]


def test_a_polled_device_under_a_one_time_rule_decides_by_what_was_at_its_start() -> None:
    world = World(StepRule(observation=Observation.SERVICE_START))
    world.attach_edge()
    world.attach_device(is_polled=True)
    world.take()
    world.say(PollRequest(1, 0, 0, 0))
    world.edge_reports(0.9)
    world.say(PollRequest(1, 1, 1, 0))
    world.say(PollRequest(2, 0, 0, 0))
    world.say(PollRequest(2, 1, 1, 0))
    decisions = [message.decision for message in world.take()]
    assert decisions == [Decision.CONTINUE, Decision.OFFLOAD_TENSOR, Decision.CONTINUE, Decision.CONTINUE]


def test_a_poll_that_the_model_cannot_have_is_refused() -> None:
    world = World()
    world.attach_device(is_polled=True)
    with pytest.raises(BadMessageError, match="epoch 7"):
        world.say(PollRequest(1, 7, 0, 0))


def test_a_view_says_what_stands_and_why_tasks_ended() -> None:
    world = World()
    world.attach_edge()
    world.attach_device()
    world.say(messages.StartReport(1, world.now_s))
    started_at_s = world.now_s
    world.wait(0.31)
    world.say(TaskReport((ended_task(1, started_at_s),), state=state(entered=1)))
    view = world.core.device_view("cam", world.now_s)
    assert view.is_attached
    assert view.plan is not None
    assert view.reasons == {"not-worth-it": 1}
    assert view.mirror_accuracy == pytest.approx(1.0)
    listing = world.core.listing(world.now_s)
    assert (listing.rule, len(listing.devices), len(listing.edges)) == ("step", 1, 1)


def test_only_an_attached_device_whose_report_is_old_is_worth_asking() -> None:
    world = World()
    stream = world.attach_device()
    world.say(DeviceHeartbeat())
    world.wait(1.0)
    assert world.core.is_worth_asking("cam", 0.5, world.now_s)
    assert not world.core.is_worth_asking("cam", 2.0, world.now_s)
    world.core.detach_device("cam", stream)
    assert not world.core.is_worth_asking("cam", 0.5, world.now_s)
    assert not world.core.is_worth_asking("nobody", 0.5, world.now_s)


def test_a_live_report_moves_the_twin_to_where_the_device_is() -> None:
    world = World()
    world.attach_device()
    start = messages.StartReport(3, world.now_s - 0.5, first_epoch=0)
    world.say(messages.LiveReport(1, 2, start, 1, world.now_s - 0.01, state()))
    status = world.core.devices["cam"].status
    assert status.epoch(world.now_s) == 1
    assert status.queue_length == 2
    world.say(messages.LiveReport(2, 0, None))
    assert status.epoch(world.now_s) is None
