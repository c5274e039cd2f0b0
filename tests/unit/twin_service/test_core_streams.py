"""What devices and edges say: whose stream counts, what is refused, and what readers see of it."""

from dataclasses import replace

import pytest

from tests.unit.twin_service.made_up_twins import (
    MANIFEST_BYTES,
    World,
    device_hello,
    ended_task,
    manifest_bytes,
    plans,
    state,
)
from twin_service import messages
from twin_service.documents import Desired
from twin_service.memory import VolatileMemory
from twin_service.messages import DeviceHeartbeat, TaskReport, Welcome
from twin_service.workload.twin import WorkloadTwin
from twinsplit.errors import BadMessageError, StaleWriteError, WrongDigestError
from twinsplit.model.manifest import manifest_digest
from twinsplit.types import TaskRecord


def test_a_known_manifest_is_not_asked_for_again() -> None:
    world = World()
    world.attach_device("cam")
    world.take()
    world.attach_device("dock")
    assert world.take(Welcome) == [Welcome(needs_manifest=False, attachment_epoch=1)]


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


def test_of_devices_that_come_and_go_no_more_are_kept_than_may_be() -> None:
    world = World(max_devices=2)
    world.attach_edge()
    world.attach_device("stays")
    for number in range(20):
        stream = world.attach_device(f"goes-{number}")
        world.say(TaskReport((ended_task(1, world.now_s),), state=state(1)), f"goes-{number}")
        world.core.detach_device(f"goes-{number}", stream)
        world.core.desire(f"goes-{number}", Desired(alpha_s=1.0), 1)
    assert world.core.devices.keys() == {"stays", "goes-19"}
    known = [device.status.mirror for device in world.core.devices.values()]
    assert sum(mirror.judged_s for mirror in (world.core.mirror_forgotten, *known)) == pytest.approx(20 * 0.31)
    world.wait(60.0)


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


def told_again(task: TaskRecord, late_s: float) -> TaskRecord:
    """As it comes on another stream, by a clock that is known less well."""
    assert task.started_at_s is not None
    moved = {name: getattr(task, name) + late_s for name in ("arrived_at_s", "started_at_s", "ended_at_s")}
    return replace(task, **moved, epoch_times_s=tuple(at_s + late_s for at_s in task.epoch_times_s))


@pytest.mark.parametrize("has_restarted", [False, True])
def test_what_a_device_tells_again_after_a_broken_stream_is_counted_once(has_restarted: bool) -> None:
    world = World(workload=WorkloadTwin(VolatileMemory()))
    world.attach_device()
    tasks = [ended_task(number, world.now_s + number) for number in range(1, 6)]
    world.say(TaskReport(tuple(tasks[:1]), state=state(1)))
    world.say(TaskReport(tuple(tasks[1:4]), state=state(4)))
    if has_restarted:
        world.core.save()
        world = World(memory=world.memory)
    world.attach_device()
    again = [told_again(task, 0.03) for task in tasks]
    world.say(TaskReport(tuple(again[2:4]), state=state(4)))
    assert world.core.device_view("cam", world.now_s).outcomes == {"device": 4}
    world.attach_device()
    world.say(TaskReport(tuple(again[2:]), state=state(5)))
    assert world.core.device_view("cam", world.now_s).outcomes == {"device": 5}


def test_a_device_that_begins_anew_to_count_its_tasks_repeats_none() -> None:
    world = World()
    world.attach_device()
    task = ended_task(1, world.now_s)
    world.say(TaskReport((task,), state=state(1)))
    world.attach_device()
    world.say(TaskReport((replace(task, arrived_at_s=task.arrived_at_s - 0.01),), state=state(1)))
    assert world.core.device_view("cam", world.now_s).outcomes == {"device": 2}


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
