import math

from twin_service.schedule import Appointment, Schedule

LEASE, LOOK = Appointment.LEASE, Appointment.LOOK


def test_what_is_due_comes_in_order_and_once() -> None:
    schedule = Schedule()
    schedule.put("b", LEASE, 2.0)
    schedule.put("a", LOOK, 1.0)
    assert schedule.next_s() == 1.0
    assert schedule.take_due(2.0) == [("a", LOOK), ("b", LEASE)]
    assert schedule.take_due(9.0) == []
    assert schedule.next_s() == math.inf


def test_a_moved_appointment_is_due_only_at_its_new_instant() -> None:
    schedule = Schedule()
    schedule.put("a", LEASE, 1.0)
    schedule.put("a", LEASE, 3.0)
    assert schedule.take_due(2.0) == []
    assert schedule.next_s() == 3.0
    schedule.put("a", LEASE, 2.5)
    assert schedule.take_due(2.6) == [("a", LEASE)]
    assert schedule.take_due(3.0) == []


def test_infinity_and_discard_remove() -> None:
    schedule = Schedule()
    schedule.put("a", LOOK, 1.0)
    schedule.put("a", LEASE, 1.0)
    schedule.put("a", LOOK, math.inf)
    assert schedule.take_due(1.0) == [("a", LEASE)]
    schedule.put("a", LEASE, 2.0)
    schedule.discard("a")
    assert schedule.next_s() == math.inf
