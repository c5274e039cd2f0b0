"""Small pictures for the console: how many, how large, and never where frames must stay."""

import io

import numpy as np
import pytest
from PIL import Image

from device.service import start_device
from device.settings import DeviceSettings
from device.thumbnails import LONGEST_SIDE, Thumbnails, small_jpeg
from twinsplit.errors import SettingsError
from twinsplit.transport.limits import THUMBNAIL_BYTES

NOISE = np.random.default_rng(1).integers(0, 256, (480, 640, 3), dtype=np.uint8)
GREY = np.full((64, 32, 1), 128, dtype=np.uint8)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("picture", [NOISE, NOISE[:64, :64], GREY], ids=["noise", "small noise", "grey"])
def test_a_thumbnail_is_a_small_jpeg_whatever_it_shows(picture: np.ndarray) -> None:
    data = small_jpeg(picture)
    assert data is not None
    assert 0 < len(data) <= THUMBNAIL_BYTES
    image = opened(data)
    assert image.format == "JPEG"
    assert max(image.size) <= LONGEST_SIDE
    assert image.width / image.height == pytest.approx(picture.shape[1] / picture.shape[0], rel=0.05)


def test_at_most_one_is_made_a_second() -> None:
    thumbnails = Thumbnails()
    made = [thumbnails.of(GREY, tenth / 10) is not None for tenth in range(31)]
    assert [index for index, is_made in enumerate(made) if is_made] == [0, 10, 20, 30]


def test_a_tensor_has_none_and_takes_no_turn() -> None:
    thumbnails = Thumbnails()
    assert thumbnails.of(None, 0.0) is None
    assert thumbnails.of(GREY, 0.0) is not None


async def test_they_are_refused_where_no_frame_may_leave() -> None:
    settings = DeviceSettings(model="models/alexnet-fashion/1", thumbnails=True, payloads="tensors-only")
    with pytest.raises(SettingsError, match="tensors-only"):
        await start_device(settings)
