"""Energy of tasks by the model: a power times a time with its source, or unknown."""

from __future__ import annotations

import pytest

from device.energy import ModelBooks, NoBooks, Part, TaskWork

WORK = TaskWork(task_id=1, ended_at_s=10.0, compute_s=0.5, transmit_s=0.25, sent_at_s=9.0)


def test_the_model_multiplies_powers_and_times_and_says_so():
    books = ModelBooks(3.0, 1.2)
    assert books.totals() == {}
    reading = books.task_energy(WORK)
    assert reading is not None
    assert reading.joules == pytest.approx(1.8)
    assert reading.source == "model"
    books.task_energy(WORK)
    assert books.totals() == {("model", Part.COMPUTE): pytest.approx(3.0), ("model", Part.RADIO): pytest.approx(0.6)}
    assert books.state(10.0) is None


def test_no_books_know_nothing_rather_than_zero():
    books = NoBooks()
    assert books.task_energy(WORK) is None
    assert books.totals() == {}
    assert books.state(10.0) is None
