"""What has arrived at the edge and is not told yet."""

from __future__ import annotations

from edge.arrival_log import Arrival, ArrivalLog, ArrivalLogs


def log_of(*instants_s: float, most: int = 99) -> ArrivalLog:
    log = ArrivalLog(most)
    for at_s in instants_s:
        log.add(Arrival(at_s, 0.1))
    return log


def times_s(log: ArrivalLog, now_s: float) -> list[float]:
    return [arrival.at_s for arrival in log.untold(now_s)]


def test_what_is_told_once_is_not_told_again() -> None:
    log = log_of(1.0, 2.0)
    told = log.untold(2.0)
    log.add(Arrival(2.5, 0.1))  # while the message was on its way out
    log.told(told)
    assert times_s(log, 3.0) == [2.5]
    log.told(())
    assert times_s(log, 3.0) == [2.5]


def test_what_could_not_be_sent_is_told_with_the_next_message() -> None:
    log = log_of(1.0)
    log.untold(1.0)
    log.add(Arrival(2.0, 0.1))
    assert times_s(log, 2.0) == [1.0, 2.0]


def test_the_log_is_bounded_in_number_and_in_age() -> None:
    log = log_of(1.0, 2.0, 3.0, most=2)
    assert times_s(log, 3.0) == [2.0, 3.0]
    assert times_s(log, 62.5) == [3.0]
    assert len(log) == 1


def test_what_went_meanwhile_since_the_log_was_full_does_no_harm() -> None:
    log = log_of(1.0, 2.0, most=2)
    told = log.untold(2.0)
    for at_s in (3.0, 4.0):
        log.add(Arrival(at_s, 0.1))
    log.told(told)
    assert times_s(log, 4.0) == [3.0, 4.0]


def test_every_replica_is_told_in_its_own_time() -> None:
    logs = ArrivalLogs()
    logs.add(Arrival(1.0, 0.1))  # nobody is told what came before there was a twin
    quick, slow = logs.open("a:7000"), logs.open("b:7000")
    logs.add(Arrival(2.0, 0.1))
    quick.told(quick.untold(2.0))
    logs.add(Arrival(3.0, 0.1))
    assert (times_s(quick, 3.0), times_s(slow, 3.0)) == ([3.0], [2.0, 3.0])
    logs.close("b:7000")
    logs.close("c:7000")
    logs.add(Arrival(4.0, 0.1))
    assert (times_s(quick, 4.0), times_s(slow, 4.0)) == ([3.0, 4.0], [2.0, 3.0])
