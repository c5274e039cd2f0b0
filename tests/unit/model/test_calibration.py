import numpy as np
import pytest

from twinsplit.model.calibration import Observations, calibrate, quantile_edges, rates_by_bin


def observations(count: int = 8000, seed: int = 0) -> Observations:
    """Two exits whose chance of being right is their confidence; the second knows more, the whole network most."""
    rng = np.random.default_rng(seed)
    ease = rng.uniform(0.2, 1.0, count)
    first = np.clip(ease + rng.normal(0, 0.1, count), 0.05, 1.0)
    second = np.clip(ease + rng.normal(0, 0.05, count), 0.05, 1.0)
    confidences = np.stack([first, second], axis=1)
    is_right = rng.uniform(size=(count, 2)) < confidences
    return Observations(confidences, is_right, rng.uniform(size=count) < 0.5 + 0.5 * ease, is_right)


def test_probabilities_follow_confidence() -> None:
    seen = observations()
    for e, part in enumerate(calibrate(seen, 8)):
        edges = [0.0, *part.bin_edges, 1.01]
        for b in range(8):
            inside = (seen.confidences[:, e] >= edges[b]) & (seen.confidences[:, e] < edges[b + 1])
            assert part.p_right[b] == pytest.approx(seen.confidences[inside, e].mean(), abs=0.05)


def test_probabilities_never_fall_with_confidence() -> None:
    # Few samples: the raw rates do fall.
    seen = observations(60, seed=3)
    for part in calibrate(seen, 8):
        assert list(part.p_right) == sorted(part.p_right)
        assert list(part.p_whole_right) == sorted(part.p_whole_right)


def test_pooling_keeps_the_mean() -> None:
    places = np.repeat([0, 1, 2], 100)
    is_right = np.concatenate([np.arange(100) < 80, np.arange(100) < 40, np.arange(100) < 90])
    rates = rates_by_bin(places, is_right, 3)
    assert rates[0] == rates[1]
    assert rates[0] == pytest.approx(0.6, abs=0.01)
    assert rates[2] == pytest.approx(0.9, abs=0.01)


def test_quantile_bins_are_equally_full() -> None:
    for part in calibrate(observations(), 8):
        assert part.prior == pytest.approx([1 / 8] * 8, abs=0.01)


def test_rows_of_transitions_are_distributions_and_fit_the_priors() -> None:
    first, second = calibrate(observations(), 8)
    assert set(first.transitions) == {1}
    assert second.transitions == {}
    matrix = np.array(first.transitions[1])
    assert matrix.shape == (8, 8)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-4)
    assert (matrix > 0).all()
    # Law of total probability: what the first exit expects of the second is what the second shows.
    np.testing.assert_allclose(np.array(first.prior) @ matrix, second.prior, atol=0.01)
    assert matrix[7, 7] > matrix[0, 7]


def test_one_bin_that_no_sample_fell_into_has_the_overall_rate() -> None:
    # All confidences are 1: every quantile is the same edge, and all samples fall into the last bin.
    is_right = np.arange(50)[:, None] < 40
    seen = Observations(np.ones((50, 1)), is_right, np.ones(50, dtype=bool), is_right)
    (part,) = calibrate(seen, 4)
    assert part.bin_edges == (1.0, 1.0, 1.0)
    assert part.p_right == pytest.approx((0.8,) * 4)
    assert part.p_whole_right == (1.0,) * 4
    assert part.prior[3] > 0.95
    assert all(p > 0 for p in part.prior)


def test_edges_ascend() -> None:
    edges = quantile_edges(np.random.default_rng(0).beta(9, 1, 1000), 8)
    assert list(edges) == sorted(edges)
    assert len(edges) == 7
