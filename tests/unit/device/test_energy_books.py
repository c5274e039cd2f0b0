"""What a meter measured is told apart into compute, radio and idle, and given to tasks; the rest is unknown."""

from __future__ import annotations

import pytest

from device.energy import MeterBooks, Part, TaskWork
from device.energy.spans import SpanLog
from twinsplit.energy import MeterReading

IDLE, COMPUTE, RADIO = 2.0, 4.0, 1.0
INTERVAL_S = 0.05


class Machine:
    """A device whose power follows what it does, with a meter on it."""

    def __init__(self, interval_s: float = INTERVAL_S, **changes: object) -> None:
        self.books = MeterBooks("ina", interval_s, compute_watts=COMPUTE, transmit_watts=RADIO, **changes)
        self.interval_s = interval_s
        self.now_s = 100.0
        self.joules = 0.0
        self.next_look_s = self.now_s
        self.is_up = True

    def go_on(self, seconds: float, watts: float) -> None:
        """Draw ``watts`` for ``seconds``; the meter is looked at on the way."""
        end_s = self.now_s + seconds
        while self.next_look_s <= end_s + 1e-12:
            self.joules += watts * (self.next_look_s - self.now_s)
            self.now_s = self.next_look_s
            self.books.sampled(self.now_s, MeterReading(joules=self.joules) if self.is_up else None)
            self.next_look_s += self.interval_s
        self.joules += watts * (end_s - self.now_s)
        self.now_s = end_s

    def idle(self, seconds: float) -> None:
        self.go_on(seconds, IDLE)

    def compute(self, task_id: int, seconds: float, *, added: float = COMPUTE) -> None:
        began_s = self.now_s
        self.books.step_began(began_s)
        self.go_on(seconds, IDLE + added)
        self.books.step_ended(task_id, began_s, self.now_s)

    def end(self, task_id: int, compute_s: float, sent_at_s: float | None = None, transmit_s: float = 0.0):
        return self.books.task_energy(TaskWork(task_id, self.now_s, compute_s, transmit_s, sent_at_s))


def test_a_task_of_several_looks_gets_what_was_drawn_beyond_idle_in_its_own_time():
    machine = Machine()
    machine.idle(1.0)
    machine.compute(1, 0.5)
    reading = machine.end(1, 0.5)
    assert reading.source == "ina"
    assert reading.joules == pytest.approx(COMPUTE * 0.5, rel=0.02)


def test_tasks_that_draw_differently_are_told_apart():
    machine = Machine()
    machine.idle(1.0)
    machine.compute(1, 0.5, added=8.0)
    machine.compute(2, 0.5, added=2.0)
    first, second = machine.end(1, 0.5), machine.end(2, 0.5)
    assert first.joules == pytest.approx(4.0, rel=0.05)
    # A look that falls between the two sees both.
    assert second.joules == pytest.approx(1.0, rel=0.1)


def test_a_task_shorter_than_the_meters_looks_gets_its_share_of_the_last_seconds_and_says_so():
    machine = Machine()
    machine.idle(1.0)
    for task_id in range(1, 60):
        machine.compute(task_id, 0.02)
        machine.idle(0.08)
        reading = machine.end(task_id, 0.02)
    assert reading.source == "ina/window"
    assert reading.joules == pytest.approx(COMPUTE * 0.02, rel=0.05)


def test_before_the_window_knows_a_power_a_short_tasks_energy_is_unknown_not_zero():
    machine = Machine()
    machine.idle(1.0)
    machine.compute(1, 0.02)
    assert machine.end(1, 0.02) is None


def test_a_task_that_made_the_device_do_nothing_added_nothing():
    machine = Machine()
    assert machine.end(1, 0.0).joules == 0.0


def test_sending_is_radio_and_shared_with_what_is_computed_meanwhile():
    machine = Machine()
    machine.idle(1.0)
    machine.compute(1, 0.4)
    sent_at_s = machine.now_s
    machine.go_on(0.5, IDLE + RADIO)
    sender = machine.end(1, 0.4, sent_at_s, 0.5)
    assert sender.joules == pytest.approx(COMPUTE * 0.4 + RADIO * 0.5, rel=0.05)

    machine.compute(2, 0.4)
    sent_at_s = machine.now_s
    began_s = machine.now_s
    machine.books.step_began(began_s)
    machine.go_on(0.5, IDLE + COMPUTE + RADIO)
    machine.books.step_ended(3, began_s, machine.now_s)
    sender = machine.end(2, 0.4, sent_at_s, 0.5)
    computer = machine.end(3, 0.5)
    assert sender.joules == pytest.approx(COMPUTE * 0.4 + RADIO * 0.5, rel=0.05)
    assert computer.joules == pytest.approx(COMPUTE * 0.5, rel=0.05)


def test_a_task_that_came_back_pays_for_both_of_its_services():
    machine = Machine()
    machine.idle(1.0)
    machine.compute(1, 0.3)
    machine.idle(0.5)
    machine.compute(1, 0.3)
    assert machine.end(1, 0.6).joules == pytest.approx(COMPUTE * 0.6, rel=0.05)


def test_parts_add_up_to_what_the_meter_counted():
    machine = Machine()
    machine.idle(1.0)
    for task_id in range(1, 11):
        machine.compute(task_id, 0.3)
        sent_at_s = machine.now_s
        machine.go_on(0.1, IDLE + RADIO)
        machine.end(task_id, 0.3, sent_at_s, 0.1)
        machine.idle(0.2)
    machine.idle(4.0)
    totals = machine.books.totals()
    settled_s = 2.05
    assert sum(totals.values()) == pytest.approx(machine.joules - IDLE * settled_s, rel=0.02)
    assert totals["ina", Part.COMPUTE] == pytest.approx(10 * COMPUTE * 0.3, rel=0.03)
    assert totals["ina", Part.RADIO] == pytest.approx(10 * RADIO * 0.1, rel=0.1)
    state = machine.books.state(machine.now_s)
    assert state.idle_watts == pytest.approx(IDLE)
    assert state.compute_watts == pytest.approx(COMPUTE, rel=0.05)
    assert state.transmit_watts == pytest.approx(RADIO, rel=0.1)


def test_a_meter_that_vanishes_makes_energy_unknown_until_it_is_back():
    machine = Machine()
    machine.idle(1.0)
    machine.compute(1, 0.5)
    assert machine.end(1, 0.5) is not None
    machine.is_up = False
    machine.compute(2, 0.5)
    assert machine.end(2, 0.5) is None
    assert machine.books.state(machine.now_s).is_up is False
    machine.is_up = True
    machine.compute(3, 0.5)
    # Of task 3 a part was not seen; of task 4 all was.
    assert machine.end(3, 0.5) is None
    machine.compute(4, 0.5)
    assert machine.end(4, 0.5).joules == pytest.approx(COMPUTE * 0.5, rel=0.05)
    assert machine.books.state(machine.now_s).losses == 1


def test_a_meter_that_hangs_makes_energy_unknown_too():
    machine = Machine()
    machine.idle(1.0)
    machine.compute(1, 0.3)
    machine.next_look_s = float("inf")
    machine.compute(1, 5.0)
    assert machine.end(1, 5.3) is None


def test_while_the_idle_power_is_unknown_so_is_every_tasks_energy():
    machine = Machine()
    machine.compute(1, 0.5)
    assert machine.end(1, 0.5) is None
    machine.compute(2, 3.0)
    assert machine.end(2, 3.0) is None
    assert machine.books.totals() == {}


def test_compute_that_was_never_told_is_unknown_not_zero():
    machine = Machine(idle_watts=IDLE)
    machine.go_on(1.0, IDLE + COMPUTE)
    assert machine.end(1, 1.0) is None


def test_a_calibrated_idle_power_is_known_from_the_start():
    machine = Machine(idle_watts=IDLE)
    machine.compute(1, 0.5)
    assert machine.end(1, 0.5).joules == pytest.approx(COMPUTE * 0.5, rel=0.05)


def test_the_idle_power_follows_the_device():
    machine = Machine(idle_watts=1.0)
    machine.idle(120.0)
    assert machine.books.state(machine.now_s).idle_watts == pytest.approx(IDLE, rel=0.05)


def test_noise_below_idle_gives_no_energy_back():
    machine = Machine(idle_watts=IDLE)
    machine.compute(1, 0.5, added=-0.5)
    assert machine.end(1, 0.5).joules == 0.0


def test_a_model_is_called_model_however_short_the_task():
    books = MeterBooks("model", 0.1, compute_watts=COMPUTE, transmit_watts=RADIO, idle_watts=IDLE, is_modelled=True)
    for step in range(60):
        books.step_ended(step, 100.0 + 0.1 * step, 100.05 + 0.1 * step)
        books.sampled(100.1 + 0.1 * step, MeterReading(joules=0.4 * step))
    assert books.task_energy(TaskWork(59, 106.0, 0.05)).source == "model"


def test_spans_fill_what_they_fill_and_overlaps_count_once():
    log = SpanLog()
    assert log.is_empty
    for span in ((1.0, 2.0), (2.0, 2.5), (3.0, 4.0), (3.5, 4.5), (9.0, 9.0)):
        log.add(*span)
    assert log.seconds_between(0.0, 10.0) == pytest.approx(3.0)
    assert log.seconds_between(1.5, 3.25) == pytest.approx(1.25)
    assert log.seconds_between(2.6, 2.9) == 0.0
    assert log.newest_end_s == 4.5


def test_old_spans_are_forgotten_and_new_ones_still_right():
    log = SpanLog(kept_spans=10)
    for k in range(100):
        log.add(float(k), k + 0.5)
    assert log.seconds_between(96.0, 100.0) == pytest.approx(2.0)
