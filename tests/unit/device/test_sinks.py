"""JSON lines reach the disk whole, or it is said that they did not."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

import pytest

from device import sinks
from device.sinks import JsonLinesSink, open_sink
from twinsplit.errors import StorageError


class Disk:
    """A disk of a size, of which a test may take some away and give it back."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.content = b""
        self.failures = 0
        self.changed = threading.Condition()

    def write(self, descriptor: int, data: bytes) -> int:
        with self.changed:
            taken = min(self.room, len(data))
            if taken == 0:
                self.failures += 1
                self.changed.notify_all()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.content += bytes(data[:taken])
            self.room -= taken
            return taken

    def await_failure(self) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.failures > 0, 5.0)


def sink_on(disk: Disk) -> JsonLinesSink:
    return JsonLinesSink(os.open(os.devnull, os.O_WRONLY), "results.jsonl", disk.write)


def test_lines_are_appended_to_the_file(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"earlier": 1}\n')
    sink = open_sink(str(path))
    for number in range(3):
        sink.put(f'{{"task_id": {number}}}')
    sink.close()
    assert path.read_text().splitlines() == ['{"earlier": 1}', *(f'{{"task_id": {n}}}' for n in range(3))]
    assert (sink.written, sink.lost, sink.waiting) == (3, 0, 0)


def test_a_line_that_was_torn_stays_alone(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"earlier": 1}\n{"torn')
    for number in range(2):
        sink = open_sink(str(path))
        sink.put(f'{{"task_id": {number}}}')
        sink.close()
    assert path.read_text().splitlines() == ['{"earlier": 1}', '{"torn', '{"task_id": 0}', '{"task_id": 1}']


class Calls:
    """Calls of a function, returned or failed, which a test may wait for."""

    def __init__(self, function: Callable[..., int]) -> None:
        self._function = function
        self._ended = threading.Semaphore(0)

    def __call__(self, *arguments: object) -> int:
        try:
            return self._function(*arguments)
        finally:
            self._ended.release()

    def await_one(self) -> None:
        assert self._ended.acquire(timeout=5.0)


@pytest.mark.parametrize("is_kept", [True, False], ids=["moved", "removed"])
def test_a_file_that_is_moved_or_removed_is_opened_anew(tmp_path, is_kept):
    path = tmp_path / "results.jsonl"
    write = Calls(os.write)
    sink = JsonLinesSink(os.open(path, os.O_WRONLY | os.O_CREAT), str(path), write, path=path)
    sink.put("first")
    write.await_one()
    if is_kept:
        path.rename(tmp_path / "results.jsonl.1")
    else:
        path.unlink()
    sink.put("second")
    write.await_one()
    sink.put("third")
    sink.close()
    assert path.read_text() == "second\nthird\n"
    assert not is_kept or (tmp_path / "results.jsonl.1").read_text() == "first\n"


def test_a_line_torn_in_a_file_that_is_then_removed_is_whole_in_the_next(tmp_path):
    path = tmp_path / "results.jsonl"
    disk = Disk(room=8)
    sink = JsonLinesSink(os.open(path, os.O_WRONLY | os.O_CREAT), str(path), disk.write, path=path)
    sink.put("first")
    sink.put("second")
    disk.await_failure()
    assert disk.content == b"first\nse"
    path.unlink()
    disk.content, disk.room = b"", 1000
    sink.close()
    assert disk.content == b"second\n"


def test_a_folder_that_is_gone_loses_nothing_once_it_is_back(tmp_path, monkeypatch):
    path = tmp_path / "records" / "results.jsonl"
    path.parent.mkdir()
    sink = open_sink(str(path))
    path.unlink()
    path.parent.rmdir()
    opening = Calls(sinks._appending)
    monkeypatch.setattr(sinks, "_appending", opening)
    sink.put("first")
    opening.await_one()
    path.parent.mkdir()
    sink.put("second")
    sink.close()
    assert path.read_text() == "first\nsecond\n"


def test_no_setting_is_no_sink():
    assert open_sink(None) is None


def test_a_file_that_cannot_be_opened_is_said_at_the_start(tmp_path):
    with pytest.raises(StorageError, match="No such file or directory; name a file that this user can write"):
        open_sink(str(tmp_path / "missing" / "results.jsonl"))


def test_a_full_disk_loses_nothing_once_there_is_room_again():
    disk = Disk(room=12)
    sink = sink_on(disk)
    sink.put("first")
    sink.put("second")  # torn by the end of the disk
    disk.await_failure()
    disk.room = 1000
    sink.put("third")
    sink.close()
    assert disk.content == b"first\nsecond\nthird\n"
    assert sink.written == 3


def test_a_disk_that_stays_full_is_an_error_at_the_end_that_says_how_many_are_missing():
    disk = Disk(room=6)
    sink = sink_on(disk)
    sink.put("first")
    sink.put("second")
    disk.await_failure()
    with pytest.raises(StorageError, match=r"results.jsonl: No space left on device; 1 of 2 task records are missing"):
        sink.close()
    assert disk.content == b"first\n"


def test_a_reader_that_does_not_read_never_delays_a_task(monkeypatch):
    monkeypatch.setattr(sinks, "WAITING_LINES", 2)
    gate = threading.Event()

    def blocked(descriptor: int, data: bytes) -> int:
        gate.wait(5.0)
        return len(data)

    sink = JsonLinesSink(os.open(os.devnull, os.O_WRONLY), "standard output", blocked)
    for number in range(10):
        sink.put(str(number))  # would hang here
    assert sink.lost >= 7
    gate.set()
    with pytest.raises(StorageError, match="task records are missing"):
        sink.close()


def test_too_many_kept_lines_are_given_up_from_the_newest_on(monkeypatch):
    monkeypatch.setattr(sinks, "WAITING_LINES", 2)
    disk = Disk(room=0)
    sink = sink_on(disk)
    for number in range(6):
        sink.put(str(number))
        disk.failures = 0
        disk.await_failure()
    disk.room = 100
    with pytest.raises(StorageError, match="4 of 6 task records are missing"):
        sink.close()
    assert disk.content == b"0\n1\n"
