from __future__ import annotations

import os

import pytest

from edge.core import go_first, keep_to
from twinsplit.errors import SettingsError


def test_several_threads_cannot_share_one_core() -> None:
    with pytest.raises(SettingsError, match="--core is one core, but --threads asks for 2"):
        keep_to(min(os.sched_getaffinity(0)), 2)


def test_a_core_that_is_not_there_is_refused_and_nothing_is_changed() -> None:
    usable = os.sched_getaffinity(0)
    with pytest.raises(SettingsError, match=rf"--core {max(usable) + 1}: this process may use "):
        keep_to(max(usable) + 1, 1)
    assert os.sched_getaffinity(0) == usable
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_where_no_thread_gives_way_none_goes_first() -> None:
    go_first()
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_system_that_forbids_it_is_told_so_by_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_thread: int, _cores: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    with pytest.raises(SettingsError, match="--core: this system does not let a process choose"):
        keep_to(min(os.sched_getaffinity(0)), 1)
