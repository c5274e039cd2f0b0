"""A frame of any size becomes the input: one function for device and edge (design section 4).

The way is frame -> *fitted picture* (uint8, the input's height and width) -> input tensor. An input payload carries
the fitted picture as PNG or JPEG, so the edge only has to run the second half, :func:`normalise`.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from twinsplit.errors import FrameError, ManifestError
from twinsplit.model.manifest import Manifest, Preprocessing, TensorSpec

Frame: TypeAlias = bytes | NDArray[Any]
"""An encoded picture (JPEG, PNG, ...), an RGB or grey uint8 array, or for ``kind="none"`` a tensor or its raw bytes."""

MAX_FRAME_PIXELS = 100_000_000
"""Frames of more pixels are refused before they are decoded."""
PICTURE_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF", "GIF")
"""Pillow knows more, among them some that it hands to other programs."""

_NPY_MAGIC = b"\x93NUMPY"
_DAMAGED = "frame: cannot be decoded; send a complete JPEG or PNG file"
_NOT_FINITE = "frame: a tensor with values that are not finite; send the input as the model takes it"
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True, slots=True)
class PreparedInput:
    """What a frame became."""

    picture: NDArray[np.uint8] | None
    """(H, W, C) fitted picture, RGB order (C = 3) or grey (C = 1); ``None`` where frames are tensors."""
    tensor: NDArray[Any]
    """The model's input: shape and dtype of cut 0."""


def prepare(frame: Frame, manifest: Manifest) -> PreparedInput:
    """Bring ``frame`` to the model's input.

    Raises:
        FrameError: it cannot be decoded, its type, rank or size does not fit, or an element is NaN or infinite; the
            text says what does.
    """
    spec = manifest.cuts[0].tensor
    if manifest.preprocessing.kind == "none":
        return PreparedInput(picture=None, tensor=_as_tensor(frame, spec))
    picture = fit_picture(frame, manifest.preprocessing, spec)
    return PreparedInput(picture=picture, tensor=_normalised(picture, manifest.preprocessing, spec))


def prepare_tensor(tensor: NDArray[Any], manifest: Manifest) -> PreparedInput:
    """The model's input as it is, with the picture that comes nearest to it, which may be sent in its place.

    Raises:
        FrameError: the type or shape is not the input's, or an element is NaN or infinite.
    """
    spec = manifest.cuts[0].tensor
    if tensor.dtype != np.dtype(spec.dtype) or tensor.shape != spec.shape:
        raise FrameError(
            f"frame: {tensor.dtype} {tensor.shape} is not the input, which needs {spec.dtype} {spec.shape}"
        )
    if manifest.preprocessing.kind == "none":
        return PreparedInput(picture=None, tensor=_finite(tensor))
    return PreparedInput(picture=_nearest_picture(tensor, manifest.preprocessing, spec), tensor=tensor)


def normalise(picture: NDArray[np.uint8], manifest: Manifest) -> NDArray[Any]:
    """Input tensor of a fitted picture (H, W, C) uint8: colour order, scale, mean, std, layout and dtype.

    Raises:
        FrameError: the picture does not have the input's height, width and channels.
    """
    spec = manifest.cuts[0].tensor
    return _normalised(picture, manifest.preprocessing, spec)


def picture_shape(preprocessing: Preprocessing, spec: TensorSpec) -> tuple[int, int, int]:
    """(H, W, C) of the fitted picture for the input ``spec``.

    Raises:
        ManifestError: the input is not a batch of one picture in the stated layout.
    """
    channels = 1 if preprocessing.colour == "gray" else 3
    if len(spec.shape) == 4 and spec.shape[0] == 1:
        if preprocessing.layout == "nchw":
            _, found, height, width = spec.shape
        else:
            _, height, width, found = spec.shape
        if found == channels:
            for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
                if len(values) not in (0, 1, channels):
                    raise ManifestError(f"preprocessing: {name} has {len(values)} values, needs 1 or {channels}")
            return height, width, channels
    wanted = f"(1, {channels}, H, W)" if preprocessing.layout == "nchw" else f"(1, H, W, {channels})"
    raise ManifestError(
        f"preprocessing: input '{spec.name}' has shape {spec.shape}, but {preprocessing.colour} pictures in "
        f"{preprocessing.layout} need {wanted}; choose another --preprocess for it"
    )


def levels_left(preprocessing: Preprocessing, spec: TensorSpec) -> int:
    """How many of a pixel's 256 values the input ``spec`` tells apart, in the channel where they are fewest.

    Raises:
        ManifestError: an input of whole numbers that is no picture.
    """
    dtype = np.dtype(spec.dtype)
    if dtype.kind not in "iu":
        return 256
    limits = np.iinfo(dtype)
    gain, offset = _gain_and_offset(preprocessing, picture_shape(preprocessing, spec)[2])
    levels = np.clip(np.rint(np.arange(256)[:, None] * gain + offset), limits.min, limits.max)  # (256, C)
    return min(len(np.unique(channel)) for channel in levels.T)


def fit_picture(frame: Frame, preprocessing: Preprocessing, spec: TensorSpec) -> NDArray[np.uint8]:
    """Decode, convert to RGB or grey and fit to the input's size: (H, W, C) uint8.

    Raises:
        FrameError: see :func:`prepare`.
    """
    height, width, channels = picture_shape(preprocessing, spec)
    mode = "L" if channels == 1 else "RGB"
    image = _image_of_array(frame) if isinstance(frame, np.ndarray) else _decoded(frame)
    try:
        image = _converted(image, mode)
        fitted = _fitted(image, height, width, preprocessing)
    except FrameError:
        raise
    except Exception:  # noqa: BLE001 - Pillow also asserts, and unpacks what is not there
        raise FrameError(_DAMAGED) from None
    picture = np.asarray(fitted)
    return picture[..., None] if picture.ndim == 2 else picture


def _fitted(image: Image.Image, height: int, width: int, preprocessing: Preprocessing) -> Image.Image:
    if preprocessing.fit == "resize":
        return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)
    if preprocessing.resize_to is None:
        scale = max(width / image.width, height / image.height)
    else:
        scale = max(preprocessing.resize_to / min(image.size), width / image.width, height / image.height)
    box_width, box_height = width / scale, height / scale
    left, top = (image.width - box_width) / 2, (image.height - box_height) / 2
    # Cropping inside of the resize spares resampling what would be cut off.
    box = (max(left, 0.0), max(top, 0.0), min(left + box_width, image.width), min(top + box_height, image.height))
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)


def _normalised(picture: NDArray[np.uint8], preprocessing: Preprocessing, spec: TensorSpec) -> NDArray[Any]:
    shape = picture_shape(preprocessing, spec)
    if picture.shape != shape or picture.dtype != np.uint8:
        raise FrameError(f"picture: {picture.dtype} {picture.shape} does not fit the input, which needs uint8 {shape}")
    channels = shape[2]
    gain, offset = _gain_and_offset(preprocessing, channels)
    planes = np.empty((channels, *shape[:2]), dtype=np.float32)  # (C, H, W)
    for channel in range(channels):
        source = channels - 1 - channel if preprocessing.colour == "bgr" else channel
        np.multiply(picture[..., source], gain[channel], out=planes[channel], casting="unsafe")
        planes[channel] += offset[channel]
    tensor = planes[None] if preprocessing.layout == "nchw" else np.ascontiguousarray(planes.transpose(1, 2, 0))[None]
    dtype = np.dtype(spec.dtype)
    if dtype == tensor.dtype:
        return tensor
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        tensor = np.clip(np.rint(tensor), limits.min, limits.max)
    return tensor.astype(dtype)


def _gain_and_offset(preprocessing: Preprocessing, channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What makes values of the input of values of the picture, by channel in the picture's order."""
    mean = np.broadcast_to(np.asarray(preprocessing.mean or (0.0,)), channels)
    std = np.broadcast_to(np.asarray(preprocessing.std or (1.0,)), channels)
    return (preprocessing.scale / std).astype(np.float32), (-mean / std).astype(np.float32)


def _nearest_picture(tensor: NDArray[Any], preprocessing: Preprocessing, spec: TensorSpec) -> NDArray[np.uint8]:
    """:func:`_normalised` turned round: exact for what that made of a picture, else rounded and clipped."""
    shape = picture_shape(preprocessing, spec)
    channels = shape[2]
    gain, offset = _gain_and_offset(preprocessing, channels)
    planes = tensor[0] if preprocessing.layout == "nchw" else tensor[0].transpose(2, 0, 1)
    picture = np.empty(shape, dtype=np.uint8)
    for channel in range(channels):
        source = channels - 1 - channel if preprocessing.colour == "bgr" else channel
        levels = (planes[channel].astype(np.float32) - offset[channel]) / gain[channel]
        if not np.isfinite(levels).all():
            raise FrameError(_NOT_FINITE)
        picture[..., source] = np.clip(np.rint(levels), 0.0, 255.0)
    return picture


def _decoded(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=PICTURE_FORMATS)
        if image.width * image.height > MAX_FRAME_PIXELS:
            raise FrameError(
                f"frame: {image.width}x{image.height} pixels are more than {MAX_FRAME_PIXELS}; send a smaller picture"
            )
        return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        raise FrameError(f"frame: {len(data)} bytes are no picture that can be decoded; send JPEG or PNG") from None
    except FrameError:
        raise
    except Exception:  # noqa: BLE001 - Pillow also asserts, and unpacks what is not there
        raise FrameError(_DAMAGED) from None


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image
    if image.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion clips instead of scaling.
        return Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).clip(0, 255).astype(np.uint8)).convert(mode)
    if image.mode == "F":
        raise FrameError("frame: a picture of floating-point pixels; send 8 or 16 bits per channel")
    return image.convert(mode)


def _image_of_array(frame: NDArray[Any]) -> Image.Image:
    wanted = "needs uint8 (H, W), (H, W, 1), (H, W, 3) in RGB order or (H, W, 4)"
    if frame.dtype != np.uint8:
        raise FrameError(f"frame: array of {frame.dtype} does not fit, {wanted}")
    if frame.ndim == 3 and frame.shape[2] == 1:
        frame = frame[..., 0]
    if 0 in frame.shape or not (frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] in (3, 4))):
        raise FrameError(f"frame: array of shape {frame.shape} does not fit, {wanted}")
    return Image.fromarray(np.ascontiguousarray(frame))


def _array_of_npy(data: bytes) -> NDArray[Any]:
    """The array in a ``.npy`` file; its header is compared with the bytes that are there before memory is taken."""
    stream = io.BytesIO(data)
    try:
        reader = _NPY_HEADERS.get(np.lib.format.read_magic(stream))
        if reader is None:
            raise FrameError("frame: a .npy file of a version that is not read; write version 1.0 or 2.0")
        shape, _, dtype = reader(stream)
        size = math.prod(shape) * dtype.itemsize
        if size != len(data) - stream.tell():
            raise FrameError(f"frame: the .npy header tells of {size} bytes, {len(data) - stream.tell()} follow it")
        stream.seek(0)
        array: NDArray[Any] = np.load(stream, allow_pickle=False)
    except FrameError:
        raise
    except Exception:  # noqa: BLE001 - the header is read as an expression of Python, which fails in its own ways
        raise FrameError("frame: not a complete .npy file; send what numpy.save writes, of numbers only") from None
    return array


def _as_tensor(frame: Frame, spec: TensorSpec) -> NDArray[Any]:
    dtype = np.dtype(spec.dtype)
    if isinstance(frame, np.ndarray):
        array = frame
    elif frame.startswith(_NPY_MAGIC):
        array = _array_of_npy(frame)
    else:
        size = int(np.prod(spec.shape)) * dtype.itemsize
        if len(frame) != size:
            raise FrameError(
                f"frame: {len(frame)} bytes do not fit the input, which needs {size} bytes of {spec.dtype} "
                f"{spec.shape} (this model has no picture preprocessing; see twinsplit model split --preprocess)"
            )
        array = np.frombuffer(frame, dtype=dtype.newbyteorder("<")).astype(dtype).reshape(spec.shape)
    if array.dtype != dtype:
        raise FrameError(f"frame: tensor of {array.dtype} does not fit the input, which needs {spec.dtype}")
    if array.shape == spec.shape[1:]:
        array = array[None]
    if array.shape != spec.shape:
        raise FrameError(f"frame: tensor of shape {array.shape} does not fit the input, which needs {spec.shape}")
    return _finite(np.ascontiguousarray(array))


def _finite(tensor: NDArray[Any]) -> NDArray[Any]:
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        raise FrameError(_NOT_FINITE)
    return tensor
