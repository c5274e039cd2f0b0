"""Fashion-MNIST as it is loaded and composed into frames: what is damaged is refused, equal seeds give equal bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import frames
from models.frames import CLASS_NAMES, FRAME_SIDE_PX, DatasetError, compose_jpegs, decode_jpegs, load_garments

IMAGES = np.random.default_rng(4).integers(0, 256, (3, 28, 28)).astype(np.uint8)
LABELS = np.array([9, 0, 4], np.uint8)


@pytest.fixture(autouse=True)
def no_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads compose: a process that other tests have run in, with threads of theirs, is not to be forked."""
    monkeypatch.setattr(frames, "ProcessPoolExecutor", ThreadPoolExecutor)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small published part in the folder of downloads; nothing is installed and nothing can be downloaded."""

    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    contents = {
        "t10k-images-idx3-ubyte": bytes(16) + IMAGES.tobytes(),
        "t10k-labels-idx1-ubyte": bytes(8) + LABELS.tobytes(),
    }
    monkeypatch.setattr(frames, "DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.setattr(frames.urllib.request, "urlopen", no_network)
    monkeypatch.setattr(frames, "SHA256", {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()})
    for name, data in contents.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(data))
    return tmp_path


def test_garments_are_read_with_their_labels(cache: Path) -> None:
    garments = load_garments("t10k", cache)
    assert np.array_equal(garments.images, IMAGES)
    assert garments.labels.tolist() == [9, 0, 4]
    assert [CLASS_NAMES[label] for label in garments.labels] == ["ankle boot", "t-shirt", "coat"]


@pytest.mark.parametrize("damage", ["another content", "cut off", "not packed"])
def test_a_file_whose_checksum_does_not_fit_is_refused_with_its_name_and_the_cure(cache: Path, damage: str) -> None:
    path = cache / "t10k-images-idx3-ubyte.gz"
    packed = path.read_bytes()
    path.write_bytes({"another content": gzip.compress(bytes(800)), "cut off": packed[:-9], "not packed": b"?"}[damage])
    with pytest.raises(DatasetError, match=rf"{path} is not the published file \(SHA-256\). Cure: .*apt install"):
        load_garments("t10k", cache)


def test_a_download_that_is_not_the_published_file_is_refused_and_not_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cache / "t10k-images-idx3-ubyte.gz"
    path.unlink()
    monkeypatch.setattr(frames.urllib.request, "urlopen", lambda *_, **__: io.BytesIO(gzip.compress(bytes(800))))
    with pytest.raises(DatasetError, match=r"http://.* is not the published file"):
        load_garments("t10k", cache)
    assert not path.exists()


def test_what_is_neither_there_nor_can_be_downloaded_is_named(cache: Path) -> None:
    (cache / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        DatasetError, match=r"t10k-labels-idx1-ubyte.gz is not in .* cannot be downloaded \(no network\)"
    ):
        load_garments("t10k", cache)


def test_an_equal_seed_gives_equal_jpegs_whatever_else_is_composed() -> None:
    once = list(compose_jpegs(IMAGES, seed=7, processes=1))
    assert list(compose_jpegs(IMAGES, seed=7, processes=2)) == once
    assert list(compose_jpegs(IMAGES[:2], seed=7, processes=1)) == once[:2]
    assert len(set(once)) == len(IMAGES)


def test_another_seed_gives_other_frames() -> None:
    assert not {*compose_jpegs(IMAGES, seed=7, processes=1)} & {*compose_jpegs(IMAGES, seed=8, processes=1)}


def test_frames_are_colour_pictures_of_the_networks_size_as_a_camera_packs_them() -> None:
    jpegs = list(compose_jpegs(IMAGES, seed=7, processes=1))
    decoded = decode_jpegs(jpegs)
    assert decoded.shape == (3, FRAME_SIDE_PX, FRAME_SIDE_PX, 3)
    assert Image.open(io.BytesIO(jpegs[0])).format == "JPEG"
    assert len({tuple(frame[64, 64]) for frame in decoded}) == 3
    assert all(np.ptp(frame.astype(int), axis=-1).max() > 20 for frame in decoded), "they have colour"
