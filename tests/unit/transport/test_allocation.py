"""Malloc thresholds are set on glibc and nowhere else."""

import ctypes
import platform
from types import SimpleNamespace

import pytest

from twinsplit.transport import allocation


class _Mallopt:
    def __init__(self) -> None:
        self.argtypes: object = None
        self.calls: list[tuple[int, int]] = []

    def __call__(self, parameter: int, value: int) -> int:
        self.calls.append((parameter, value))
        return 1


def test_both_thresholds_are_set_on_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    mallopt = _Mallopt()
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace(mallopt=mallopt))
    allocation.keep_freed_memory()
    # The numbers are glibc's M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
    assert mallopt.calls == [(-3, allocation.HEAP_BLOCK_BYTES), (-1, allocation.KEPT_BYTES)]


def test_nothing_happens_off_glibc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    loaded: list[object] = []
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", loaded.append)
    allocation.keep_freed_memory()
    assert loaded == []
    assert capsys.readouterr() == ("", "")


def test_a_library_without_mallopt_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: opened.append(name) or SimpleNamespace())
    allocation.keep_freed_memory()
    assert opened == [None]


def test_this_machines_glibc_takes_the_values() -> None:
    largest = 4 * 1024 * 1024 * ctypes.sizeof(ctypes.c_long)
    assert 0 < allocation.HEAP_BLOCK_BYTES <= largest
    assert 0 < allocation.KEPT_BYTES < 2**31
