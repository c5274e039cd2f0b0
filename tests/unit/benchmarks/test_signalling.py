from __future__ import annotations

from benchmarks.testbed.signalling import MESSAGES, SignallingBooks


def scrape(**by_kind: float) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = {(MESSAGES, (("kind", kind),)): value for kind, value in by_kind.items()}
    return found | {("twinsplit_other_total", ()): 99.0}


def test_every_message_is_counted_once_where_it_is_sent() -> None:
    books = SignallingBooks()
    books.read("device", scrape(hello=1, task=3))
    books.read("twin", scrape(plan=1))
    books.read("device", scrape(hello=1, task=5))
    books.read("edge", None)
    assert books.messages == 7
    assert books.by_kind() == {"device hello": 1, "device task": 5, "twin plan": 1}


def test_counters_that_begin_anew_after_a_restart_are_added() -> None:
    books = SignallingBooks()
    books.read("edge", scrape(hello=1, backlog=4))
    books.restarted("edge")
    books.read("edge", scrape(hello=1, backlog=6))
    assert books.messages == 5 + 7


def test_a_counter_that_fell_was_started_anew() -> None:
    books = SignallingBooks()
    books.read("edge", scrape(backlog=9))
    books.read("edge", scrape(backlog=2))
    assert books.messages == 11
