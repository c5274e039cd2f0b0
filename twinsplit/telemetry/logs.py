"""Logging: one event name per line and its fields; text for people on a terminal, JSON lines for machines elsewhere."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Any, TextIO

from twinsplit.clock import Clock, SystemClock

ROOT = "twinsplit"


def configure_logging(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """Send all logging of this process to ``stream`` (standard error), in the form of settings ``log_level`` and
    ``log_format``. Call it once, at a service's entry point."""
    stream = sys.stderr if stream is None else stream
    is_text = form == "text" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_TextFormatter() if is_text else _JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    # Other libraries' chatter is not ours to print below a warning.
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level.upper())


class EventLog:
    """Events of one part of the system: ``log.warning("edge-lost", edge=address)``.

    ``limit_s`` writes a line at most that often per ``limit_key`` (the event alone by default) and then says how many
    were left out. Fields must be JSON's own types; anything else is shown by its ``str``.
    """

    def __init__(self, part: str, clock: Clock | None = None) -> None:
        self._logger = logging.getLogger(f"{ROOT}.{part}")
        self._clock = clock or SystemClock()
        self._last_s: dict[tuple[str, str], float] = {}
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
        """An error that is a defect: with its traceback."""
        self._logger.error(event, exc_info=error, extra={"fields": fields})

    def _write(self, level: int, event: str, limit_s: float | None, limit_key: str, fields: dict[str, Any]) -> None:
        if not self._logger.isEnabledFor(level):
            return
        if limit_s is not None:
            key = (event, limit_key)
            now_s = self._clock.monotonic_s()
            last_s = self._last_s.get(key)
            if last_s is not None and now_s - last_s < limit_s:
                self._left_out[key] = self._left_out.get(key, 0) + 1
                return
            self._last_s[key] = now_s
            if left_out := self._left_out.pop(key, 0):
                fields = {**fields, "left_out": left_out}
        self._logger.log(level, event, extra={"fields": fields})


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    found = getattr(record, "fields", None)
    return found if isinstance(found, dict) else {}


def _part(record: logging.LogRecord) -> str:
    return record.name.removeprefix(f"{ROOT}.")


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "part": _part(record),
            "event": record.getMessage(),
        }
        # A field never overwrites what every line has.
        line.update((key, value) for key, value in _fields(record).items() if key not in line)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f" {key}={_shown(value)}" for key, value in _fields(record).items())
        line = f"{when} {record.levelname:<7} {_part(record)}: {record.getMessage()}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return json.dumps(text) if any(mark in text for mark in ' "\n=') or not text else text
