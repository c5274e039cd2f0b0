"""Replayed tasks as bytes."""

from __future__ import annotations

import struct
import zlib
from dataclasses import fields, replace

import numpy as np
import pytest

from tests.unit.workload.made_up_replay import made_up_replayed
from twin_service.workload.replayed import Replayed
from twinsplit.errors import ReplayError


@pytest.mark.parametrize("epochs", [1, 2, 9])
def test_what_is_written_is_read(epochs: int) -> None:
    task = made_up_replayed(epochs, taken_epoch=0)
    again = Replayed.from_bytes(task.to_bytes())
    for field in fields(Replayed):
        before, after = getattr(task, field.name), getattr(again, field.name)
        if isinstance(before, np.ndarray):
            assert after.dtype == before.dtype
            np.testing.assert_array_equal(after, before)
        else:
            assert after == before
    assert again.epochs == epochs


def test_a_head_only_device_has_nothing_to_finish_with() -> None:
    again = Replayed.from_bytes(made_up_replayed(finish_s=float("nan")).to_bytes())
    assert np.isnan(again.finish_s)


def test_every_damaged_byte_is_noticed() -> None:
    data = made_up_replayed().to_bytes()
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        with pytest.raises(ReplayError):
            Replayed.from_bytes(bytes(damaged))


@pytest.mark.parametrize("length", [0, 3, 60, 200, -1])
def test_what_is_cut_short_is_refused(length: int) -> None:
    with pytest.raises(ReplayError, match="damaged"):
        Replayed.from_bytes(made_up_replayed().to_bytes()[:length])


@pytest.mark.parametrize(
    ("offset", "value", "text"),
    [(4, 9, "version 9"), (6, 5000, "header"), (6, 0, "header"), (10, 4, "header"), (12, 9, "header")],
)
def test_a_header_that_cannot_be_is_refused_though_its_checksum_fits(offset: int, value: int, text: str) -> None:
    body = bytearray(made_up_replayed().to_bytes()[:-4])
    struct.pack_into("<H", body, offset, value)
    with pytest.raises(ReplayError, match=text):
        Replayed.from_bytes(bytes(body) + struct.pack("<I", zlib.crc32(body)))


def test_a_replayed_task_of_nine_epochs_takes_about_a_kilobyte() -> None:
    assert len(replace(made_up_replayed(9), device_id="camera").to_bytes()) < 1200
