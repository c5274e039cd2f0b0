"""The HTTP side: metrics from state at scrape, health and readiness, and nothing else."""

import asyncio
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from twinsplit.errors import ListenError, SettingsError
from twinsplit.telemetry import exposition
from twinsplit.telemetry.exposition import Exposition, Sample, StateCollector, start_exposition
from twinsplit.telemetry.histogram import Histogram

Start = Callable[..., Exposition]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Exposition] = []

    def start_one(read: Callable[[], Iterable[Sample]] = list, **options: Any) -> Exposition:
        running.append(start_exposition("device", "127.0.0.1:0", read, **options))
        return running[-1]

    yield start_one
    for one in running:
        one.stop()


def _get(server: Exposition, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://{server.address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def _samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def test_values_are_read_from_state_at_each_scrape(start: Start) -> None:
    state = {"queue": 1}
    server = start(lambda: [("twinsplit_queue_length", {}, state["queue"])])
    for expected in (1, 5):
        state["queue"] = expected
        status, text = _get(server, "/metrics")
        assert status == 200
        assert _samples(text)["twinsplit_queue_length"] == [({}, float(expected))]


def test_counters_gauges_and_histograms_have_their_prometheus_form(start: Start) -> None:
    histogram = Histogram.of("twinsplit_stage_seconds")
    histogram.observe(0.004)

    def read() -> Iterator[Sample]:
        yield "twinsplit_tasks_total", {"outcome": "edge"}, 3
        yield "twinsplit_tasks_total", {"outcome": "exit"}, 4
        yield "twinsplit_stage_seconds", {"stage": "upload"}, histogram

    found = _samples(_get(start(read), "/metrics")[1])
    assert found["twinsplit_tasks_total"] == [({"outcome": "edge"}, 3.0), ({"outcome": "exit"}, 4.0)]
    assert ({"stage": "upload", "le": "0.005"}, 1.0) in found["twinsplit_stage_seconds_bucket"]
    assert found["twinsplit_stage_seconds_sum"] == [({"stage": "upload"}, 0.004)]


def test_what_is_not_known_is_no_series(start: Start) -> None:
    text = _get(start(lambda: [("twinsplit_uplink_goodput_bytes_per_second", {}, None)]), "/metrics")[1]
    assert "goodput" not in text


def test_process_metrics_are_there_without_asking(start: Start) -> None:
    assert "twinsplit_process_resident_memory_bytes" in _samples(_get(start(), "/metrics")[1])


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        (("twinsplit_made_up", {}, 1.0), "not in the catalogue"),
        (("twinsplit_backlog_seconds", {}, 1.0), "not in the catalogue for device"),
        (("twinsplit_tasks_total", {}, 1.0), "has labels"),
        (("twinsplit_tasks_total", {"outcome": "edge", "task": "7"}, 1.0), "has labels"),
        (("twinsplit_queue_length", {}, Histogram((1.0,))), "is a gauge"),
        (("twinsplit_stage_seconds", {"stage": "queue"}, 1.0), "is a histogram"),
    ],
)
def test_a_sample_outside_the_catalogue_is_a_defect(sample: Sample, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        list(StateCollector("device", lambda: [sample]).collect())


def test_a_defect_of_the_state_is_logged_and_the_server_goes_on(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    def read() -> Iterator[Sample]:
        raise ZeroDivisionError
        yield

    server = start(read)
    assert _get(server, "/metrics")[0] == 500
    assert [record.getMessage() for record in caplog.records] == ["state-unreadable"]
    assert _get(server, "/healthz") == (200, "ok\n")


def test_readiness_gives_its_reason_and_health_does_not_depend_on_it(start: Start) -> None:
    reasons: list[str | None] = ["no model loaded yet", None]
    server = start(unready_reason=lambda: reasons[0])
    assert _get(server, "/readyz") == (503, "no model loaded yet\n")
    assert _get(server, "/healthz") == (200, "ok\n")
    del reasons[0]
    assert _get(server, "/readyz") == (200, "ok\n")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/twins", "/healthz/x", "/../metrics"])
def test_there_is_nothing_else(start: Start, path: str) -> None:
    assert _get(start(), path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(start: Start, method: str) -> None:
    assert _get(start(), "/metrics", method)[0] == 405


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_a_head_request_has_no_body(start: Start, path: str) -> None:
    host, port = start().address.split(":")
    with socket.create_connection((host, int(port)), 20.0) as connection:
        connection.sendall(f"HEAD {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert b" 200 OK\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_state_is_read_on_the_services_loop(start: Start) -> None:
    threads: set[int] = set()

    def read() -> list[Sample]:
        threads.add(threading.get_ident())
        return []

    server = start(read, loop=asyncio.get_running_loop())
    assert (await asyncio.to_thread(_get, server, "/metrics"))[0] == 200
    assert threads == {threading.get_ident()}


def test_a_loop_that_hangs_is_unhealthy(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "LOOP_PATIENCE_S", 0.02)
    release = threading.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    loop.call_soon_threadsafe(release.wait)
    try:
        server = start(loop=loop)
        for path in ("/healthz", "/readyz", "/metrics"):
            assert _get(server, path) == (503, "the service's event loop does not answer\n")
    finally:
        release.set()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert _get(server, "/healthz")[0] == 503


def test_a_port_in_use_is_a_start_up_error(start: Start) -> None:
    address = start().address
    with pytest.raises(ListenError, match=f"{address}: the port is in use.*--http-listen"):
        start_exposition("edge", address, list)


def test_an_impossible_address_is_a_settings_error() -> None:
    with pytest.raises(SettingsError):
        start_exposition("edge", "nowhere", list)


def test_ipv6_is_served_where_the_machine_has_it() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        with pytest.raises(ListenError):
            start_exposition("edge", "[::1]:0", list)
        return
    server = start_exposition("edge", "[::1]:0", list)
    try:
        assert server.address.startswith("[::1]:")
        assert _get(server, "/healthz")[0] == 200
    finally:
        server.stop()


def test_a_client_that_leaves_at_once_disturbs_nobody(start: Start) -> None:
    server = start()
    host, port = server.address.split(":")
    socket.create_connection((host, int(port))).close()
    assert _get(server, "/healthz")[0] == 200
