"""Logging: one event name per line and its fields; text for people on a terminal, JSON lines for machines elsewhere."""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
from collections import OrderedDict
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, TextIO

from twinsplit.clock import Clock, SystemClock

ROOT = "twinsplit"
DEFECT_LIMIT_S = 10.0
"""A defect that shows with every task is told so often, with the number of times in between."""
MOST_LIMITED = 1024
"""Lines whose repeats are held back, one part's; the one written longest ago is forgotten for another."""
OF_LIBRARY = "from-library"
"""Event of lines that other libraries write; what they say is the field ``text``."""


def configure_logging(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """Send all logging of this process to ``stream`` (standard error), in the form of settings ``log_level`` and
    ``log_format``. Call it once, at a service's entry point."""
    is_whole_process = stream is None
    stream = stream or sys.stderr
    is_text = form == "text" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_TextFormatter() if is_text else _JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    # Other libraries' chatter is not ours to print below a warning.
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level.upper())
    if is_whole_process:
        # What Python itself would write past every handler comes as lines, too.
        logging.captureWarnings(True)
        sys.excepthook = _log_crash
        threading.excepthook = _log_thread_crash


def is_json() -> bool:
    """Whether this process logs JSON lines, for machines to read."""
    return any(isinstance(handler.formatter, _JsonFormatter) for handler in logging.getLogger().handlers)


class EventLog:
    """Events of one part of the system: ``log.warning("edge-lost", edge=address)``.

    ``limit_s`` writes a line at most that often per ``limit_key`` (the event alone by default) and then says how many
    were left out; defects (:meth:`exception`) are limited anyway. Fields must be JSON's own types; anything else is
    shown by its ``str``.
    """

    def __init__(self, part: str, clock: Clock | None = None) -> None:
        self._logger = logging.getLogger(f"{ROOT}.{part}")
        self._clock = clock or SystemClock()
        self._last_s: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._left_out: dict[tuple[str, str], int] = {}

    def debug(self, event: str, *, limit_s: float | None = None, limit_key: str = "", **fields: Any) -> None:
        self._write(logging.DEBUG, event, limit_s, limit_key, fields)

    def info(self, event: str, *, limit_s: float | None = None, limit_key: str = "", **fields: Any) -> None:
        self._write(logging.INFO, event, limit_s, limit_key, fields)

    def warning(self, event: str, *, limit_s: float | None = None, limit_key: str = "", **fields: Any) -> None:
        self._write(logging.WARNING, event, limit_s, limit_key, fields)

    def error(self, event: str, *, limit_s: float | None = None, limit_key: str = "", **fields: Any) -> None:
        self._write(logging.ERROR, event, limit_s, limit_key, fields)

    def exception(self, event: str, error: BaseException, **fields: Any) -> None:
        """An error that is a defect: with its traceback, at most every :data:`DEFECT_LIMIT_S` per type of error."""
        self._write(logging.ERROR, event, DEFECT_LIMIT_S, type(error).__name__, fields, error)

    def _write(
        self,
        level: int,
        event: str,
        limit_s: float | None,
        limit_key: str,
        fields: dict[str, Any],
        error: BaseException | None = None,
    ) -> None:
        if not self._logger.isEnabledFor(level):
            return
        if limit_s is not None:
            key = (event, limit_key)
            now_s = self._clock.monotonic_s()
            last_s = self._last_s.get(key)
            if last_s is not None and now_s - last_s < limit_s:
                self._left_out[key] = self._left_out.get(key, 0) + 1
                return
            self._last_s.pop(key, None)
            self._last_s[key] = now_s
            if left_out := self._left_out.pop(key, 0):
                fields = {**fields, "left_out": left_out}
            if len(self._last_s) > MOST_LIMITED:
                oldest, _ = self._last_s.popitem(last=False)
                self._left_out.pop(oldest, None)
        self._logger.log(level, event, exc_info=error, extra={"fields": fields})


def _log_crash(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    logging.getLogger(ROOT).critical("crashed", exc_info=(kind, error, traceback), extra={"fields": {}})


def _log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None:
        name = crash.thread.name if crash.thread is not None else ""
        EventLog("threads").exception("thread-crashed", crash.exc_value, thread=name)


def _event(record: logging.LogRecord) -> str:
    return record.getMessage() if hasattr(record, "fields") else OF_LIBRARY


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    found = getattr(record, "fields", None)
    return found if isinstance(found, dict) else {"text": record.getMessage()}


def _part(record: logging.LogRecord) -> str:
    return record.name.removeprefix(f"{ROOT}.")


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "part": _part(record),
            "event": _event(record),
        }
        # A field never overwrites what every line has.
        line.update((key, _finite(value)) for key, value in _fields(record).items() if key not in line)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f" {key}={_shown(value)}" for key, value in _fields(record).items())
        line = f"{when} {record.levelname:<7} {_part(record)}: {_event(record)}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _finite(value: Any) -> Any:
    """``value`` as JSON can say it: it has no infinity and no NaN."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    is_plain = bool(text) and text.isprintable() and not any(mark in text for mark in ' "=')
    return text if is_plain else json.dumps(text)
