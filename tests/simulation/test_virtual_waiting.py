"""The operator of the virtual waiting time against simulation, and against what is known of M/M/1."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.simulator.load import job_sizes_s
from benchmarks.simulator.virtual_waiting import VirtualWaiting, relaxation_time_s, stationary

MEAN_S = 0.05
UTILISATION = 0.6
SPACING_S = 0.004
SIZES_S = job_sizes_s("exponential", MEAN_S)
WAITING = VirtualWaiting(UTILISATION / MEAN_S, SIZES_S, SPACING_S, 1.6)
GRID_S = WAITING.grid_s


def simulated_s(backlog_s: float, duration_s: float, runs: int = 40_000) -> NDArray[np.float64]:
    """Backlogs after ``duration_s``, one per run."""
    rng = np.random.default_rng(1)
    jobs = rng.poisson(UTILISATION / MEAN_S * duration_s, runs)
    at_s = np.where(np.arange(jobs.max()) < jobs[:, None], rng.random((runs, jobs.max())) * duration_s, duration_s)
    left_s, now_s = np.full(runs, backlog_s), np.zeros(runs)
    for number, next_s in enumerate(np.sort(at_s, axis=1).T):
        left_s = np.maximum(left_s - (next_s - now_s), 0.0) + np.where(number < jobs, rng.choice(SIZES_S, runs), 0.0)
        now_s = next_s
    return np.maximum(left_s - (duration_s - now_s), 0.0)


@pytest.mark.parametrize("backlog_s", [0.0, 0.04, 0.2])
@pytest.mark.parametrize("duration_s", [0.005, 0.0531, 0.3])
def test_it_expects_what_simulation_finds(backlog_s: float, duration_s: float) -> None:
    found_s = simulated_s(backlog_s, duration_s)
    point = round(backlog_s / SPACING_S)

    expected_s = WAITING.expected_backlogs_s([duration_s])[0, point]
    bent = WAITING.expected(np.minimum(GRID_S, 0.1), duration_s)[point]

    assert expected_s == pytest.approx(found_s.mean(), abs=3.0 * found_s.std() / len(found_s) ** 0.5 + 1e-4)
    assert bent == pytest.approx(np.minimum(found_s, 0.1).mean(), abs=5e-4)


@pytest.mark.parametrize("duration_s", [0.003, 0.1, 0.5])
def test_it_leaves_the_stationary_law_of_mm1_as_it_is(duration_s: float) -> None:
    law = stationary(GRID_S, UTILISATION, MEAN_S)

    for values in (GRID_S, np.minimum(GRID_S, 0.05), np.exp(-GRID_S / 0.1)):
        assert law @ WAITING.expected(values, duration_s) == pytest.approx(law @ values, rel=3e-3)


def test_the_stationary_law_has_the_mean_and_the_atom_of_mm1() -> None:
    law = stationary(GRID_S, UTILISATION, MEAN_S)

    assert law.sum() == pytest.approx(1.0)
    assert law @ GRID_S == pytest.approx(UTILISATION * MEAN_S / (1.0 - UTILISATION), rel=1e-3)
    assert law[0] == pytest.approx(1.0 - UTILISATION, abs=0.01)


def test_every_beginning_ends_in_the_stationary_law() -> None:
    long_s = 8.0 * relaxation_time_s(UTILISATION, MEAN_S)

    expected_s = WAITING.expected_backlogs_s([long_s])[0, [0, 100]]

    assert expected_s == pytest.approx(UTILISATION * MEAN_S / (1.0 - UTILISATION), rel=0.02)


def test_without_jobs_it_drains() -> None:
    idle = VirtualWaiting(0.0, SIZES_S, SPACING_S, 1.0)

    np.testing.assert_allclose(idle.expected(idle.grid_s, 0.1), np.maximum(idle.grid_s - 0.1, 0.0), atol=SPACING_S / 4)


def test_two_durations_one_after_the_other_are_their_sum() -> None:
    at_once = WAITING.expected(GRID_S, 0.16)

    np.testing.assert_allclose(WAITING.expected(WAITING.expected(GRID_S, 0.08), 0.08), at_once, atol=1e-12)
    np.testing.assert_allclose(WAITING.expected(WAITING.expected(GRID_S, 0.07), 0.09), at_once, atol=3e-4)
