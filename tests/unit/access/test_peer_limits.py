"""Open calls and messages per peer, by a clock that stands."""

import pytest

from twinsplit.access.door import _host_of
from twinsplit.access.peer_limits import BURST_S, PeerLimits
from twinsplit.errors import PeerLimitError


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_one_peer_may_have_so_many_calls_open_and_others_theirs(clock: Clock) -> None:
    limits = PeerLimits(2, 100.0, clock)
    limits.begin("a")
    limits.begin("a")
    with pytest.raises(PeerLimitError, match="2 calls of this peer are open"):
        limits.begin("a")
    limits.begin("b")
    limits.end("a")
    limits.begin("a")


def test_messages_come_at_the_rate_and_in_bursts_of_a_second(clock: Clock) -> None:
    limits = PeerLimits(2, 8.0, clock)
    for _ in range(int(8 * BURST_S)):
        limits.count("a")
    with pytest.raises(PeerLimitError, match="more than 8 messages a second"):
        limits.count("a")
    limits.count("b")
    clock.now_s += 0.125
    limits.count("a")
    with pytest.raises(PeerLimitError):
        limits.count("a")
    clock.now_s += 1000.0
    for _ in range(int(8 * BURST_S)):
        limits.count("a")
    with pytest.raises(PeerLimitError):
        limits.count("a")


def test_a_call_that_comes_too_often_is_not_open(clock: Clock) -> None:
    limits = PeerLimits(1, 1.0, clock)
    limits.begin("a")
    limits.end("a")
    with pytest.raises(PeerLimitError, match="messages a second"):
        limits.begin("a")
    clock.now_s += 1.0
    limits.begin("a")


def test_the_books_stay_bounded_however_many_addresses_come_and_none_gains_by_it(clock: Clock) -> None:
    limits = PeerLimits(1, 1.0, clock)
    limits.begin("stays")
    for number in range(10_000):
        limits.begin(f"peer {number}")
        limits.end(f"peer {number}")
        clock.now_s += 0.001
    assert len(limits) < 6000
    with pytest.raises(PeerLimitError, match="are open"):
        limits.begin("stays")


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.5:1234", "10.0.0.5"),
        ("ipv4:127.0.0.1:1234", ""),
        ("ipv6:%5B2001:db8::1%5D:1234", "2001:db8::1"),
        ("ipv6:[2001:db8::1]:1234", "2001:db8::1"),
        ("ipv6:%5B::1%5D:1234", ""),
        ("ipv6:%5B::ffff:127.0.0.1%5D:1234", ""),
        ("unix:/run/x", ""),
        ("unknown", ""),
    ],
)
def test_a_peer_without_a_certificate_is_its_machine(peer: str, host: str) -> None:
    assert _host_of(peer) == host
