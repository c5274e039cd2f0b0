"""One event per line: text for people, JSON for machines, repeats held back and counted."""

import io
import json
import logging
import math
import sys
import threading
import warnings
from pathlib import Path

import pytest

from twinsplit.clock import ManualClock
from twinsplit.telemetry.logs import MOST_LIMITED, EventLog, configure_logging, is_json


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_elsewhere_than_on_a_terminal_each_line_is_json() -> None:
    stream = io.StringIO()
    configure_logging("info", "auto", stream)
    EventLog("device").warning("edge-lost", edge="10.0.0.2:7000", after_s=0.25, path=Path("x"))
    (line,) = _lines(stream)
    assert str(line.pop("time")).endswith("Z")
    assert line == {
        "level": "warning",
        "part": "device",
        "event": "edge-lost",
        "edge": "10.0.0.2:7000",
        "after_s": 0.25,
        "path": "x",
    }


def test_on_a_terminal_each_line_is_text() -> None:
    stream = _Terminal()
    configure_logging("info", "auto", stream)
    EventLog("device").info("plan-obeyed", rule="multi-step", lease_s=1 / 3, note='said "no"', nothing="")
    line = stream.getvalue()
    assert "INFO" in line
    assert line.endswith('device: plan-obeyed rule=multi-step lease_s=0.333333 note="said \\"no\\"" nothing=""\n')


@pytest.mark.parametrize("text", ["a\x1b[31mred", "\x07", "\x9b2J", "\x7f", "over\rwritten", "a\u202eb", "two\nlines"])
def test_what_a_peer_said_never_commands_the_terminal(text: str) -> None:
    stream = _Terminal()
    configure_logging("info", "text", stream)
    EventLog("twin").info("edge-attached", version=text, place="Zürich")
    line = stream.getvalue()
    assert line.removesuffix("\n").isprintable()
    assert f"version={json.dumps(text)} place=Zürich\n" in line


@pytest.mark.parametrize(("form", "begins"), [("text", ""), ("json", "{")])
def test_the_form_can_be_chosen(form: str, begins: str) -> None:
    stream = _Terminal() if form == "json" else io.StringIO()
    configure_logging("info", form, stream)
    EventLog("edge").info("started")
    assert stream.getvalue().startswith(begins)
    assert ("{" in stream.getvalue()) == (form == "json")


@pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_the_least_severe_that_is_written(level: str, expected: int) -> None:
    stream = io.StringIO()
    configure_logging(level, "json", stream)
    log = EventLog("device")
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert len(_lines(stream)) == expected


def test_other_libraries_are_heard_from_warnings_on() -> None:
    stream = io.StringIO()
    configure_logging("debug", "json", stream)
    logging.getLogger("chatty.part").info("chatter")
    logging.getLogger("chatty.part").warning("trouble")
    assert [(line["part"], line["event"], line["text"]) for line in _lines(stream)] == [
        ("chatty.part", "from-library", "trouble")
    ]
    stream = _Terminal()
    configure_logging("debug", "auto", stream)
    logging.getLogger("chatty.part").warning("in %d lines\n", 2)
    assert stream.getvalue().endswith('chatty.part: from-library text="in 2 lines\\n"\n')


def test_a_field_never_replaces_what_every_line_has() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    EventLog("device").info("odd", level="mine", time=0)
    assert (_lines(stream)[0]["level"], _lines(stream)[0]["event"]) == ("info", "odd")


def test_repeats_are_held_back_and_counted() -> None:
    stream, clock = io.StringIO(), ManualClock()
    configure_logging("info", "json", stream)
    log = EventLog("device", clock)
    for _ in range(5):
        log.warning("edge-lost", limit_s=10.0)
        clock.advance(1.0)
    clock.advance(5.0)
    log.warning("edge-lost", limit_s=10.0)
    assert [line.get("left_out") for line in _lines(stream)] == [None, 4]


def test_repeats_are_held_back_apart_by_event_and_key() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    log = EventLog("device", ManualClock())
    for edge in ("a", "b", "a"):
        log.warning("edge-lost", limit_s=10.0, limit_key=edge, edge=edge)
    log.warning("twin-lost", limit_s=10.0)
    assert [(line["event"], line.get("edge")) for line in _lines(stream)] == [
        ("edge-lost", "a"),
        ("edge-lost", "b"),
        ("twin-lost", None),
    ]


def test_of_very_many_keys_the_one_written_longest_ago_is_forgotten() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    clock = ManualClock()
    log = EventLog("twin", clock)

    def refused(peer: int, limit_s: float = 10.0) -> None:
        log.warning("message-refused", limit_s=limit_s, limit_key=str(peer), peer=peer)

    for peer in range(MOST_LIMITED):
        refused(peer)
        refused(peer)
    clock.advance(5.0)
    refused(0, limit_s=1.0)
    refused(MOST_LIMITED)
    stream.truncate(0)
    stream.seek(0)
    for peer in (0, 2, 1):
        refused(peer)
    (line,) = _lines(stream)
    assert line["peer"] == 1
    assert "left_out" not in line


def test_a_defect_that_repeats_is_held_back_apart_by_its_type() -> None:
    stream, clock = io.StringIO(), ManualClock()
    configure_logging("info", "json", stream)
    log = EventLog("edge", clock)
    for error in (ValueError("a"), ValueError("b"), KeyError("c"), ValueError("d")):
        log.exception("tail-failed", error)
    clock.advance(10.0)
    log.exception("tail-failed", ValueError("e"))
    found = [(str(line["traceback"])[:10], line.get("left_out")) for line in _lines(stream)]
    assert found == [("ValueError", None), ("KeyError: ", None), ("ValueError", 2)]


def test_what_python_itself_writes_comes_as_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("info", "json")
    warnings.showwarning("old\nways", DeprecationWarning, "module.py", 3)
    thread = threading.Thread(target=lambda: 1 / 0, name="worker")
    thread.start()
    thread.join()
    sys.excepthook(KeyError, KeyError("lost"), None)
    warned, thread_crashed, crashed = _lines(stream)
    assert (warned["part"], warned["event"]) == ("py.warnings", "from-library")
    assert "DeprecationWarning: old" in str(warned["text"])
    assert (thread_crashed["event"], thread_crashed["thread"]) == ("thread-crashed", "worker")
    assert "ZeroDivisionError" in str(thread_crashed["traceback"])
    assert (crashed["event"], crashed["level"]) == ("crashed", "critical")


def test_numbers_that_json_does_not_have_are_words() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    EventLog("device").info("odd", a=math.inf, b=math.nan, c=1.5)
    (line,) = _lines(stream)
    assert (line["a"], line["b"], line["c"]) == ("inf", "nan", 1.5)
    assert "Infinity" not in stream.getvalue()


@pytest.mark.parametrize(("form", "expected"), [("json", True), ("text", False)])
def test_a_process_knows_for_whom_it_logs(form: str, expected: bool) -> None:
    configure_logging("info", form, io.StringIO())
    assert is_json() is expected


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_defect_is_written_with_its_traceback(form: str) -> None:
    stream = io.StringIO()
    configure_logging("info", form, stream)
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError as error:
        EventLog("edge").exception("tail-failed", error, cut=3)
    assert "ZeroDivisionError: why" in stream.getvalue()
    assert "tail-failed" in stream.getvalue()


def test_configuring_twice_writes_once() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging("info", "json", first)
    configure_logging("info", "json", second)
    EventLog("edge").info("started")
    assert (len(_lines(first)), len(_lines(second))) == (0, 1)
