"""What a terminal shows of a snapshot: all of it where there is room, the most of it in 80 by 24."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
from rich.console import Console

from tests.unit.console.test_snapshot import documented
from twin_service.top.screen import BacklogHistory, screen
from twin_service.top.strip import WIDTH, strip

URL = "http://127.0.0.1:8080"


def snapshot(devices: int = 1, edges: int = 1, tasks: int = 1) -> dict[str, Any]:
    """The document's example, multiplied."""
    example: dict[str, Any] = copy.deepcopy(documented("Snapshot"))
    for name, count in (("devices", devices), ("edges", edges), ("tasks", tasks)):
        example[name] = [{**copy.deepcopy(example[name][0])} for _ in range(count)]
        for number, element in enumerate(example[name]):
            if name != "tasks":
                element["id"] = f"{element['id']}-{number}"
    example["devices_total"] = devices
    return example


def shown(of: dict[str, Any], *, width: int = 80, height: int | None = None, trouble: str = "") -> list[str]:
    """Lines on a terminal of this size."""
    terminal = Console(width=width, height=height or 200, file=io.StringIO(), color_system=None)
    history = BacklogHistory()
    history.add(of)
    with terminal.capture() as captured:
        terminal.print(screen(of, history, url=URL, height=height, trouble=trouble))
    return captured.get().splitlines()


def test_everything_that_matters_is_there() -> None:
    text = "\n".join(shown(snapshot()))
    for word in (
        URL,
        "multi-step",
        "1412 tasks",
        "88.3% right",
        "171 ms, p95 420 ms",
        "0.27 J per task (model)",
        "2.30 messages per task",
        "exit 64%",
        "camera-1-0",
        "20.1 kB/s",
        "97.0%",
        "plan 41, backlog 31 ms: after 1 tensor",
        "edge-0",
        "40 ms",
        "Coat",
        "edge, cut 2",
        "141 ms",
        "1.61 / - / 1.73",
    ):
        assert word in text, word


@pytest.mark.parametrize(("devices", "edges", "tasks"), [(0, 0, 0), (1, 1, 0), (2, 1, 50), (60, 1, 50), (3, 40, 50)])
@pytest.mark.parametrize("trouble", ["", "no connection, trying again in 2 s: " + "nobody listens there " * 10])
def test_it_fits_into_the_terminal(devices: int, edges: int, tasks: int, trouble: str) -> None:
    lines = shown(snapshot(devices, edges, tasks), height=24, trouble=trouble)
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)
    if devices == 60:
        assert any("more devices" in line for line in lines)
    if tasks and devices <= 2:
        assert sum("Coat" in line for line in lines) >= 6
    assert not trouble or any("trying again in 2 s" in line for line in lines)


def test_unknown_numbers_are_shown_as_unknown() -> None:
    of = snapshot(devices=2)
    for device in of["devices"]:
        device.update(model=None, task=None, queue_length=None, uplink=None, plan=None)
        device["mirror"] = {"accuracy": None, "report_age_s": None}
    of["devices"][1]["is_attached"] = False
    of["edges"][0].update(predicted_backlog_s=None, speed_factor=None, busy_share=None, queue_length=None)
    of["tasks"][0].update(payoffs=None, label=None, confidence=None, outcome="dropped", payload=None, exit=None)
    of["totals"].update(energy_joules=None, energy_source=None, latency_p95_s=None, tasks=0, outcomes={})
    text = "\n".join(shown(of))
    assert "None" not in text
    for word in ("no manifest yet", "no plan stands", "detached", "no task has ended yet", "energy unknown", "dropped"):
        assert word in text, word


def test_what_others_write_is_text_and_nothing_else() -> None:
    of = snapshot()
    of["tasks"][0]["label"] = "\x1b[31m[bold]x"
    lines = shown(of)
    assert not any("\x1b" in line for line in lines)
    assert any("?[31m[bo" in line for line in lines)


def test_a_backlog_is_drawn_over_time() -> None:
    history = BacklogHistory()
    for backlog_s in (0.0, 0.1, 0.2, None, 0.1):
        history.add({"edges": [{"id": "edge", "predicted_backlog_s": backlog_s}]})
    assert history.curve("edge") == "▁▅█▅"
    assert history.curve("other") == ""
    for _ in range(100):
        history.add({"edges": [{"id": "edge", "predicted_backlog_s": 0.0}]})
    assert history.curve("edge") == "▁" * 24


def model(segments: int, exits: dict[int, bool] | None = None) -> dict[str, Any]:
    return {
        "segments": [{"index": index} for index in range(segments)],
        "exits": [{"after_segment": after, "is_run": is_run} for after, is_run in (exits or {}).items()],
    }


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (None, "    ◆    ◇    │"),
        (0.0, "    ◆    ◇    │"),
        (0.5, "██  ◆    ◇    │"),
        (1.0, "████◆    ◇    │"),
        (1.625, "████◆██▌ ◇    │"),
        (3.0, "████◆████◇████│"),
    ],
)
def test_a_task_fills_its_segments(position: float | None, expected: str) -> None:
    task = None if position is None else {"position": position}
    assert strip(model(3, {1: True, 2: False}), task, width=15).plain == expected


@pytest.mark.parametrize("segments", [1, 2, 5, 12, 13, 26, 40, 200])
def test_a_strip_is_never_wider_than_its_place(segments: int) -> None:
    for share in (0.0, 0.3, 1.0):
        drawn = strip(model(segments), {"position": share * segments}).plain
        assert 0 < len(drawn) <= WIDTH
        assert (drawn.count("█") == 0) == (share == 0.0)
