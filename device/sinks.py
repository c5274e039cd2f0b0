"""JSON lines of ended tasks, written by a thread of their own: a slow reader or a full disk never delays a task."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from twinsplit.errors import StorageError
from twinsplit.telemetry.logs import EventLog

_log = EventLog("device.sink")

STANDARD_OUTPUT = "standard output"
WAITING_LINES = 1 << 16
"""Lines that may wait for the writer; further ones are lost and counted."""
RETRY_S = 1.0
REPEATED_LINE_S = 10.0


class JsonLinesSink:
    """Appends lines to a file or writes them to standard output.

    A line that the disk does not take is kept and tried again: when there is room later, nothing is missing and no line
    is torn. What could not be written until the end is an error of :meth:`close`, and of nothing else.
    """

    def __init__(
        self,
        descriptor: int,
        name: str,
        write: Callable[[int, bytes | bytearray], int] = os.write,
        *,
        path: Path | None = None,
    ) -> None:
        """``path``: of the regular file that ``descriptor`` appends to; ``None``: it is none."""
        self._descriptor = descriptor
        self._name = name
        self._write = write
        self._lines: queue.Queue[bytes | None] = queue.Queue(WAITING_LINES)
        self._path = path
        self._pending = bytearray() if path is None else bytearray(_line_break(path))
        self._pending_lines = 0
        self._torn = b""
        """Of the first pending line, what has been written."""
        self._problem: OSError | None = None
        self.written = 0
        """Lines handed to the system."""
        self.lost = 0
        """Lines given up."""
        self._thread = threading.Thread(target=self._run, name="device-sink", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Lines not written yet."""
        return self._lines.qsize() + self._pending_lines

    def put(self, line: str) -> None:
        """Write ``line`` as soon as possible; never blocks."""
        try:
            self._lines.put_nowait(line.encode() + b"\n")
        except queue.Full:
            self.lost += 1
            _log.error("sink-overflow", limit_s=REPEATED_LINE_S, sink=self._name, lost=self.lost)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits, for at most ``timeout_s``, and close.

        Raises:
            StorageError: lines could not be written; the text says how many and why.
        """
        # A full queue is a sink that takes nothing: then the end need not be told.
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)
        missing = self.lost + self.waiting
        if not self._thread.is_alive() and self._name != STANDARD_OUTPUT:
            os.close(self._descriptor)
        if missing:
            cause = "it takes nothing" if self._problem is None else self._problem.strerror
            raise StorageError(
                f"{self._name}: {cause}; {missing} of {missing + self.written} task records are missing in it: free "
                "some space or name another --sink"
            )

    def _run(self) -> None:
        while True:
            try:
                line = self._lines.get(timeout=RETRY_S if self._pending else None)
            except queue.Empty:
                self._flush()
                continue
            if line is None:
                self._flush()
                return
            self._pending += line
            self._pending_lines += 1
            if self._problem is None or self._lines.empty():
                self._flush()

    def _flush(self) -> None:
        try:
            self._follow()
            while self._pending:
                written = self._write(self._descriptor, self._pending)
                self._torn = (self._torn + self._pending[:written]).rpartition(b"\n")[2]
                del self._pending[:written]
        except OSError as error:
            if self._problem is None or self._problem.errno != error.errno:
                _log.error("sink-fails", sink=self._name, error=error.strerror, cure=_cure(error))
            self._problem = error
            self._bound()
            return
        self.written += self._pending_lines
        self._pending_lines = 0
        if self._problem is not None:
            _log.info("sink-works-again", sink=self._name)
            self._problem = None

    def _follow(self) -> None:
        """Open the file anew where it was moved or removed, as those do who rotate logs.

        Raises:
            OSError: it cannot be opened.
        """
        if self._path is None or _is_open(self._path, self._descriptor):
            return
        descriptor = _appending(self._path)
        os.close(self._descriptor)
        self._descriptor = descriptor
        # A line that was torn by then is written whole.
        self._pending[:0] = _line_break(self._path) + self._torn
        self._torn = b""
        _log.info("sink-opened-anew", sink=self._name)

    def _bound(self) -> None:
        """Give up whole lines from the newest on when too many are kept."""
        while self._pending_lines > WAITING_LINES:
            del self._pending[self._pending.rindex(b"\n", 0, -1) + 1 :]
            self._pending_lines -= 1
            self.lost += 1


def open_sink(target: str | None) -> JsonLinesSink | None:
    """The sink that a setting names: a file (appended to), ``-`` for standard output, or ``None``: none.

    Raises:
        StorageError: the file cannot be opened.
    """
    if target is None:
        return None
    if target == "-" and sys.stdout is None:
        raise StorageError("-: standard output is closed; name a file in --sink")
    if target == "-":
        return JsonLinesSink(sys.stdout.fileno(), STANDARD_OUTPUT)
    try:
        descriptor = _appending(Path(target))
    except OSError as error:
        raise StorageError(f"{target}: {error.strerror}; name a file that this user can write in --sink") from None
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    return JsonLinesSink(descriptor, target, path=Path(target) if is_file else None)


def _appending(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def _is_open(path: Path, descriptor: int) -> bool:
    """Whether ``descriptor`` is of the file that is at ``path`` now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _line_break(path: Path) -> bytes:
    """What a file needs before its next line: a full disk, or the end of a process, may have torn the last one."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return b"" if file.read() == b"\n" else b"\n"
    except OSError:  # it is empty, or not ours to read
        return b""


def _cure(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space: the records are kept and tried again"
    return "the records are kept and tried again"
