from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from tests.onnx_networks import floats
from twinsplit.errors import StorageError, UnsupportedModelError
from twinsplit.model.exit_head import MOST_FEATURES, Layer, write_head, write_pooling
from twinsplit.model.manifest import DTypeName, TensorSpec


def spec_of(shape: tuple[int, ...], dtype: DTypeName = "float32") -> TensorSpec:
    return TensorSpec(name="tensor", shape=shape, dtype=dtype)


def run(file: Path, tensor: NDArray[Any]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"tensor": tensor})
    return np.asarray(output)


def pooled(tensor: NDArray[Any], folder: Path) -> NDArray[np.float32]:
    """Features (F,) of ``tensor``."""
    write_pooling(spec_of(tensor.shape, tensor.dtype.name), folder / "pooling.onnx")
    features = run(folder / "pooling.onnx", tensor)
    assert features.dtype == np.float32
    assert features.shape[0] == 1
    return features[0]


def test_pictures_of_channels_are_pooled_over_a_grid(tmp_path: Path) -> None:
    tensor = floats(1, 16, 16, 16)
    windows = tensor[0].reshape(16, 8, 2, 8, 2)
    expected = np.concatenate([windows.mean((2, 4)).ravel(), windows.max((2, 4)).ravel()])
    np.testing.assert_allclose(pooled(tensor, tmp_path), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((1, 64, 56, 56), (4, 4)),
        ((1, 256, 14, 14), (2, 2)),
        ((1, 2048, 7, 7), (1, 1)),
        ((1, 16, 13, 9), (8, 8)),
        ((1, 30, 5, 40), (4, 4)),
        ((1, 16, 3, 40), (3, 8)),
    ],
)
def test_more_channels_make_a_coarser_grid(tmp_path: Path, shape: tuple[int, ...], grid: tuple[int, int]) -> None:
    features = pooled(floats(*shape), tmp_path)
    assert len(features) == 2 * shape[1] * grid[0] * grid[1]
    assert len(features) <= max(MOST_FEATURES, 2 * shape[1])


@pytest.mark.parametrize("size", [(7, 7), (13, 9), (14, 5)])
def test_windows_leave_nothing_out(tmp_path: Path, size: tuple[int, int]) -> None:
    write_pooling(spec_of((1, 128, *size)), tmp_path / "pooling.onnx")
    for row in range(size[0]):
        for column in (0, size[1] - 1):
            tensor = np.zeros((1, 128, *size), np.float32)
            tensor[0, 0, row, column] = 1.0
            assert run(tmp_path / "pooling.onnx", tensor).max() == 1.0


def test_small_pictures_and_vectors_stay_as_they_are(tmp_path: Path) -> None:
    for shape in ((1, 8, 4, 4), (1, 40)):
        tensor = floats(*shape)
        np.testing.assert_array_equal(pooled(tensor, tmp_path), tensor.ravel())


def test_tokens_are_pooled_both_ways(tmp_path: Path) -> None:
    tensor = floats(1, 6, 5)
    parts = [tensor[0].mean(0), tensor[0].max(0), tensor[0].mean(1), tensor[0].max(1)]
    np.testing.assert_allclose(pooled(tensor, tmp_path), np.concatenate(parts), atol=1e-6)


def test_volumes_are_pooled_by_channel(tmp_path: Path) -> None:
    tensor = floats(1, 3, 2, 4, 4)
    flat = tensor[0].reshape(3, -1)
    np.testing.assert_allclose(pooled(tensor, tmp_path), [*flat.mean(1), *flat.max(1)], atol=1e-6)


def test_other_types_are_read_as_floats(tmp_path: Path) -> None:
    for dtype in (np.float16, np.float64, np.int32):
        tensor = (10 * floats(1, 9)).astype(dtype)
        np.testing.assert_allclose(pooled(tensor, tmp_path), tensor[0], rtol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (2, 8, 4, 4)])
def test_tensors_without_a_batch_of_one_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedModelError, match=r"starts with a batch of 1; choose another cut \(--after\)"):
        write_pooling(spec_of(shape), tmp_path / "pooling.onnx")


@pytest.mark.parametrize("widths", [[3], [6, 3]])
def test_a_head_is_its_pooling_and_its_layers(tmp_path: Path, widths: list[int]) -> None:
    tensor = floats(1, 4, 4, 4)
    layers, inputs = [], 64
    for seed, width in enumerate(widths):
        layers.append(Layer(floats(width, inputs, seed=seed), floats(width, seed=9 + seed)))
        inputs = width
    write_head(spec_of((1, 4, 4, 4)), layers, tmp_path / "exit.onnx")
    expected = layers[0].weight @ tensor.ravel() + layers[0].bias
    for layer in layers[1:]:
        expected = layer.weight @ np.maximum(expected, 0) + layer.bias
    logits = run(tmp_path / "exit.onnx", tensor)
    assert logits.shape == (1, 3)
    np.testing.assert_allclose(logits[0], expected, rtol=1e-4, atol=1e-5)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere/pooling\.onnx: No such file"):
        write_pooling(spec_of((1, 4)), tmp_path / "nowhere" / "pooling.onnx")
