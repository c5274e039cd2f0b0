"""Small model folders, built once."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.onnx_networks import saved, small_classifier, small_exit
from twinsplit.model.build import CutSettings, build_model
from twinsplit.model.frames import LabelledFrames
from twinsplit.model.manifest import Preprocessing

CLASSES = ("ant", "bee", "cat", "dog", "elk")
PICTURES = Preprocessing(kind="image", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def picture(seed: int, height: int = 16, width: int = 16) -> NDArray[np.uint8]:
    """A made-up picture (height, width, 3): a coarse random pattern."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    """``pixels`` as a picture file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def labelled(count: int, seed: int = 0) -> LabelledFrames:
    """Made-up frames with made-up labels."""
    labels = np.random.default_rng(seed).integers(0, 5, count)
    return LabelledFrames([picture(seed + i) for i in range(count)], labels.tolist())


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small classifier, uncut."""
    return saved(small_classifier(), tmp_path_factory.mktemp("whole") / "small.onnx")


@pytest.fixture(scope="session")
def exit_files(tmp_path_factory: pytest.TempPathFactory) -> dict[int | str, Path]:
    """Exits on cuts 1 and 2 of the small classifier."""
    folder = tmp_path_factory.mktemp("exits")
    return {
        1: saved(small_exit(seed=7), folder / "first.onnx"),
        "a2": saved(small_exit(seed=8), folder / "second.onnx"),
    }


@pytest.fixture(scope="session")
def folder(whole: Path, exit_files: dict[int | str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small classifier cut at a1, a2 and a3, with two exits, measured and calibrated on made-up labels."""
    out = tmp_path_factory.mktemp("models") / "small"
    build_model(
        whole,
        out,
        cutting=CutSettings(cuts=["a1", "a2", "a3"]),
        exits=exit_files,
        classes=CLASSES,
        preprocessing=PICTURES,
        test=labelled(40),
        calibration=labelled(60, seed=1000),
        threads=1,
    )
    return out


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Callable[[], Path]:
    """Makes a copy of the small model folder that a test may damage."""

    def copy() -> Path:
        target = tmp_path / "copy"
        target.mkdir()
        for file in folder.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        return target

    return copy
