import math

from twinsplit.reckoning import DecayingRate


def test_a_steady_flow_gives_its_rate_from_the_start() -> None:
    rate = DecayingRate(0.0)
    for k in range(1, 31):
        rate.add(1.0, k / 3)
    assert math.isclose(rate.per_second(10.0), 3.0, rel_tol=0.05)


def test_one_early_event_is_no_flood() -> None:
    rate = DecayingRate(0.0)
    rate.add(1.0, 0.01)
    assert rate.per_second(0.01) <= 0.5


def test_silence_lowers_the_rate() -> None:
    rate = DecayingRate(0.0)
    for k in range(100):
        rate.add(1.0, float(k))
    assert rate.per_second(99.0) > 0.9
    assert rate.per_second(139.0) < 0.2


def test_an_instant_in_the_past_counts_as_now() -> None:
    rate = DecayingRate(0.0)
    rate.add(1.0, 10.0)
    rate.add(1.0, 5.0)
    assert math.isclose(rate.per_second(10.0), 2.0 / (20.0 * (1 - math.exp(-0.5))))
