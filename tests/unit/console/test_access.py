"""Who may do what: every path with no, a wrong and the right token, on loopback and beyond."""

from __future__ import annotations

import pytest
from starlette.routing import Match

from tests.unit.console.asking import TOKEN, Console
from tests.unit.twin_service.made_up_twins import World
from twin_service.console.access import Access, Need, host_name
from twin_service.console.request_errors import RequestError, RequestErrorCode

LOOPBACK = {"is_loopback": True}
BEYOND = {"is_loopback": False}
ANONYMOUS = {"is_loopback": False, "has_anonymous_reads": True}
ENCRYPTED = {"is_loopback": False, "is_encrypted": True}
PLACES = {"loopback": LOOPBACK, "beyond": BEYOND, "anonymous": ANONYMOUS, "encrypted": ENCRYPTED}

PAGES = ["/", "/static/index.html"]
READS = {"/api/snapshot": 200, "/api/devices/cam/what-if": 200, "/api/tasks/cam/7/thumbnail": 404}
WEIGHTS = "/api/devices/cam/weights"
WRONG = "w" * 24


def world() -> World:
    world = World()
    world.attach_edge()
    world.attach_device()
    return world


def test_every_route_of_the_console_is_tried_below() -> None:
    tried = [*PAGES, *READS, "/api/events", WEIGHTS]
    for route in Console(world()).app.routes:
        assert any(
            route.matches({"type": "http", "path": path, "method": "GET"})[0] is not Match.NONE for path in tried
        ), route.path


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("token", [None, WRONG, TOKEN], ids=["no token", "wrong token", "token"])
async def test_every_path_lets_in_who_may_come_in(place: str, token: str | None) -> None:
    console = Console(world(), **PLACES[place])
    is_open = place in ("loopback", "anonymous")
    refused = {None: (401, "token-missing"), WRONG: (403, "token-wrong"), TOKEN: None}[token]
    for path in PAGES:
        assert (await console.ask(path, token=token)).status == 200, path
    for path, status in READS.items():
        answer = await console.ask(path, token=token)
        if is_open or refused is None:
            assert answer.status == status, path
        else:
            assert (answer.status, answer.code) == refused, path
    head = await console.ask("/api/events", "HEAD", token=token)
    assert head.status == (200 if is_open or refused is None else refused[0])
    if not is_open and refused is not None:
        events = await console.ask("/api/events", token=token)
        assert (events.status, events.code) == refused
    for method in ("POST", "PUT", "DELETE"):
        for path in ("/", "/api/snapshot", "/api/nothing"):
            answer = await console.ask(path, method, token=token)
            assert answer.status == (refused[0] if refused else 404 if path == "/api/nothing" else 405), (method, path)
    answer = await console.ask(WEIGHTS, "POST", token=token, body={"version": 1, "alpha_s": 1.0})
    if refused is None:
        assert (answer.status, answer.document) == (200, {"version": 2})
    else:
        assert (answer.status, answer.code) == refused
        assert console.world.core.archive.document("cam").version == 1
    assert (await console.ask("/api/snapshot", token=TOKEN)).document["is_token_needed"] is not is_open


@pytest.mark.parametrize(
    ("place", "host", "is_allowed"),
    [
        ("loopback", "127.0.0.1:8080", True),
        ("loopback", "localhost", True),
        ("loopback", "LOCALHOST:8080", True),
        ("loopback", "[::1]:8080", True),
        ("loopback", "127.9.9.9", True),
        ("loopback", "evil.example", False),
        ("loopback", "127.0.0.1.evil.example:8080", False),
        ("loopback", "192.168.1.5:8080", False),
        ("loopback", "", False),
        ("loopback", None, False),
        ("anonymous", "192.168.1.5:8080", True),
        ("anonymous", "127.0.0.1:8080", True),
        ("anonymous", "evil.example:8080", False),
        ("anonymous", "twin.example:8080", True),
        ("encrypted", "evil.example", True),
    ],
)
@pytest.mark.parametrize("path", ["/", "/static/index.html", "/api/snapshot"])
async def test_a_foreign_name_does_not_lead_here(place: str, host: str | None, is_allowed: bool, path: str) -> None:
    console = Console(world(), hosts=frozenset({"twin.example"}), **PLACES[place])
    answer = await console.ask(path, host=host, token=TOKEN)
    assert answer.status == (200 if is_allowed else 403)
    assert is_allowed or answer.code == "host-not-allowed"


async def test_a_browser_that_asks_for_another_site_is_refused() -> None:
    console = Console(world())
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        answer = await console.ask("/api/snapshot", headers={"sec-fetch-site": site})
        assert answer.status == status
    assert (await console.ask("/", headers={"sec-fetch-site": "cross-site"})).status == 200


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"]
)
def test_only_the_token_is_the_token(header: str) -> None:
    access = Access(TOKEN, is_loopback=True, is_encrypted=False, has_anonymous_reads=False)
    with pytest.raises(RequestError):
        access.check(Need.CHANGE, host="localhost", authorization=header)
    access.check(Need.CHANGE, host="localhost", authorization=f"bearer {TOKEN}")


@pytest.mark.parametrize("path", ["/", "/static/index.html", "/api/snapshot", "/api/nothing", "/nothing"])
async def test_every_answer_keeps_browsers_inside(path: str) -> None:
    headers = (await Console(world()).ask(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert all(word not in policy for word in ("http", "*", "unsafe"))
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers
    assert headers["cache-control"] == ("no-store" if path.startswith("/api/") else "no-cache")


def test_names_are_read_out_of_host_headers() -> None:
    assert [host_name(text) for text in ("A.b:1", "a", "[::1]:5", "[::1]", "::1", " a:1 ")] == [
        "a.b",
        "a",
        "::1",
        "::1",
        "::1",
        "a",
    ]


def test_every_refusal_has_a_name_of_its_own() -> None:
    texts = [code.text for code in RequestErrorCode]
    assert len(set(texts)) == len(texts)
    assert all(400 <= code.status < 600 for code in RequestErrorCode)
