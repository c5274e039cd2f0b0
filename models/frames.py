"""Camera-like frames: Fashion-MNIST garments composed over textured backgrounds, as JPEG of quality 95.

Every frame is a function of (seed, index, garment) alone, so a set is the same however many processes compose it.
"""

import gzip
import hashlib
import io
import urllib.request
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

FRAME_SIDE_PX = 128
GARMENT_SIDE_PX = (52, 112)  # smallest and largest side of the square a garment fills
CAMERA_JPEG_QUALITY = 95
CLASS_NAMES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
APT_LINE = "apt install dataset-fashion-mnist"
DOWNLOAD_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
SHA256 = {  # of the unpacked files: Debian's package packs the same content differently
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]


class DatasetError(RuntimeError):
    """Fashion-MNIST is neither installed nor downloadable, or a file of it is damaged."""


class Garments(NamedTuple):
    """Grey garments on black, as published."""

    images: ByteArray  # (N, 28, 28)
    labels: npt.NDArray[np.int64]  # (N,) index into CLASS_NAMES


def load_garments(part: str, cache: Path) -> Garments:
    """Fashion-MNIST's `part`, "train" (60,000) or "t10k" (10,000): Debian's package, else a download kept in `cache`.

    Raises DatasetError, which names the cure, when neither is there or a checksum does not fit.
    """
    images = np.frombuffer(_read(f"{part}-images-idx3-ubyte", cache), np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(_read(f"{part}-labels-idx1-ubyte", cache), np.uint8, offset=8).astype(np.int64)
    return Garments(images, labels)


def compose_jpegs(images: ByteArray, seed: int, processes: int | None = None) -> Iterable[bytes]:
    """One JPEG of a 128x128 RGB frame per garment of `images` (N, 28, 28), in order; deterministic for `seed`."""
    compose = partial(_compose_jpeg, seed)
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(compose, range(len(images)), images, chunksize=256)


def decode_jpegs(jpegs: Sequence[bytes]) -> ByteArray:
    """Frames (N, 128, 128, 3) uint8 RGB of JPEG files that all have the frame's size."""
    frames = np.empty((len(jpegs), FRAME_SIDE_PX, FRAME_SIDE_PX, 3), np.uint8)

    def decode(index: int) -> None:
        frames[index] = np.asarray(Image.open(io.BytesIO(jpegs[index])).convert("RGB"))

    with ThreadPoolExecutor() as pool:  # Pillow releases the interpreter while it decodes
        list(pool.map(decode, range(len(jpegs))))
    return frames


def encode_jpeg(frame: ByteArray, quality: int = CAMERA_JPEG_QUALITY) -> bytes:
    """`frame` (H, W, 3) uint8 RGB as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def compose_frame(garment: ByteArray, rng: np.random.Generator) -> ByteArray:
    """`garment` (28, 28) at a random place, scale and colour over a random background: (128, 128, 3) uint8 RGB."""
    frame, tone = _background(rng)
    side = int(rng.integers(GARMENT_SIDE_PX[0], GARMENT_SIDE_PX[1] + 1))
    top, left = rng.integers(0, FRAME_SIDE_PX - side + 1, 2)
    if rng.random() < 0.5:
        garment = garment[:, ::-1]
    grey = np.asarray(Image.fromarray(garment).resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
    opacity = np.clip(grey * 6 - 0.3, 0, 1)[..., None]  # (side, side, 1): black is no cloth
    cloth = (0.2 + 0.8 * grey[..., None]) * _colour_apart_from(tone, rng)
    place = frame[top : top + side, left : left + side]  # a view
    place += opacity * (cloth - place)
    frame *= rng.uniform(0.75, 1.1)  # exposure
    picture = Image.fromarray(_to_bytes(frame)).filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.8)))
    sensor_noise = rng.standard_normal(frame.shape, np.float32) * np.float32(rng.uniform(0.004, 0.016))
    return _to_bytes(np.asarray(picture, np.float32) / 255 + sensor_noise)


def _compose_jpeg(seed: int, index: int, garment: ByteArray) -> bytes:
    return encode_jpeg(compose_frame(garment, np.random.default_rng((seed, index))))


def _to_bytes(frame: FloatArray) -> ByteArray:
    return (np.clip(frame, 0, 1) * 255 + 0.5).astype(np.uint8)


def _background(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """A textured frame (128, 128, 3) in 0..1 and its mean colour (3,): two colours mixed by one of four patterns."""
    pattern = PATTERNS[rng.integers(len(PATTERNS))](rng)
    mix = np.clip(pattern + rng.uniform(0.05, 0.25) * (_clouds(rng) - 0.5), 0, 1)[..., None]
    first = rng.random(3, np.float32)
    second = np.clip(first + rng.uniform(-0.5, 0.5, 3), 0, 1).astype(np.float32)
    frame: FloatArray = (first + mix * (second - first)).astype(np.float32)
    return frame, frame.mean((0, 1))


def _colour_apart_from(tone: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A colour (3,) that a person can tell from `tone`."""
    while True:
        colour = rng.uniform(0.1, 1, 3).astype(np.float32)
        if np.abs(colour - tone).max() > 0.3:
            return colour


def _slope(rng: np.random.Generator) -> FloatArray:
    """Distance along a random direction, in frames: (128, 128), 0 in the middle."""
    angle_rad = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-0.5, 0.5, FRAME_SIDE_PX, dtype=np.float32)
    return np.asarray(axis[:, None] * np.sin(angle_rad) + axis * np.cos(angle_rad), np.float32)


def _gradient(rng: np.random.Generator) -> FloatArray:
    return _slope(rng) + np.float32(0.5)


def _clouds(rng: np.random.Generator) -> FloatArray:
    """Octaves of smoothed noise around 0.5: (128, 128)."""
    total = np.full((FRAME_SIDE_PX, FRAME_SIDE_PX), 0.5, np.float32)
    for cells, weight in ((4, 0.6), (8, 0.35), (16, 0.2), (32, 0.12), (64, 0.08)):
        grid = Image.fromarray(rng.random((cells, cells), np.float32) - np.float32(0.5))
        total += weight * np.asarray(grid.resize(total.shape, Image.Resampling.BILINEAR))
    return total


def _stripes(rng: np.random.Generator) -> FloatArray:
    """Bands between 0 and 1, with edges from soft to sharp: (128, 128)."""
    periods, phase_rad, sharpness = rng.uniform(2, 12), rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 4)
    bands = sharpness * np.sin(2 * np.pi * periods * _slope(rng) + phase_rad)
    return np.asarray(np.clip(0.5 + 0.5 * bands, 0, 1), np.float32)


def _checks(rng: np.random.Generator) -> FloatArray:
    first, second = _stripes(rng), _stripes(rng)
    return np.asarray(first + second - 2 * first * second, np.float32)


PATTERNS = (_gradient, _clouds, _stripes, _checks)


def _read(name: str, cache: Path) -> bytes:
    """The checked, unpacked content of one of the four published files."""
    packed_name = f"{name}.gz"
    found = [path for path in (DEBIAN_FOLDER / packed_name, cache / packed_name) if path.is_file()]
    packed = found[0].read_bytes() if found else _download(packed_name, cache)
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError):
        content = b""
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        source = found[0] if found else DOWNLOAD_URL + packed_name
        raise DatasetError(f"{source} is not the published file (SHA-256). Cure: remove it and `{APT_LINE}`.")
    if not found:
        cache.mkdir(parents=True, exist_ok=True)
        (cache / packed_name).write_bytes(packed)
    return content


def _download(packed_name: str, cache: Path) -> bytes:
    try:
        with urllib.request.urlopen(DOWNLOAD_URL + packed_name, timeout=60) as response:  # nosec B310 # a constant, http
            packed: bytes = response.read()
    except OSError as error:
        raise DatasetError(
            f"Fashion-MNIST's {packed_name} is not in {DEBIAN_FOLDER} and cannot be downloaded ({error}). "
            f"Cure: `{APT_LINE}`, or put the file from {DOWNLOAD_URL} into {cache}."
        ) from error
    return packed
