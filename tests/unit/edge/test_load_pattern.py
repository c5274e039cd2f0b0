from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from edge.load_pattern import LoadShape, Pattern, arrivals_s, read_trace
from twinsplit.errors import SettingsError

SERVICE_S = 0.01


def arrivals_within(shape: LoadShape, seconds: float, seed: int = 1) -> list[float]:
    return list(itertools.takewhile(lambda instant_s: instant_s < seconds, arrivals_s(shape, SERVICE_S, seed)))


@pytest.mark.parametrize("pattern", [Pattern.ONOFF, Pattern.POISSON, Pattern.HEAVY])
def test_the_same_seed_gives_the_same_arrivals_and_another_seed_others(pattern: Pattern) -> None:
    shape = LoadShape(pattern)
    assert arrivals_within(shape, 20.0, seed=1) == arrivals_within(shape, 20.0, seed=1)
    assert arrivals_within(shape, 20.0, seed=1) != arrivals_within(shape, 20.0, seed=2)


@pytest.mark.parametrize("pattern", [Pattern.ONOFF, Pattern.POISSON, Pattern.HEAVY])
def test_arrivals_ascend(pattern: Pattern) -> None:
    instants_s = arrivals_within(LoadShape(pattern), 20.0)
    assert instants_s == sorted(instants_s)


@pytest.mark.parametrize(
    ("pattern", "tolerance"), [(Pattern.ONOFF, 0.1), (Pattern.POISSON, 0.05), (Pattern.HEAVY, 0.25)]
)
def test_the_offered_load_is_the_one_asked_for(pattern: Pattern, tolerance: float) -> None:
    shape = LoadShape(pattern, offered_load=0.5, burst_s=0.2, peak_load=1.5)
    seconds = 400.0
    assert len(arrivals_within(shape, seconds)) * SERVICE_S / seconds == pytest.approx(0.5, rel=tolerance)


def test_bursts_of_equal_length_offer_the_peak_load_and_then_nothing() -> None:
    shape = LoadShape(Pattern.ONOFF, offered_load=0.5, burst_s=1.0, peak_load=2.0, burst_variation=0.0)
    instants_s = arrivals_within(shape, 400.0, seed=4)
    gaps_s = [later - earlier for earlier, later in itertools.pairwise(instants_s)]
    pauses_s = [gap_s for gap_s in gaps_s if gap_s > 1.0]
    assert len(pauses_s) == pytest.approx(100, abs=2)
    assert min(pauses_s) >= 3.0
    assert len(instants_s) / 100 == pytest.approx(2.0 / SERVICE_S, rel=0.02)


def test_less_variation_brings_a_short_run_nearer_to_its_load() -> None:
    def error(variation: float) -> float:
        shape = LoadShape(offered_load=0.6, burst_s=1.0, peak_load=1.8, burst_variation=variation)
        loads = [len(arrivals_within(shape, 15.0, seed)) * SERVICE_S / 15.0 for seed in range(30)]
        return sum(abs(load - 0.6) for load in loads)

    assert error(0.3) < 0.6 * error(1.0)


def test_a_trace_is_repeated_from_the_start() -> None:
    shape = LoadShape(Pattern.TRACE, trace_s=(0.0, 1.0, 2.0))
    assert list(itertools.islice(arrivals_s(shape, SERVICE_S, 0), 5)) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_trace_file_may_have_comments_and_further_columns(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("# seconds\n0.5\n0.75,busy\n\n2\n")
    assert read_trace(path) == (0.5, 0.75, 2.0)


@pytest.mark.parametrize("text", ["1.0\n0.5\n", "soon\n", "-1\n", "nan\n", "1" * 200_000])
def test_a_trace_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"trace\.csv"):
        read_trace(path)


def test_a_trace_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_trace(tmp_path / "none")


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        (lambda: LoadShape(offered_load=0.0), "offered load"),
        (lambda: LoadShape(burst_s=0.0), "burst length"),
        (lambda: LoadShape(burst_variation=-1.0), "burst variation"),
        (lambda: LoadShape(offered_load=1.0, peak_load=0.5), "peak load"),
        (lambda: LoadShape(Pattern.TRACE), "trace"),
    ],
)
def test_an_impossible_shape_is_refused_by_name(shape: object, named: str) -> None:
    assert callable(shape)
    with pytest.raises(SettingsError, match=named):
        shape()
