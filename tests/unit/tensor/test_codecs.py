"""Compression is bounded before anything is allocated."""

import threading

import pytest
import zstandard

from twinsplit.errors import OversizeError, TensorError
from twinsplit.tensor import compress, decompress
from twinsplit.tensor.header import CODECS


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_gives_back_what_it_took(codec: str) -> None:
    data = bytes(range(256)) * 4
    assert bytes(decompress(compress(data, codec), codec, max_bytes=1024)) == data


@pytest.mark.parametrize("codec", CODECS)
def test_one_byte_more_than_allowed_is_oversize(codec: str) -> None:
    with pytest.raises(OversizeError, match="at most 1023"):
        decompress(compress(bytes(1024), codec), codec, max_bytes=1023)


def test_a_bomb_is_refused_by_its_declared_size() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    with pytest.raises(OversizeError, match="50000000 bytes"):
        decompress(bomb, "zstd", max_bytes=1000)


def test_a_frame_without_its_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
    with pytest.raises(TensorError, match="content size"):
        decompress(frame, "zstd", max_bytes=1000)


@pytest.mark.parametrize("data", [b"", b"\x00" * 40, b"not a frame at all"])
def test_bytes_that_are_no_frame_are_refused(data: bytes) -> None:
    with pytest.raises(TensorError, match="not a Zstandard frame"):
        decompress(data, "zstd", max_bytes=1000)


@pytest.mark.parametrize("damage", ["cut off", "flipped", "trailing"])
def test_a_damaged_frame_is_refused(damage: str) -> None:
    frame = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(bytes(range(256)) * 40))
    if damage == "cut off":
        del frame[-8:]
    elif damage == "flipped":
        frame[-1] ^= 0xFF
    else:
        frame += b"more"
    with pytest.raises(TensorError, match="damaged"):
        decompress(bytes(frame), "zstd", max_bytes=100_000)


def test_an_empty_frame_is_empty() -> None:
    assert decompress(compress(b"", "zstd"), "zstd", max_bytes=0) == b""


@pytest.mark.parametrize("function", [lambda: compress(b"", "lz4"), lambda: decompress(b"", "lz4", max_bytes=1)])
def test_an_unknown_codec_is_named(function: object) -> None:
    with pytest.raises(TensorError, match="'lz4'"):
        function()


def test_threads_do_not_share_a_context() -> None:
    data = [bytes([number]) * 20_000 for number in range(4)]
    found: dict[int, bool] = {}

    def work(number: int) -> None:
        found[number] = all(
            decompress(compress(data[number], "zstd"), "zstd", max_bytes=20_000) == data[number] for _ in range(50)
        )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), True)
