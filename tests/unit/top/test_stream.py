"""Following a console: events out of lines, connections that are lost and made again, refusals that stay."""

from __future__ import annotations

import contextlib
import email.message
import io
import json
import ssl
import urllib.error
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from twin_service.top.stream import Console, Lost, events
from twinsplit.errors import PeerError, SettingsError, TlsError

URL = "http://127.0.0.1:8080"
ONE = {"devices": []}


def event(document: Any) -> list[bytes]:
    return [b"event: snapshot\r\n", b"data: " + json.dumps(document).encode() + b"\n", b"\n"]


def refusal(status: int, body: bytes) -> urllib.error.HTTPError:
    return urllib.error.HTTPError(URL, status, "", email.message.Message(), io.BytesIO(body))


class Scripted(Console):
    """Every opening gets the next of ``answers``: lines, or an error."""

    def __init__(self, *answers: list[bytes] | Exception) -> None:
        super().__init__(URL)
        self._answers = list(answers)
        self.waited_s: list[float] = []

    def news(self, count: int) -> list[Any]:
        return list(islice(self.follow(self.waited_s.append), count))

    @contextlib.contextmanager
    def _open(self, path: str) -> Iterator[Any]:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        yield io.BytesIO(b"".join(answer))


def test_events_are_read_out_of_lines() -> None:
    lines = [
        b"retry: 1000\n",
        b"\n",
        b": a comment\n",
        *event({"a": 1}),
        b"event: other\n",
        b"data: {}\n",
        b"\n",
        b"event:snapshot\n",
        b"data:x\n",
        b"data: y\n",
        b"\n",
        b"event: snapshot\n",
        b"data: cut off",
    ]
    assert list(events(lines)) == [b'{"a": 1}', b"x\ny"]


def test_a_lost_connection_is_said_and_made_again() -> None:
    console = Scripted(
        [*event(ONE), *event(ONE)],
        urllib.error.URLError(ConnectionRefusedError()),
        urllib.error.URLError(TimeoutError()),
        event(ONE),
        refusal(503, b'{"error": {"code": "too-many-streams", "text": "32 streams are open already"}}'),
        event(ONE),
    )
    news = console.news(8)
    assert [item if isinstance(item, dict) else None for item in news] == [ONE, ONE, None, None, None, ONE, None, None]
    causes = [item.cause for item in news if isinstance(item, Lost)]
    assert causes == [
        "the console has ended the stream",
        "nobody listens there (does the twin service have a --console-listen?)",
        "no answer within 10 s",
        "the console has ended the stream",
        "32 streams are open already",
    ]
    assert console.waited_s == [0.5, 1.0, 2.0, 0.5]


def test_it_waits_longer_but_not_for_ever() -> None:
    console = Scripted(*[urllib.error.URLError(OSError(113, "No route to host"))] * 7)
    news = console.news(7)
    assert {item.cause for item in news} == {"No route to host"}
    assert console.waited_s == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_that_stays_ends_it(status: int) -> None:
    answer = b'{"error": {"code": "x", "text": "a token is needed"}}'
    with pytest.raises(PeerError, match="a token is needed"):
        Scripted(refusal(status, answer)).news(1)
    with pytest.raises(PeerError, match="a token is needed"):
        Scripted(refusal(status, answer)).snapshot()


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"a": 1}'])
def test_something_else_is_not_taken_for_a_console(body: bytes) -> None:
    with pytest.raises(PeerError, match="no console of twinsplit"):
        Scripted([body]).snapshot()
    with pytest.raises(PeerError, match="status 500"):
        Scripted(refusal(500, body)).snapshot()


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://x", "http://", "http://x:99999", "http://x:0"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="URL"):
        Console(url)


def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name, text in (("missing", None), ("empty", "nothing")):
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
        with pytest.raises(TlsError, match="--tls-ca"):
            Console("https://127.0.0.1:1", authority=path)


def test_a_certificate_that_is_not_trusted_names_the_cure() -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_message = "self-signed certificate"
    with pytest.raises(PeerError, match="--tls-ca"):
        Scripted(urllib.error.URLError(error)).snapshot()
