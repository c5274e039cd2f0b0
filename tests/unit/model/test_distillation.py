from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.onnx_networks import floats
from twinsplit.errors import ModelError
from twinsplit.model.distillation import HeadSettings, train_head
from twinsplit.model.exit_head import Layer

QUICK = HeadSettings(hidden=16, epochs=1, least_steps=200, dropout=0.0, peak_learning_rate=3e-2)
FEATURES = floats(400, 6, seed=1) * np.array([1, 10, 0.1, 1, 1, 1], np.float32) + np.float32(3)


def logits_of(layers: tuple[Layer, ...], features: NDArray[np.float32]) -> NDArray[np.float32]:
    values = features
    for number, layer in enumerate(layers):
        values = (np.maximum(values, 0) if number else values) @ layer.weight.T + layer.bias
    return values


def teacher(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits (N, 3) of a network that knows the features' true scale."""
    return ((features - 3) / [1, 10, 0.1, 1, 1, 1]).astype(np.float32) @ floats(6, 3, seed=2, scale=2.0)


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [0, 16])
def test_a_head_learns_what_the_teacher_answers(hidden: int) -> None:
    layers = train_head(FEATURES, teacher(FEATURES), None, replace(QUICK, hidden=hidden))
    assert [layer.weight.shape for layer in layers] == ([(16, 6), (3, 16)] if hidden else [(3, 6)])
    assert all(layer.weight.dtype == layer.bias.dtype == np.float32 for layer in layers)
    fresh = floats(400, 6, seed=5) * np.array([1, 10, 0.1, 1, 1, 1], np.float32) + np.float32(3)
    assert (logits_of(layers, fresh).argmax(1) == teacher(fresh).argmax(1)).mean() > 0.9


@pytest.mark.slow
def test_labels_teach_too_and_as_much_as_is_said() -> None:
    labels = (teacher(FEATURES).argmax(1) + 1) % 3
    for share, expected in ((1.0, labels), (0.0, teacher(FEATURES).argmax(1))):
        layers = train_head(FEATURES, teacher(FEATURES), labels, replace(QUICK, label_share=share))
        assert (logits_of(layers, FEATURES).argmax(1) == expected).mean() > 0.9


@pytest.mark.slow
def test_the_seed_decides_and_the_callers_generator_is_left_alone() -> None:
    quick = replace(QUICK, least_steps=5, dropout=0.2)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (
        train_head(FEATURES, teacher(FEATURES), None, replace(quick, seed=seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(first[0].weight, again[0].weight)
    assert not np.array_equal(first[0].weight, other[0].weight)


def test_threads_are_torchs_own_again_afterwards() -> None:
    before = torch.get_num_threads()
    train_head(FEATURES, teacher(FEATURES), None, replace(QUICK, least_steps=2))
    assert torch.get_num_threads() == before


def test_features_that_never_change_do_no_harm() -> None:
    features = np.concatenate([FEATURES, np.full((400, 1), 5.0, np.float32)], axis=1)
    layers = train_head(features, teacher(FEATURES), None, replace(QUICK, least_steps=5))
    assert np.isfinite(logits_of(layers, features)).all()


def test_fewer_frames_than_a_batch_are_taken_at_once() -> None:
    told: list[tuple[int, int]] = []
    quick = replace(QUICK, least_steps=3)
    train_head(FEATURES[:20], teacher(FEATURES)[:20], None, quick, progress=lambda _what, *step: told.append(step))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_training_that_diverges_is_refused() -> None:
    outputs = np.full((400, 3), np.nan, np.float32)
    with pytest.raises(ModelError, match="ended in values that are not finite; try another --seed"):
        train_head(FEATURES, outputs, None, replace(QUICK, least_steps=2))
