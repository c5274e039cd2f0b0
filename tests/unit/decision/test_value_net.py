from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from twin_service.decision.features import FEATURE_COUNT
from twin_service.decision.value_net import ValueNet
from twinsplit.errors import WeightsError


def trained() -> ValueNet:
    rng = np.random.default_rng(1)
    return ValueNet(
        tuple(
            (
                rng.standard_normal(weights.shape).astype(np.float32),
                rng.standard_normal(len(offsets)).astype(np.float32),
            )
            for weights, offsets in ValueNet.zero().layers
        )
    )


def resealed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


def test_an_untrained_net_corrects_nothing_anywhere() -> None:
    rows = np.random.default_rng(0).normal(0.0, 3.0, (50, FEATURE_COUNT)).astype(np.float32)
    assert not ValueNet.zero().correct(rows).any()


def test_a_net_is_two_rectified_layers_and_a_linear_one() -> None:
    net = trained()
    row = np.random.default_rng(2).standard_normal(FEATURE_COUNT).astype(np.float32)
    value = row
    for weights, offsets in net.layers[:-1]:
        value = np.maximum(value @ weights + offsets, 0.0)
    expected = value @ net.layers[-1][0] + net.layers[-1][1]
    assert net.correct(row[None])[0].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert net.correct_point(row) == pytest.approx(tuple(expected.tolist()), rel=1e-5)


def test_what_was_written_is_read_again_to_the_bit() -> None:
    net = trained()
    again = ValueNet.from_bytes(net.to_bytes())
    assert again.feature_count == FEATURE_COUNT
    for ours, theirs in zip(net.layers, again.layers, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("length", [0, 3, 11, 40, -1])
def test_weights_that_were_cut_off_are_refused(length) -> None:
    with pytest.raises(WeightsError, match="damaged"):
        ValueNet.from_bytes(trained().to_bytes()[:length])


def test_a_flipped_bit_is_found() -> None:
    data = bytearray(trained().to_bytes())
    data[200] ^= 4
    with pytest.raises(WeightsError, match="damaged"):
        ValueNet.from_bytes(bytes(data))


@pytest.mark.parametrize(
    ("at", "value", "text"),
    [
        (0, b"X", "another version"),
        (4, b"\x09", "another version"),
        (8, b"\x00\x00\x00\x01", "another version"),
        (6, b"\x00\x00", "header"),
        (6, b"\xff\xff", "header"),
        (12, b"\x01\x00", "header"),
        (14, b"\xff\xff", "header"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(at, value, text) -> None:
    body = bytearray(trained().to_bytes()[:-4])
    body[at : at + len(value)] = value
    with pytest.raises(WeightsError, match=text):
        ValueNet.from_bytes(resealed(bytes(body)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(value) -> None:
    net = trained()
    net.layers[1][0][3, 4] = value
    with pytest.raises(WeightsError, match="NaN"):
        ValueNet.from_bytes(net.to_bytes())
