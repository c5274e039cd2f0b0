"""When a replica counts as silent, and what is said of the way to the twin."""

from __future__ import annotations

import random

import pytest

from device.twin_route import (
    SILENT_SHARE,
    WELCOME_TIMEOUT_OF_MANY_S,
    WELCOME_TIMEOUT_S,
    TwinRoute,
)
from twinsplit.clock import ManualClock
from twinsplit.errors import SettingsError
from twinsplit.replicas.listing import ReplicaSource
from twinsplit.replicas.rendezvous import ranked
from twinsplit.telemetry.signalling import SignallingCount

LEASE_S = 10.0


class Attached:
    """A route whose stream is open."""

    def __init__(self, replicas: str = "a:7000,b:7000") -> None:
        self.clock = ManualClock(100.0)
        self.route = TwinRoute(ReplicaSource(replicas), "cam", self.clock, SignallingCount(), rng=random.Random(1))
        self.left = 0
        self.epoch = self.route.trying(self.route.replicas[0], self._leave)
        self.route.welcomed(self.epoch)
        self.route.heard(LEASE_S)

    def looks(self, after_s: float) -> None:
        self.clock.advance(after_s)
        self.route._look_for_silence()

    def _leave(self) -> None:
        self.left += 1


def test_a_replica_that_says_nothing_for_most_of_a_lease_is_left() -> None:
    at = Attached()
    at.looks(SILENT_SHARE * LEASE_S - 0.1)
    assert at.left == 0
    at.looks(0.2)
    at.looks(0.2)
    assert at.left == 1
    at.looks(60.0)
    assert at.left == 1, "once is enough"


def test_after_a_pause_of_the_process_what_has_come_meanwhile_is_read_first() -> None:
    at = Attached()
    at.looks(60.0)
    at.route.heard(LEASE_S)
    at.looks(0.2)
    assert at.left == 0


def test_the_only_replica_is_never_left() -> None:
    at = Attached("a:7000")
    for _ in range(3):
        at.looks(60.0)
    assert at.left == 0
    assert at.route.welcome_timeout_s == WELCOME_TIMEOUT_S


def test_a_welcome_is_waited_for_longer_where_there_is_nowhere_else_to_go() -> None:
    clock = ManualClock(100.0)
    route = TwinRoute(ReplicaSource("a:7000,b:7000"), "cam", clock, SignallingCount(), rng=random.Random(1))
    for address, expected in zip(route.replicas, (WELCOME_TIMEOUT_OF_MANY_S, WELCOME_TIMEOUT_S), strict=True):
        route.trying(address, lambda: None)
        assert route.welcome_timeout_s == expected
        route.ended()


def test_it_says_where_it_is_and_where_it_would_be() -> None:
    at = Attached()
    preferred, other = ranked("cam", ["a:7000", "b:7000"])
    assert at.route.status() == {
        "address": preferred,
        "is_attached": True,
        "preferred": preferred,
        "replicas": [preferred, other],
        "attachment_epoch": at.epoch,
        "moves": 0,
    }
    at.route.ended()
    assert not at.route.status()["is_attached"]


def test_a_list_that_names_nobody_is_a_mistake_of_the_settings() -> None:
    with pytest.raises(SettingsError):
        TwinRoute(ReplicaSource(","), "cam", ManualClock(), SignallingCount())
