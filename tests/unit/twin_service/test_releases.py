"""A device that has attached elsewhere is planned for no longer here, and numbers keep what is late from doing harm."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.twin_service.made_up_twins import MANIFEST_BYTES, World, device_hello
from twin_service import messages
from twin_service.core import TwinCore
from twin_service.decision.situation import Weights
from twin_service.exchange import DeviceSession, Exchange
from twin_service.memory import VolatileMemory
from twinsplit.clock import ManualClock
from twinsplit.errors import StaleWriteError
from twinsplit.replicas.attachment import AttachmentEpoch


def plans(world: World) -> list[messages.PlanMessage]:
    return world.take(messages.PlanMessage)


def test_plans_carry_the_number_of_the_attachment_which_the_welcome_tells() -> None:
    world = World()
    world.attach_edge()
    world.attach_device(attachment_epoch=70)
    (welcome,) = [s.message for s in world.sent if isinstance(s.message, messages.Welcome)]
    assert welcome.attachment_epoch == 70
    assert {each.plan.attachment_epoch for each in plans(world)} == {70}


def test_a_device_that_has_forgotten_its_number_gets_a_higher_one() -> None:
    world = World()
    world.attach_device(attachment_epoch=70)
    world.attach_device(attachment_epoch=3)
    assert world.core.devices["cam"].attachment_epoch == 71
    world.attach_device()  # of an older version
    assert world.core.devices["cam"].attachment_epoch == 72


def test_a_released_device_gets_no_plan_and_no_renewal_and_its_old_stream_says_nothing_any_more() -> None:
    world = World()
    world.attach_edge()
    stream = world.attach_device(attachment_epoch=70)
    world.take()
    assert world.core.release_device("cam", 71)
    world.edge_reports(5.0)
    world.wait(60.0)
    assert world.take() == []
    assert not world.core.devices["cam"].is_attached
    assert world.core.devices["cam"].standing is None
    with pytest.raises(StaleWriteError):
        world.core.device_said("cam", stream, messages.DeviceHeartbeat(), world.now_s)
    assert world.core.released == 1


def test_a_release_that_comes_too_late_changes_nothing() -> None:
    world = World()
    world.attach_edge()
    world.attach_device(attachment_epoch=72)
    world.take()
    for epoch in (0, 71, 72):
        assert not world.core.release_device("cam", epoch)
    assert not world.core.release_device("nobody", 99)
    assert world.core.devices["cam"].is_attached
    assert world.core.released == 0


def test_a_device_that_returns_is_planned_for_again() -> None:
    world = World()
    world.attach_edge()
    world.attach_device(attachment_epoch=70)
    world.core.release_device("cam", 71)
    world.take()
    world.attach_device(attachment_epoch=72)
    assert [each.plan.attachment_epoch for each in plans(world)] == [72]
    assert not world.core.release_device("cam", 71), "said before it returned, and late"


async def test_a_release_ends_the_stream_and_its_end_does_no_harm_to_the_next_one() -> None:
    ended: list[str] = []
    exchange = Exchange(TwinCore(World().core.planner.rule, Weights(), VolatileMemory()), ManualClock(10.0))
    first = DeviceSession(end=lambda: ended.append("first"))
    exchange.device_attached(first, device_hello(attachment_epoch=70))
    exchange.device_said(first, messages.ManifestUpload(MANIFEST_BYTES))
    assert exchange.device_released("cam", 71)
    assert ended == ["first"]
    assert not exchange.device_released("cam", 71), "said again"
    second = DeviceSession(end=lambda: ended.append("second"))
    exchange.device_attached(second, device_hello(attachment_epoch=72))
    exchange.device_gone(first)
    assert exchange.core.devices["cam"].is_attached
    assert ended == ["first"]


class Replicas:
    """Three replicas, and one device with its rule of what to obey. Whatever is said may come late, or never."""

    def __init__(self) -> None:
        self.worlds = [World() for _ in range(3)]
        for world in self.worlds:
            world.attach_edge()
        self.at: int | None = None
        self.epochs = AttachmentEpoch()
        self.obeyed: list[tuple[int, int, int]] = []
        """Replica, attachment, plan id."""
        self.releases: list[tuple[int, int]] = []
        """To which replica, under which number, said and not heard yet."""
        self._edge_port = 7100

    def attach(self, replica: int) -> None:
        world, left = self.worlds[replica], self.at
        world.take()
        last_plan_id = self.obeyed[-1][2] if self.obeyed else 0
        world.attach_device(attachment_epoch=self.epochs.begin(0), last_plan_id=last_plan_id)
        self.epochs.granted(world.core.devices["cam"].attachment_epoch)
        self.at = replica
        if left not in (None, replica):
            self.releases.append((left, self.epochs.current))
        self._deliver(replica)

    def release(self, index: int) -> None:
        if self.releases:
            replica, epoch = self.releases.pop(index % len(self.releases))
            self.worlds[replica].core.release_device("cam", epoch)

    def replan(self, replica: int) -> None:
        """The edge is reached elsewhere now, for which a replica that believes to have the device sends it a plan."""
        self._edge_port += 1
        self.worlds[replica].attach_edge(advertise_address=f"127.0.0.1:{self._edge_port}")
        self.worlds[replica].wait(1.0)
        self._deliver(replica)

    def holders(self) -> list[int]:
        """Replicas that believe to have the device."""
        devices = [world.core.devices.get("cam") for world in self.worlds]
        return [n for n, device in enumerate(devices) if device is not None and device.is_attached]

    def _deliver(self, replica: int) -> None:
        for message in self.worlds[replica].take(messages.PlanMessage):
            plan = message.plan
            last_plan_id = self.obeyed[-1][2] if self.obeyed else 0
            if not self.epochs.is_stale(plan.attachment_epoch) and plan.plan_id > last_plan_id:
                self.obeyed.append((replica, plan.attachment_epoch, plan.plan_id))


steps = st.lists(
    st.tuples(st.sampled_from(["attach", "attach", "release", "replan"]), st.integers(0, 2)), min_size=3, max_size=14
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(steps)
def test_no_plan_is_ever_obeyed_of_two_replicas_at_once(found: list[tuple[str, int]]) -> None:
    replicas = Replicas()
    for kind, number in found:
        obeyed = len(replicas.obeyed)
        if kind == "attach":
            replicas.attach(number)
            assert len(replicas.obeyed) == obeyed + 1, "the plan of the new attachment is new to the device"
        elif kind == "release":
            replicas.release(number)
        else:
            replicas.replan(number)
            if number != replicas.at:
                assert len(replicas.obeyed) == obeyed, "a replica that has lost the device cannot make it obey"
    epochs = [epoch for _, epoch, _ in replicas.obeyed]
    assert epochs == sorted(epochs)
    assert len({(replica, epoch) for replica, epoch, _ in replicas.obeyed}) == len(set(epochs))
    ids = [plan_id for _, _, plan_id in replicas.obeyed]
    assert ids == sorted(set(ids))
    while replicas.releases:
        replicas.release(0)
    assert replicas.holders() == ([] if replicas.at is None else [replicas.at]), "once all is heard, one has it"


def test_a_replica_that_still_believes_to_have_the_device_plans_in_vain() -> None:
    """What the property above must meet to mean anything."""
    replicas = Replicas()
    replicas.attach(0)
    replicas.attach(1)
    assert replicas.holders() == [0, 1]
    sent = replicas.worlds[0].core.devices["cam"].document.plan_revisions.total()
    obeyed = list(replicas.obeyed)
    replicas.replan(0)
    assert replicas.worlds[0].core.devices["cam"].document.plan_revisions.total() == sent + 1
    assert replicas.obeyed == obeyed
