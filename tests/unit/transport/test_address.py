"""Addresses as people write them, and why one cannot be listened on."""

import errno
import socket

import pytest

from twinsplit.errors import ListenError, SettingsError
from twinsplit.transport.address import Address, check_listen


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7000", "127.0.0.1", 7000),
        ("edge.local:0", "edge.local", 0),
        ("[::1]:65535", "::1", 65535),
        (" 0.0.0.0:1 ", "0.0.0.0", 1),
        ("l" * 63 + ".edge_1.lan.:1", "l" * 63 + ".edge_1.lan.", 1),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("bücher.lan:1", "bücher.lan", 1),
    ],
)
def test_host_and_port_are_read_and_written_alike(text: str, host: str, port: int) -> None:
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        *("", "7000", "host", "host:", ":7000", "host:x", "host:70000", "host:-1", "::1:7000", "h:٣"),
        *("host:" + "9" * 5000, "two words:7", "a..b:7", ".lan:0", ".:7", "l" * 64 + ".lan:7", "a." * 127 + "a:7"),
        *("a\x1b[31m[/red]b\x07..c:1", "a\x1b[31mb:1", "a\u202eb:1", "\u00ad:1", "é" * 60 + ":1", "\ud800:1"),
    ],
)
def test_anything_else_is_refused_with_the_form_to_write(text: str) -> None:
    with pytest.raises(SettingsError, match="HOST:PORT"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.4", False),
        ("edge.local", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, is_loopback: bool) -> None:
    assert Address(host, 1).is_loopback is is_loopback


def test_a_port_in_use_is_named_with_the_cure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"127.0.0.1:{port}: the port is in use.*--http-listen"):
            check_listen(Address("127.0.0.1", port), "--http-listen")


def test_an_address_of_another_machine_is_named_with_the_cure() -> None:
    # 192.0.2.0/24 is reserved for documentation and belongs to nobody.
    with pytest.raises(ListenError, match="not this machine's"):
        check_listen(Address("192.0.2.1", 0), "--listen")


def test_a_host_that_nobody_knows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ListenError, match="host is unknown"):
        check_listen(Address("nowhere.invalid", 0), "--listen")


@pytest.mark.parametrize(
    ("number", "says"), [(errno.EACCES, "above 1023"), (errno.EADDRINUSE, "in use"), (errno.ENOBUFS, "choose another")]
)
def test_other_causes_have_a_cure_too(monkeypatch: pytest.MonkeyPatch, number: int, says: str) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(number, "reason")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ListenError, match=says):
        check_listen(Address("127.0.0.1", 0), "--listen")


def test_a_free_port_passes() -> None:
    check_listen(Address("127.0.0.1", 0), "--listen")
