import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.model.conftest import encoded, picture
from twinsplit.errors import FrameError, ManifestError
from twinsplit.model.manifest import Cut, Manifest, Preprocessing, Segment, TensorSpec
from twinsplit.model.preprocessing import normalise, picture_shape, prepare, prepare_tensor


def manifest_of(preprocessing: Preprocessing, shape: tuple[int, ...], dtype: Any = "float32") -> Manifest:
    spec = TensorSpec(name="x", shape=shape, dtype=dtype)
    return Manifest(
        schema_version=1,
        name="m",
        version=1,
        task="raw",
        preprocessing=preprocessing,
        segments=(Segment(index=0, file="s.onnx", sha256="0" * 64, macs=1),),
        cuts=(Cut(index=0, tensor=spec), Cut(index=1, tensor=spec)),
    )


def image(shape: tuple[int, ...] = (1, 3, 16, 16), dtype: Any = "float32", **settings: Any) -> Manifest:
    return manifest_of(Preprocessing(kind="image", **settings), shape, dtype)


@pytest.mark.parametrize("size", [(16, 16), (720, 1280), (3, 500), (1, 1)])
@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_a_frame_of_any_size_becomes_the_input(size: tuple[int, int], fit: str) -> None:
    prepared = prepare(encoded(picture(1, *size), "JPEG"), image(fit=fit, resize_to=20 if fit == "crop" else None))
    assert prepared.tensor.shape == (1, 3, 16, 16)
    assert prepared.tensor.dtype == np.float32
    assert prepared.picture is not None
    assert prepared.picture.shape == (16, 16, 3)


def test_each_channel_is_scaled_then_shifted_and_divided() -> None:
    pixels = picture(2)
    manifest = image(scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    tensor = prepare(pixels, manifest).tensor
    expected = (pixels / 255 - np.array([0.1, 0.2, 0.3])) / np.array([0.5, 0.6, 0.7])
    np.testing.assert_allclose(tensor[0], expected.transpose(2, 0, 1), atol=1e-5)


def test_bgr_networks_get_blue_first_and_keep_mean_with_its_channel() -> None:
    pixels = picture(3)
    tensor = prepare(pixels, image(colour="bgr", scale=1.0, mean=(1.0, 2.0, 3.0))).tensor
    expected = pixels[..., ::-1].astype(np.float32) - np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(tensor[0], expected.transpose(2, 0, 1), atol=1e-4)


def test_channels_last_networks_get_them_last() -> None:
    pixels = picture(4)
    tensor = prepare(pixels, image((1, 16, 16, 3), layout="nhwc", scale=1.0)).tensor
    np.testing.assert_array_equal(tensor[0], pixels)
    assert tensor.flags.c_contiguous


def test_grey_networks_get_luminance() -> None:
    prepared = prepare(picture(5), image((1, 1, 16, 16), colour="gray", scale=1.0))
    expected = np.asarray(Image.fromarray(picture(5)).convert("L"), dtype=np.float32)
    np.testing.assert_array_equal(prepared.tensor[0, 0], expected)


def test_integer_inputs_are_rounded_and_clipped() -> None:
    pixels = picture(6)
    tensor = prepare(pixels, image(dtype="uint8", scale=1.4)).tensor
    assert tensor.dtype == np.uint8
    np.testing.assert_array_equal(tensor[0], np.rint(pixels * np.float32(1.4)).clip(0, 255).transpose(2, 0, 1))


def test_cropping_keeps_the_middle_and_its_proportions() -> None:
    # A wide frame whose middle third is white: a crop sees only white, a stretch sees black borders too.
    pixels = np.zeros((30, 90, 3), np.uint8)
    pixels[:, 30:60] = 255
    crop = prepare(pixels, image(fit="crop", scale=1.0)).tensor
    stretched = prepare(pixels, image(fit="resize", scale=1.0)).tensor
    assert crop[..., 2:-2].min() == 255.0
    assert stretched.min() == 0.0


def test_cropping_from_a_larger_resize_drops_the_border() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[30:70, 30:70] = 255
    tight = prepare(pixels, image(fit="crop", resize_to=16, scale=1.0)).tensor
    zoomed = prepare(pixels, image(fit="crop", resize_to=40, scale=1.0)).tensor
    assert tight[0, 0, 0, 0] == 0.0
    assert zoomed[..., 1:-1, 1:-1].min() == 255.0


def test_a_file_and_its_pixels_give_the_same_input() -> None:
    pixels = picture(7, 50, 70)
    np.testing.assert_array_equal(prepare(encoded(pixels), image()).tensor, prepare(pixels, image()).tensor)


def test_transparency_is_dropped_and_grey_frames_become_rgb() -> None:
    rgba = np.dstack([picture(8), np.full((16, 16), 9, np.uint8)])
    np.testing.assert_array_equal(prepare(rgba, image()).tensor, prepare(picture(8), image()).tensor)
    grey = picture(8)[..., 0]
    same = prepare(np.dstack([grey] * 3), image()).tensor
    np.testing.assert_array_equal(prepare(grey, image()).tensor, same)
    np.testing.assert_array_equal(prepare(grey[..., None], image()).tensor, same)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    deep = (picture(9)[..., 0].astype(np.uint16) << 8) + 17
    tensor = prepare(encoded(deep), image((1, 1, 16, 16), colour="gray", scale=1.0)).tensor
    np.testing.assert_array_equal(tensor[0, 0], picture(9)[..., 0])


def test_a_turned_camera_is_turned_back() -> None:
    picture_file = Image.fromarray(picture(10, 16, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture_file.save(buffer, "PNG", exif=exif)
    turned = np.rot90(picture(10, 16, 32), k=-1)
    np.testing.assert_array_equal(
        prepare(buffer.getvalue(), image()).tensor, prepare(np.ascontiguousarray(turned), image()).tensor
    )


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "no picture"),
        (b"hello, this is text", "no picture"),
        (encoded(picture(0, 64, 64), "JPEG")[:400], "cannot be decoded"),
        (encoded(picture(0))[:60], "cannot be decoded"),
        (np.zeros((16, 16, 3), np.float32), "needs uint8"),
        (np.zeros((2, 16, 16, 3), np.uint8), "needs uint8"),
        (np.zeros((16, 16, 2), np.uint8), "needs uint8"),
        (np.zeros((0, 16, 3), np.uint8), "needs uint8"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused_with_what_would(frame: Any, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        prepare(frame, image())


def test_a_huge_frame_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinsplit.model.preprocessing.MAX_FRAME_PIXELS", 100)
    with pytest.raises(FrameError, match="more than 100"):
        prepare(encoded(picture(0)), image())


def test_a_fitted_picture_of_another_size_is_refused() -> None:
    with pytest.raises(FrameError, match="does not fit the input"):
        normalise(picture(0, 16, 15), image())


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 4, 16, 16), (2, 3, 16, 16), (1, 16, 16, 3)])
def test_an_input_that_is_no_picture_is_named(shape: tuple[int, ...]) -> None:
    spec = TensorSpec(name="x", shape=shape, dtype="float32")
    with pytest.raises(ManifestError, match="need"):
        picture_shape(Preprocessing(kind="image"), spec)


def test_a_mean_of_two_channels_is_refused() -> None:
    spec = TensorSpec(name="x", shape=(1, 3, 16, 16), dtype="float32")
    with pytest.raises(ManifestError, match="mean has 2 values"):
        picture_shape(Preprocessing(kind="image", mean=(1.0, 2.0)), spec)


class TestTensors:
    manifest = manifest_of(Preprocessing(), (1, 2, 3))
    values = np.arange(6, dtype=np.float32).reshape(1, 2, 3)

    def test_arrays_raw_bytes_and_npy_files_are_taken(self) -> None:
        buffer = io.BytesIO()
        np.save(buffer, self.values)
        for frame in (self.values, self.values[0], self.values.tobytes(), buffer.getvalue()):
            prepared = prepare(frame, self.manifest)
            np.testing.assert_array_equal(prepared.tensor, self.values)
            assert prepared.picture is None

    @pytest.mark.parametrize(
        ("frame", "reason"),
        [
            (values.astype(np.float64), "float64 does not fit"),
            (values.reshape(1, 3, 2), "shape"),
            (b"12345", "24 bytes"),
            (b"\x93NUMPY\x01\x00broken", "npy"),
            (np.full((1, 2, 3), np.nan, np.float32), "not finite"),
            (np.full((1, 2, 3), -np.inf, np.float32).tobytes(), "not finite"),
        ],
    )
    def test_others_are_refused(self, frame: Any, reason: str) -> None:
        with pytest.raises(FrameError, match=reason):
            prepare(frame, self.manifest)

    def test_pickled_npy_files_are_never_unpacked(self) -> None:
        buffer = io.BytesIO()
        np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(FrameError, match="npy"):
            prepare(buffer.getvalue(), self.manifest)


@pytest.mark.parametrize("raised", [AssertionError("at 0x7f"), IndexError("/usr/lib"), OSError("<_io.BytesIO>")])
def test_whatever_pillow_raises_is_a_refusal_that_repeats_none_of_it(
    raised: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Image.Image) -> Image.Image:
        raise raised

    monkeypatch.setattr("PIL.ImageOps.exif_transpose", fails)
    with pytest.raises(FrameError) as refused:
        prepare(encoded(picture(0)), image())
    assert str(refused.value) == "frame: cannot be decoded; send a complete JPEG or PNG file"


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("colour", ["rgb", "bgr", "gray"])
def test_an_input_that_a_picture_made_gives_that_picture_back(layout: Any, colour: Any) -> None:
    channels = 1 if colour == "gray" else 3
    shape = (1, channels, 16, 16) if layout == "nchw" else (1, 16, 16, channels)
    manifest = image(shape, layout=layout, colour=colour, mean=(0.4,) * channels, std=(0.2,) * channels)
    prepared = prepare(picture(5), manifest)
    again = prepare_tensor(prepared.tensor, manifest)
    assert again.tensor is prepared.tensor
    assert again.picture is not None
    np.testing.assert_array_equal(again.picture, prepared.picture)


def test_an_input_that_no_picture_made_gets_the_nearest_one() -> None:
    manifest = image(scale=1.0)
    tensor = np.full((1, 3, 16, 16), 12.4, np.float32)
    tensor[0, :, 0, 0] = (-7.0, 300.0, 254.6)
    found = prepare_tensor(tensor, manifest).picture
    assert found is not None
    assert found[0, 0].tolist() == [0, 255, 255]
    assert (found[1:] == 12).all()


def test_an_input_of_a_model_without_pictures_stays_one() -> None:
    manifest = manifest_of(Preprocessing(), (1, 4))
    tensor = np.full((1, 4), -1e30, np.float32)
    prepared = prepare_tensor(tensor, manifest)
    assert (prepared.tensor is tensor, prepared.picture) == (True, None)
    with pytest.raises(FrameError, match="not finite"):
        prepare_tensor(np.full((1, 4), np.nan, np.float32), manifest)


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (np.zeros((1, 3, 16, 16)), "float64"),
        (np.zeros((3, 16, 16), np.float32), "is not the input"),
        (np.full((1, 3, 16, 16), np.inf, np.float32), "not finite"),
    ],
)
def test_a_tensor_that_cannot_be_the_input_is_refused(tensor: Any, says: str) -> None:
    with pytest.raises(FrameError, match=says):
        prepare_tensor(tensor, image())
