"""Every message sent is counted once, by kind."""

import threading

from twinsplit.telemetry.signalling import Sent, SignallingCount


def test_messages_and_bytes_are_counted_by_kind() -> None:
    count = SignallingCount()
    count.note_sent("plan", 100)
    count.note_sent("plan", 50)
    count.note_sent("renewal", 4)
    assert count.by_kind() == {"plan": Sent(2, 150), "renewal": Sent(1, 4)}
    assert count.total() == Sent(3, 154)
    assert ("twinsplit_signalling_bytes_total", {"kind": "plan"}, 150) in list(count.samples())


def test_nothing_sent_is_zero() -> None:
    assert SignallingCount().total() == Sent(0, 0)


def test_threads_lose_nothing() -> None:
    count = SignallingCount()

    def send() -> None:
        for _ in range(2000):
            count.note_sent("task", 3)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count.total() == Sent(8000, 24000)
