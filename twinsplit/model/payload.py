"""Payloads: a boundary tensor or the fitted picture put into one of its cut's representations, and back.

Tensors go through :mod:`twinsplit.tensor`; pictures (PNG, JPEG) are handled here, since they need Pillow and the
manifest's preprocessing. What a device encodes names a representation by its position in the manifest; what an edge
decodes is checked against the cut before anything is allocated.
"""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twinsplit.errors import OversizeError, TensorError
from twinsplit.model.manifest import Cut, Manifest, RepresentationEntry
from twinsplit.model.preprocessing import normalise, picture_shape
from twinsplit.tensor import EncodedTensor, TensorHeader, decode, encode

PICTURE_KINDS = frozenset({"png", "jpeg"})
_PICTURE_OVERHEAD_BYTES = 4096


def encode_payload(
    manifest: Manifest,
    cut: int,
    representation_index: int,
    tensor: NDArray[Any],
    picture: NDArray[np.uint8] | None = None,
) -> EncodedTensor:
    """Put the tensor of ``cut``, or for PNG and JPEG the fitted ``picture``, into a representation.

    Raises:
        TensorError: the tensor is not the cut's, the position is not one of the cut's representations, or the
            representation needs a picture and there is none.
    """
    entries = manifest.cuts[cut].representations
    if not 0 <= representation_index < len(entries):
        raise TensorError(f"cut {cut} has {len(entries)} representations, none at position {representation_index}")
    return encode_as(manifest, cut, entries[representation_index], tensor, picture)


def encode_as(
    manifest: Manifest,
    cut: int,
    entry: RepresentationEntry,
    tensor: NDArray[Any],
    picture: NDArray[np.uint8] | None = None,
) -> EncodedTensor:
    """:func:`encode_payload` with the representation itself in place of its position.

    Raises:
        TensorError: see :func:`encode_payload`.
    """
    spec = manifest.cuts[cut].tensor
    if entry.kind in PICTURE_KINDS:
        if picture is None:
            raise TensorError(f"cut {cut} as {entry.name} needs the fitted picture, and this frame has none")
        header = TensorHeader(
            shape=spec.shape, dtype=spec.dtype, representation=entry.kind, codec="none", scale=0.0, zero_point=0
        )
        return EncodedTensor(header=header, data=_encoded_picture(picture, entry))
    if tensor.shape != spec.shape or tensor.dtype != np.dtype(spec.dtype):
        raise TensorError(
            f"cut {cut} is {spec.dtype} {spec.shape}, but the tensor to send is {tensor.dtype} {tensor.shape}"
        )
    return encode(tensor, entry.kind, entry.codec)


def decode_payload(manifest: Manifest, cut: int, header: TensorHeader, data: bytes | memoryview) -> NDArray[Any]:
    """The tensor of ``cut`` (its shape and dtype) from what a device sent.

    Raises:
        TensorError: shape, dtype, representation, codec or content does not fit the cut.
        OversizeError: more bytes than any payload of this cut can have.
    """
    check_payload(manifest, cut, header, len(data))
    if header.representation in PICTURE_KINDS:
        return normalise(_decoded_picture(manifest, header.representation, data), manifest)
    return decode(header, data, math.prod(manifest.cuts[cut].tensor.shape))


def check_payload(manifest: Manifest, cut: int, header: TensorHeader, byte_count: int) -> None:
    """See that a payload of ``byte_count`` bytes can be the tensor of ``cut``, without looking at the bytes: cheap
    enough to refuse one before it waits for its turn.

    Raises:
        TensorError: shape, dtype, representation or codec does not fit the cut.
        OversizeError: more bytes than any payload of this cut can have.
    """
    if not 0 <= cut < len(manifest.cuts):
        raise TensorError(f"this model has cuts 0..{manifest.segment_count}, none numbered {cut}")
    spec = manifest.cuts[cut].tensor
    if tuple(header.shape) != spec.shape or header.dtype != spec.dtype:
        raise TensorError(
            f"cut {cut} is {spec.dtype} {spec.shape}, but the payload says {header.dtype} {tuple(header.shape)}"
        )
    offered, limit = _taken(manifest, cut)
    if (header.representation, header.codec) not in offered:
        raise TensorError(f"cut {cut} is not offered as {header.representation} with codec {header.codec}")
    if byte_count > limit:
        raise OversizeError(f"cut {cut}: {byte_count} bytes are more than the {limit} that any payload of it can have")


@lru_cache(maxsize=4096)
def _taken(manifest: Manifest, cut: int) -> tuple[frozenset[tuple[str, str]], int]:
    """What a payload of ``cut`` may be, as (representation, codec), and how many bytes it may have."""
    target = manifest.cuts[cut]
    return frozenset((entry.kind, entry.codec) for entry in target.representations), max_payload_bytes(target)


def max_payload_bytes(cut: Cut) -> int:
    """Upper bound of the bytes of any payload of ``cut``, whatever its content."""
    elements = math.prod(cut.tensor.shape)
    raw = elements * np.dtype(cut.tensor.dtype).itemsize
    # Incompressible content grows a little in zstd and PNG, and noise at high JPEG quality takes over a byte a sample.
    return max(raw, 2 * elements) + raw // 128 + _PICTURE_OVERHEAD_BYTES


def _encoded_picture(picture: NDArray[np.uint8], entry: RepresentationEntry) -> bytes:
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    buffer = io.BytesIO()
    if entry.kind == "png":
        # Level 1: deflate's higher levels take several times as long for a few per cent.
        image.save(buffer, "PNG", compress_level=1)
    else:
        image.save(buffer, "JPEG", quality=entry.quality or 75)
    return buffer.getvalue()


def _decoded_picture(manifest: Manifest, kind: str, data: bytes | memoryview) -> NDArray[np.uint8]:
    height, width, channels = picture_shape(manifest.preprocessing, manifest.cuts[0].tensor)
    try:
        image = Image.open(io.BytesIO(data), formats=[kind.upper()])
        if image.size != (width, height):
            raise TensorError(f"the picture is {image.width}x{image.height}, the input needs {width}x{height}")
        picture = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except TensorError:
        raise
    except Exception:  # noqa: BLE001 - Pillow also asserts, and unpacks what is not there
        raise TensorError(f"the {kind} payload cannot be decoded; send a complete file of that kind") from None
    return picture[..., None] if channels == 1 else picture
