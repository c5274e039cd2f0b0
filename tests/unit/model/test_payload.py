from pathlib import Path

import numpy as np
import pytest

from tests.unit.model.conftest import encoded, picture
from twinsplit.errors import OversizeError, RefusedError, TensorError
from twinsplit.model.manifest import Manifest, read_manifest
from twinsplit.model.payload import decode_payload, encode_payload, max_payload_bytes
from twinsplit.model.preprocessing import prepare
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.tensor import TensorHeader


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return read_manifest(folder)[0]


def position(manifest: Manifest, cut: int, name: str) -> int:
    return [r.name for r in manifest.cuts[cut].representations].index(name)


def test_every_representation_of_every_cut_comes_back_close(folder: Path, manifest: Manifest) -> None:
    runtime = SegmentRuntime.load(folder)
    prepared = prepare(picture(3), manifest)
    tensor = prepared.tensor
    seen = set()
    for cut in range(manifest.segment_count):
        span = float(tensor.max() - tensor.min())
        for index, entry in enumerate(manifest.cuts[cut].representations):
            payload = encode_payload(manifest, cut, index, tensor, prepared.picture)
            back = decode_payload(manifest, cut, payload.header, memoryview(bytes(payload.data)))
            tolerance = {"float32": 0.0, "png": 0.0, "float16": 1e-3, "uint8": 1 / 255, "uint4": 1 / 15, "jpeg": 0.2}
            assert np.abs(back - tensor).max() <= tolerance[entry.kind] * span
            assert back.dtype == tensor.dtype
            assert len(payload.data) <= max_payload_bytes(manifest.cuts[cut])
            seen.add(entry.kind)
        tensor = runtime.run_segment(cut, tensor)
    assert seen == {"float32", "png", "float16", "uint8", "uint4", "jpeg"}


def test_a_picture_as_png_gives_the_very_input(manifest: Manifest) -> None:
    prepared = prepare(picture(4, 200, 300), manifest)
    payload = encode_payload(manifest, 0, position(manifest, 0, "png"), prepared.tensor, prepared.picture)
    np.testing.assert_array_equal(decode_payload(manifest, 0, payload.header, payload.data), prepared.tensor)


def test_a_frame_without_picture_cannot_go_as_jpeg(manifest: Manifest) -> None:
    with pytest.raises(TensorError, match="needs the fitted picture"):
        encode_payload(manifest, 0, position(manifest, 0, "jpeg75"), prepare(picture(4), manifest).tensor)


def test_a_position_that_is_none_of_the_cuts_is_refused(manifest: Manifest) -> None:
    with pytest.raises(TensorError, match="none at position 99"):
        encode_payload(manifest, 1, 99, np.zeros((1, 8, 8, 8), np.float32))


def test_the_tensor_of_another_cut_is_refused(manifest: Manifest) -> None:
    with pytest.raises(TensorError, match="cut 1 is float32"):
        encode_payload(manifest, 1, 0, np.zeros((1, 8, 8, 7), np.float32))


class TestWhatAnEdgeRefuses:
    header = TensorHeader(shape=(1, 8, 8, 8), dtype="float32", representation="float32", codec="none")
    data = np.zeros((1, 8, 8, 8), np.float32).tobytes()

    def test_nothing_when_all_fits(self, manifest: Manifest) -> None:
        assert decode_payload(manifest, 1, self.header, self.data).shape == (1, 8, 8, 8)

    @pytest.mark.parametrize(
        "changes",
        [
            {"shape": (1, 8, 8, 4)},
            {"shape": (1, 8, 8, 8, 1)},
            {"dtype": "float16"},
            {"representation": "float8"},
            {"representation": "jpeg"},
            {"codec": "brotli"},
            {"codec": "zstd"},
        ],
    )
    def test_a_header_that_does_not_fit_the_cut(self, manifest: Manifest, changes: dict[str, object]) -> None:
        with pytest.raises(TensorError):
            decode_payload(manifest, 1, self.header._replace(**changes), self.data)

    @pytest.mark.parametrize("cut", [-1, 5])
    def test_a_cut_that_the_model_does_not_have(self, manifest: Manifest, cut: int) -> None:
        with pytest.raises(TensorError, match=r"cuts 0\.\.4"):
            decode_payload(manifest, cut, self.header, self.data)

    def test_too_few_bytes(self, manifest: Manifest) -> None:
        with pytest.raises(TensorError):
            decode_payload(manifest, 1, self.header, self.data[:-4])

    def test_too_many_bytes(self, manifest: Manifest) -> None:
        with pytest.raises(OversizeError):
            decode_payload(manifest, 1, self.header, self.data * 10)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"not a picture at all",
            encoded(picture(0, 16, 15), "JPEG"),
            encoded(picture(0), "PNG"),
            encoded(picture(0), "JPEG")[:200],
        ],
    )
    def test_a_jpeg_that_is_none_or_of_another_size(self, manifest: Manifest, data: bytes) -> None:
        header = TensorHeader(shape=(1, 3, 16, 16), dtype="float32", representation="jpeg", codec="none")
        with pytest.raises(RefusedError):
            decode_payload(manifest, 0, header, data)
