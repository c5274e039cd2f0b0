from __future__ import annotations

import resource

import pytest

from twinsplit.transport.open_files import MOST, allow_many_connections


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ((64, 256), 256),
        ((1024, 1 << 30), MOST),
        ((1024, resource.RLIM_INFINITY), MOST),
        ((1 << 20, 1 << 20), 1 << 20),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), resource.RLIM_INFINITY),
    ],
)
def test_a_process_takes_as_many_open_files_as_it_may_have_and_gives_none_back(
    monkeypatch: pytest.MonkeyPatch, given: tuple[int, int], found: int
) -> None:
    limits = list(given)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, new: limits.__setitem__(slice(None), new))
    assert allow_many_connections() == found
    assert limits == [found, given[1]]


def test_where_the_system_does_not_give_more_it_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_which: int, _new: tuple[int, int]) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert allow_many_connections() == 256
