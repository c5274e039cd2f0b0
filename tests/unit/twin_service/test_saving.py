"""State is saved in rounds and parts: what is due at the begin of a round, and no document twice in it."""

from __future__ import annotations

import pytest

from twin_service.saving import SavingRounds
from twinsplit.errors import StorageError

ROUND_S = 5.0


class Core:
    """Notes when documents fall due; as many savings as ``parts`` leave more to do."""

    def __init__(self, parts: int = 0) -> None:
        self.archive = self
        self.rounds = 0
        self.saved = 0
        self.parts = parts
        self.is_full = False

    def fall_due(self) -> None:
        self.rounds += 1

    def save(self, limit: int) -> bool:
        assert limit > 0
        if self.is_full:
            raise StorageError("the disk is full; free some space")
        self.saved += 1
        self.parts -= 1
        return self.parts >= 0


def test_what_is_left_is_saved_soon_and_begins_no_round() -> None:
    core = Core(parts=2)
    saving = SavingRounds(core, ROUND_S)
    now_s, instants = 100.0, []
    while core.rounds < 2:
        instants.append(now_s)
        saving.save(now_s)
        now_s = saving.next_s
    assert instants == pytest.approx([100.0, 100.05, 100.1, 105.0])


def test_rounds_go_on_while_something_is_due_all_the_time() -> None:
    core = Core(parts=1000)
    saving = SavingRounds(core, ROUND_S)
    now_s = 0.0
    while now_s < 16.0:
        saving.save(now_s)
        now_s = saving.next_s
    assert core.rounds == 4


def test_what_cannot_be_saved_is_tried_again_in_the_next_round() -> None:
    core = Core()
    core.is_full = True
    saving = SavingRounds(core, ROUND_S)
    with pytest.raises(StorageError):
        saving.save(10.0)
    assert saving.next_s == 15.0
    core.is_full = False
    saving.save(saving.next_s)
    assert (core.rounds, core.saved) == (2, 1)
