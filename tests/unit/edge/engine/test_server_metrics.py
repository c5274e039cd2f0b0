from __future__ import annotations

import socket
import threading

import pytest

from edge.engine.server_metrics import check_page, mean_wait_s, read_page, reading_of
from twinsplit.errors import SettingsError

PAGE = """\
# HELP nv_inference_request_success Number of successful inference requests
# TYPE nv_inference_request_success counter
nv_inference_request_success{{model="net.from_cut_1",version="1"}} {answered}
nv_inference_request_success{{model="net.segment_1",version="1"}} 1000
# TYPE nv_inference_queue_duration_us counter
nv_inference_queue_duration_us{{model="net.from_cut_1",version="1"}} 0
nv_inference_queue_duration_us{{model="net.segment_1",version="1"}} {queue_us}
"""
PENDING = """\
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="net.segment_1",version="1"} 3
nv_inference_pending_request_count{model="net.segment_2",version="1"} 2
"""
ASKED = {"net", "net.from_cut_1"}


def test_requests_that_wait_are_those_of_all_models() -> None:
    reading = reading_of(PAGE.format(answered=1, queue_us=0) + PENDING, ASKED)
    assert reading is not None
    assert reading.pending == 5.0


def test_the_mean_wait_is_that_of_the_tails_that_were_asked_for_since_the_last_look() -> None:
    before = reading_of(PAGE.format(answered=100, queue_us=1e6), ASKED)
    after = reading_of(PAGE.format(answered=110, queue_us=1.5e6), ASKED)
    assert before is not None
    assert after is not None
    assert before.pending is None
    assert mean_wait_s(before, after) == pytest.approx(0.05)
    assert mean_wait_s(after, after) is None
    begun_anew = reading_of(PAGE.format(answered=120, queue_us=0), ASKED)
    assert begun_anew is not None
    assert mean_wait_s(after, begun_anew) is None


@pytest.mark.parametrize("text", ["", "up 1\n", "no page at all {", "<html></html>"])
def test_a_page_that_says_nothing_of_a_queue_teaches_nothing(text: str) -> None:
    assert reading_of(text, ASKED) is None


def test_a_page_that_does_not_answer_is_none() -> None:
    assert read_page("http://127.0.0.1:1/metrics") is None


@pytest.mark.parametrize("said", [b"", b"garbage\r\n\r\n"])
def test_a_server_that_speaks_no_http_has_no_page(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_answer_once, args=(server, said))
        thread.start()
        assert read_page(f"http://127.0.0.1:{server.getsockname()[1]}/metrics") is None
        thread.join()


def _answer_once(server: socket.socket, said: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(said)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "127.0.0.1:8002", "ftp://a/b"])
def test_only_http_is_a_page(url: str) -> None:
    with pytest.raises(SettingsError, match="is no page"):
        check_page(url)
