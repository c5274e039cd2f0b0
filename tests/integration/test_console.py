"""The console over real sockets: a twin service with made-up peers, and with a real device and edge."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.testbed.process import HOST, ServiceProcess, free_ports
from tests.integration.test_twin_process import ENVIRONMENT, running_twin, twinsplit
from tests.integration.test_twin_streams import attached_device, attached_edge, running
from tests.integration.test_twin_tls import identity
from twin_service.console import server as console_server
from twin_service.console.event_stream import Broadcast
from twin_service.top.stream import events
from twinsplit.certificates.authority import Authority
from twinsplit.certificates.subject import Role, Subject
from twinsplit.errors import InsecureBindError, ListenError, SettingsError, StorageError
from twinsplit.model.manifest import manifest_digest, read_manifest
from twinsplit.model.profile import Profile, save_profile
from twinsplit.model.runtime import PROVIDERS
from twinsplit.rpc.v1 import twin_pb2
from twinsplit.transport import tls
from twinsplit.transport.channel import open_channel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models/alexnet-fashion/1"
PATIENCE_S = 20.0


class Browser:
    """Asks a console by its URL."""

    def __init__(self, url: str, *, token: str | None = None, context: ssl.SSLContext | None = None) -> None:
        scheme, _, rest = url.partition("://")
        self.place = rest.rstrip("/")
        self._is_encrypted = scheme == "https"
        self._context = context
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def ask(self, path: str, body: Any = None) -> tuple[int, bytes]:
        """One request; with a body it is a POST of JSON."""
        with contextlib.closing(self.connection()) as connection:
            headers = {**self._headers, **({} if body is None else {"Content-Type": "application/json"})}
            data = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def document(self, path: str) -> Any:
        status, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)

    def events(self) -> Iterator[Any]:
        """Snapshots as they come; ends with the stream."""
        with contextlib.closing(self.connection()) as connection:
            connection.request("GET", "/api/events", headers=self._headers)
            answer = connection.getresponse()
            assert answer.headers.get_content_type() == "text/event-stream"
            for data in events(answer):
                yield json.loads(data)

    def connection(self) -> http.client.HTTPConnection:
        if self._is_encrypted:
            return http.client.HTTPSConnection(self.place, timeout=PATIENCE_S, context=self._context)
        return http.client.HTTPConnection(self.place, timeout=PATIENCE_S)


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(function, *arguments)


def picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (32, 24), "teal").save(data, "JPEG")
    return data.getvalue()


async def test_what_devices_say_is_seen_and_what_is_desired_reaches_them(tmp_path: Path) -> None:
    async with (
        running(tmp_path, console_listen=f"{HOST}:0", rule="open-loop") as twin,
        open_channel(twin.address) as channel,
    ):
        assert twin.console is not None
        await attached_edge(channel)
        device, plan = await attached_device(channel)
        ended = twin_pb2.EndedTask(
            task_id=1,
            outcome=twin_pb2.OUTCOME_DEVICE,
            reason="not-worth-it",
            started_age_s=0.31,
            arrived_age_s=0.31,
            epoch_s=[0.11, 0.21, 0.31],
            stop_epoch=3,
            evidence=1,
            plan_id=plan.plan_id,
            label="coat",
            confidence=0.8,
            thumbnail_jpeg=picture(),
        )
        report = twin_pb2.TaskReport(ended=[ended], started=twin_pb2.StartReport(task_id=2, started_age_s=0.05))
        await device.say(task=report)
        await device.say(poll=twin_pb2.PollRequest(task_id=2))
        await device.hear("poll")
        browser = Browser(twin.console.url)
        snapshot = await in_thread(browser.document, "/api/snapshot")
        (shown,), (task,), (edge,) = snapshot["devices"], snapshot["tasks"], snapshot["edges"]
        assert (shown["id"], shown["task"]["task_id"], edge["id"]) == ("cam", 2, "edge")
        assert 0.0 < shown["task"]["position"] <= 3.0
        assert task["payoffs"]["continue_s"] > 0.0
        assert await in_thread(browser.ask, task["thumbnail"]) == (200, picture())
        for number in ("9" * 5000, "-1", "x", "99"):
            assert (await in_thread(browser.ask, f"/api/tasks/cam/{number}/thumbnail"))[0] == 404
        assert snapshot["totals"]["messages_per_task"] >= 6
        write = {"version": shown["version"], "alpha_s": 0.01}
        path = "/api/devices/cam/weights"
        assert (await in_thread(browser.ask, path, write))[0] == 401
        token = twin.console.token_path.read_text().strip()
        assert await in_thread(Browser(twin.console.url, token=token).ask, path, write) == (
            200,
            b'{"version":%d}' % (shown["version"] + 1),
        )
        core = twin.exchange.core
        assert core.devices["cam"].weights(core.planner.weights).alpha_s == 0.01
        beyond = {"version": shown["version"] + 1, "deadline_s": 1e39}
        assert (await in_thread(Browser(twin.console.url, token=token).ask, path, beyond))[0] == 400


async def test_a_stop_ends_open_streams_and_signals_stay_the_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So long it would wait for a stream that does not end by itself.
    monkeypatch.setattr(console_server, "_LAST_ANSWERS_S", 3 * PATIENCE_S)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with running(tmp_path, console_listen=f"{HOST}:0") as twin:
        assert twin.console is not None
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        browser = Browser(twin.console.url)
        events = browser.events()
        await in_thread(next, events)
        reading = asyncio.ensure_future(in_thread(list, events))
        await asyncio.sleep(0.05)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < PATIENCE_S
    await asyncio.wait_for(reading, PATIENCE_S)
    with pytest.raises(ConnectionRefusedError):
        await in_thread(browser.ask, "/")


async def test_a_reader_that_does_not_read_loses_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, console_listen=f"{HOST}:0") as twin, open_channel(twin.address) as channel:
        assert twin.console is not None
        broadcast: Broadcast = twin.console.broadcast
        broadcast.patience_s = 0.2
        monkeypatch.setattr(broadcast, "_interval_s", 0.01)
        devices = [await attached_device(channel, device_id=f"cam-{number}") for number in range(40)]
        host, _, port = Browser(twin.console.url).place.partition(":")
        with contextlib.closing(socket.socket()) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.settimeout(PATIENCE_S)
            slow.connect((host, int(port)))
            slow.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            quick = Browser(twin.console.url).events()
            deadline_s = time.monotonic() + PATIENCE_S
            seen = 0
            while broadcast.dropped == 0:
                assert time.monotonic() < deadline_s, "the slow reader is still there"
                assert len((await in_thread(next, quick))["devices"]) == len(devices)
                seen += 1
            assert seen > 2
            assert len(broadcast) == 1
            await in_thread(quick.close)
            # What lies in the buffers is still to be had; then the connection ends.
            with contextlib.suppress(ConnectionResetError):
                while await in_thread(slow.recv, 1 << 16):
                    pass


async def test_beyond_loopback_it_is_encrypted_and_asks_for_the_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_log", tls.EventLog("tls"))  # what was said before holds no line back
    authority = Authority.made()
    files = identity(tmp_path / "twin", authority, Role.TWIN, "twin")
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    settings = {"tls_ca": files.ca, "tls_cert": files.cert, "tls_key": files.key}
    async with running(tmp_path / "state", console_listen="0.0.0.0:0", **settings) as twin:
        assert twin.console is not None
        url = twin.console.url
        assert url.startswith("https://127.0.0.1:")
        token = twin.console.token_path.read_text().strip()
        assert (await in_thread(Browser(url, context=context).ask, "/"))[0] == 200
        assert (await in_thread(Browser(url, context=context).ask, "/api/snapshot"))[0] == 401
        snapshot = await in_thread(Browser(url, context=context, token=token).document, "/api/snapshot")
        assert snapshot["is_token_needed"] is True
        with pytest.raises((http.client.BadStatusLine, ConnectionResetError)):
            await in_thread(Browser(url.replace("https", "http")).ask, "/")
        # Renewed under another authority: in force from the next connection on.
        renewed = Authority.made()
        identity(tmp_path / "twin", renewed, Role.TWIN, "twin")
        other = ssl.create_default_context(cadata=renewed.certificate.decode())
        assert (await in_thread(Browser(url, context=other).ask, "/"))[0] == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            await in_thread(Browser(url, context=context).ask, "/")
        assert "certificate-not-taken" not in caplog.text
        files.key.write_bytes(authority.issue(Subject(Role.TWIN, "twin")).key)
        assert (await in_thread(Browser(url, context=other).ask, "/"))[0] == 200
        assert "certificate-not-taken" in caplog.text


def test_the_log_names_the_console_and_it_comes_back_after_a_restart(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    arguments = ("--console-listen", f"{HOST}:{port}")
    tokens = []
    for _ in range(2):
        with running_twin(tmp_path, *arguments) as twin:
            assert twin.first_line["console"] == f"http://{HOST}:{port}/"
            path = Path(twin.first_line["console_token_file"])
            assert path.parent == tmp_path
            tokens.append(path.read_text())
            events = Browser(twin.first_line["console"]).events()
            assert next(events)["devices"] == []
            shown = twinsplit("top", f"http://{HOST}:{port}", "--once")
            assert (shown.returncode, "no task has ended yet" in shown.stdout) == (0, True), shown.stderr
            twin.process.send_signal(signal.SIGTERM)
            assert twin.process.wait(PATIENCE_S) == 0
            list(events)
    assert tokens[0] == tokens[1]
    gone = twinsplit("top", f"http://{HOST}:{port}", "--once")
    assert (gone.returncode, "nobody listens there" in gone.stderr) == (5, True)


async def test_what_cannot_be_served_is_named_with_its_cure_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        in_use = f"{HOST}:{taken.getsockname()[1]}"
        for changes, error, named in (
            ({"console_listen": "0.0.0.0:0"}, InsecureBindError, "--console-insecure"),
            ({"console_listen": "somewhere"}, SettingsError, "HOST:PORT"),
            ({"console_listen": in_use}, ListenError, "in use"),
            ({"console_listen": f"{HOST}:0", "console_token_file": "/dev/null/token"}, StorageError, "token-file"),
        ):
            with pytest.raises(error, match=named):
                async with running(tmp_path, **changes):
                    pass
    async with running(tmp_path, console_listen="0.0.0.0:0", console_insecure=True) as twin:
        assert twin.console is not None
        browser = Browser(twin.console.url)
        assert (await in_thread(browser.ask, "/api/snapshot"))[0] == 401


WITHOUT_STARLETTE = """
import sys
sys.modules["starlette"] = sys.modules["uvicorn"] = None
from twinsplit.cli import main
main(["twin", "serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", *sys.argv[1:]], [])
"""


def test_only_a_console_needs_its_extra(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_STARLETTE, "--state", str(tmp_path)]
    refused = subprocess.run(
        [*command, "--console-listen", f"{HOST}:0"],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
        env=ENVIRONMENT,
    )
    assert refused.returncode == 2, refused.stderr
    assert "twinsplit[twin]" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as served:
        try:
            assert served.stderr is not None
            assert '"twin-serving"' in served.stderr.readline()
            served.terminate()
            assert served.wait(PATIENCE_S) == 0
        finally:
            served.kill()


def emulated_profile() -> Profile:
    """Times that do not depend on this machine: the device takes 60 ms for the whole network."""
    manifest, data = read_manifest(MODEL)
    return Profile(
        model_digest=manifest_digest(data),
        provider=PROVIDERS["cpu"],
        threads=1,
        machine="made up",
        repeats=1,
        segment_s=(0.0003,) * manifest.held_segments,
        exit_s=(5e-5,) * len(manifest.exits),
        encode_s={},
    )


def test_three_real_services_are_seen_at_work(tmp_path: Path) -> None:
    twin_port, twin_http, edge_port, edge_http, device_port, device_http, console_port = free_ports(7)
    twin, edge = f"{HOST}:{twin_port}", f"{HOST}:{edge_port}"
    profile = tmp_path / "profile.json"
    save_profile(emulated_profile(), profile)

    def listening(port: int, http_port: int) -> list[str]:
        return [f"--listen={HOST}:{port}", f"--http-listen={HOST}:{http_port}"]

    services = [
        ServiceProcess(
            "twin",
            [
                *("-m", "twin_service", *listening(twin_port, twin_http), f"--state={tmp_path / 'state'}"),
                f"--console-listen={HOST}:{console_port}",
            ],
            tmp_path,
            twin_http,
        ),
        ServiceProcess(
            "edge",
            ["-m", "edge", *listening(edge_port, edge_http), f"--models={MODEL}", f"--twin={twin}", "--drain-s=0"],
            tmp_path,
            edge_http,
        ),
        ServiceProcess(
            "device",
            [
                *("-m", "device", "--id=cam", *listening(device_port, device_http), f"--model={MODEL}"),
                *(f"--twin={twin}", f"--edge={edge}", f"--source=frames:{MODEL / 'frames'}", "--thumbnails"),
                *("--arrivals=periodic:20", "--emulate-slowdown=40", "--emulate-uplink-bytes-per-s=40000"),
                *(f"--profile={profile}", "--drain-s=0"),
            ],
            tmp_path,
            device_http,
        ),
    ]
    try:
        for service in services:
            service.start()
        services[0].wait_until_ready()
        browser = Browser(f"http://{HOST}:{console_port}/")
        deadline_s = time.monotonic() + 3 * PATIENCE_S
        for snapshot in browser.events():
            tasks = snapshot["tasks"]
            explained = [task for task in tasks if task["payoffs"] is not None]
            pictured = [task for task in tasks if task["thumbnail"] is not None]
            # The first tasks may end before the edge has found the twin.
            plans = [device["plan"] for device in snapshot["devices"] if device["plan"] is not None]
            if len(explained) >= 5 and pictured and snapshot["edges"] and any(plan["edge_id"] for plan in plans):
                break
            assert time.monotonic() < deadline_s, snapshot
        (device,) = snapshot["devices"]
        assert device["plan"]["edge_id"] == snapshot["edges"][0]["id"]
        assert device["model"]["whole_segments"] == 5
        status, jpeg = browser.ask(pictured[0]["thumbnail"])
        assert status == 200
        assert Image.open(io.BytesIO(jpeg)).format == "JPEG"
        assert len(jpeg) <= 4096
        answer = browser.document("/api/devices/cam/what-if?alpha_s=0.01")
        assert answer["differing"]
        for snapshot in browser.events():
            if snapshot["devices"][0]["task"] is not None:
                break
            assert time.monotonic() < deadline_s, "no task is seen under way"
    finally:
        for service in services:
            service.ask_to_stop()
        for service in services:
            service.stop()
