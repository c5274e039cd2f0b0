"""``twinsplit top``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from twinsplit.errors import SettingsError

if TYPE_CHECKING:
    from rich.console import Console as Terminal

    from twin_service.top.stream import Console

DEFAULT_URL = "http://127.0.0.1:8080"


@click.command()
@click.argument("url", default=DEFAULT_URL)
@click.option("--once", is_flag=True, help="Print one frame and end; so it is where the output is no terminal.")
@click.option("--device", metavar="NAME", help="This device and its tasks alone.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the console's token, where reading needs it.",
)
@click.option(
    "--tls-ca",
    envvar="TWINSPLIT_TLS_CA",
    show_envvar=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Authority of an HTTPS console's certificate (PEM).",
)
def top(url: str, once: bool, device: str | None, token_file: Path | None, tls_ca: Path | None) -> None:
    """Devices, edges and recent tasks of the live console at URL (http://127.0.0.1:8080), in the terminal.

    Of several replicas of the twin these are the devices of one; `twinsplit twin list` shows those of all.
    """
    from rich.console import Console as Terminal

    from twin_service.top.screen import BacklogHistory, screen
    from twin_service.top.stream import Console

    console = Console(url, token=_token(token_file), device=device, authority=tls_ca)
    terminal = Terminal()
    if once or not terminal.is_terminal:
        snapshot, history = console.snapshot(), BacklogHistory()
        history.add(snapshot)
        terminal.print(screen(snapshot, history, url=console.url))
        return
    _follow(console, terminal)


def _follow(console: Console, terminal: Terminal) -> None:
    """Draw every snapshot until Ctrl-C."""
    from rich.live import Live
    from rich.text import Text

    from twin_service.top.screen import BacklogHistory, screen
    from twin_service.top.stream import Lost

    snapshot, history = None, BacklogHistory()
    waiting = Text(f"twinsplit top: connecting to {console.url}")
    with Live(waiting, console=terminal, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        for news in console.follow():
            trouble = ""
            if isinstance(news, Lost):
                trouble = f"no connection, trying again in {news.next_try_s:g} s: {news.cause}"
            else:
                snapshot = news
                history.add(news)
            if snapshot is None:
                live.update(Text(f"twinsplit top: {console.url}: {trouble}"), refresh=True)
            else:
                height = terminal.size.height
                live.update(screen(snapshot, history, url=console.url, height=height, trouble=trouble), refresh=True)


def _token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; name a file that this user can read in --token-file") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: holds no token; name the file that the twin service made") from None
