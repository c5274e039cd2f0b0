"""How far long work is, on standard error."""

from __future__ import annotations

import sys
import time

import click


class ProgressLine:
    """One line on standard error that is rewritten on a terminal; elsewhere a line every ten seconds."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._shown_at_s = float("-inf") if self._is_terminal else time.monotonic()
        self._started_at_s: dict[str, float] = {}
        self._has_line = False

    def __call__(self, what: str, done: int, total: int) -> None:
        now_s = time.monotonic()
        started_at_s = self._started_at_s.setdefault(what, now_s)
        if now_s - self._shown_at_s < (0.1 if self._is_terminal else 10.0) and not (
            self._is_terminal and done == total
        ):
            return
        self._shown_at_s = now_s
        text = f"{what}: {done} of {total}" if total > 1 else f"{what} ..."
        if 0 < done < total:
            text += f", about {(now_s - started_at_s) / done * (total - done):.0f} s left"
        click.echo(f"\r\033[K{text}" if self._is_terminal else text, err=True, nl=not self._is_terminal)
        self._has_line = self._is_terminal

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Wipe the line, so that what is printed next starts on an empty one."""
        if self._has_line:
            click.echo("\r\033[K", err=True, nl=False)
            self._has_line = False
