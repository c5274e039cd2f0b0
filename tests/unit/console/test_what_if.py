"""What if: two plans by the planner's own code, and where they differ; nothing reaches the device."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.fuzz.refusals import check_text
from tests.unit.console.asking import TOKEN, Console
from tests.unit.console.test_snapshot import assert_has, documented
from tests.unit.twin_service.made_up_twins import World
from twin_service.console.plan_rows import UNREACHABLE, bands_that_differ, runs
from twin_service.decision.evaluation import Rule
from twin_service.decision.optimising import ONE_TIME, OPEN_LOOP
from twinsplit.errors import RuleError
from twinsplit.types import Decision

PATH = "/api/devices/cam/what-if"


def console(rule: object = OPEN_LOOP) -> Console:
    world = World(rule)
    made = Console(world)
    world.attach_edge(backlog_s=0.05)
    world.attach_device()
    world.take()
    return made


def decisions(side: dict[str, object], edges_s: list[float]) -> dict[tuple[int, int, float], str]:
    """Word by epoch, evidence and lower end of the band."""
    return {
        (row["epoch"], evidence, low_s): word
        for row in side["rows"]
        for evidence in range(row["evidence"], row["evidence_last"] + 1)
        for low_s, word in zip([0.0, *edges_s], row["cells"], strict=True)
        if word is not None
    }


async def test_what_is_left_as_it_is_changes_nothing() -> None:
    made = console()
    answer = (await made.ask(PATH)).document
    assert_has(answer, documented("What if"), "what-if")
    assert answer["now"] == answer["then"]
    assert answer["differing"] == []
    assert answer["cells"] == len(answer["now"]["rows"]) * (len(answer["band_edges_s"]) + 1)


@pytest.mark.parametrize("rule", [OPEN_LOOP, ONE_TIME], ids=["open-loop", "one-time"])
@pytest.mark.parametrize(
    ("query", "changes"),
    [
        ("alpha_s=0.05", {"weights": {"alpha_s": 0.05}}),
        ("beta_s_per_joule=3", {"weights": {"beta_s_per_joule": 3.0}}),
        ("goodput_bytes_per_s=1000", {"goodput_bytes_per_s": 1000.0}),
        (
            "alpha_s=40&beta_s_per_joule=0&goodput_bytes_per_s=1e9",
            {"weights": {"alpha_s": 40.0, "beta_s_per_joule": 0.0}, "goodput_bytes_per_s": 1e9},
        ),
    ],
)
async def test_the_tables_are_the_planners_own(rule: Rule, query: str, changes: dict[str, object]) -> None:
    made = console(rule)
    core, now_s = made.world.core, made.clock.monotonic_s()
    answer = (await made.ask(f"{PATH}?{query}")).document
    now = core.planner.situation(core.devices["cam"], core.edges["edge"], now_s)
    weights = replace(now.weights, **changes.get("weights", {}))
    then = replace(now, weights=weights, **{k: v for k, v in changes.items() if k != "weights"})
    for side, situation in ((answer["now"], now), (answer["then"], then)):
        table = core.planner.rule.table(situation)
        assert side["exits_run"] == list(table.exits_run)
        assert side["alpha_s"] == situation.weights.alpha_s
        assert side["goodput_bytes_per_s"] == situation.goodput_bytes_per_s
        found = decisions(side, answer["band_edges_s"])
        assert found
        for (epoch, evidence, low_s), word in found.items():
            band = int(np.searchsorted(table.band_edges_s, low_s + 1e-12, side="right"))
            expected = Decision(table.table[epoch, evidence, answer["queue_level"], band])
            assert word == {"OFFLOAD_TENSOR": "tensor", "OFFLOAD_INPUT": "input"}.get(
                expected.name, expected.name.lower()
            )
    pairs = zip(answer["now"]["rows"], answer["then"]["rows"], strict=True)
    differing = [
        {"row": index, "band": band, "now": a, "then": b}
        for index, (row_now, row_then) in enumerate(pairs)
        for band, (a, b) in enumerate(zip(row_now["cells"], row_then["cells"], strict=True))
        if a != b
    ]
    assert answer["differing"] == differing
    assert differing


async def test_the_device_notices_nothing() -> None:
    made = console()
    world = made.world
    standing, version = world.core.devices["cam"].standing, world.core.archive.document("cam").version
    weighed, changes = world.core.planner.weighed, world.core.changes
    for alpha_s in (0.1, 1, 10):
        assert (await made.ask(f"{PATH}?alpha_s={alpha_s}")).status == 200
    world.run()
    assert world.take() == []
    assert world.core.devices["cam"].standing is standing
    assert world.core.archive.document("cam").version == version
    assert (world.core.planner.weighed, world.core.changes) == (weighed, changes)


@pytest.mark.parametrize(
    "query",
    [
        "alpha_s=nan",
        "alpha_s=inf",
        "alpha_s=-1",
        "alpha_s=1001",
        "alpha_s=",
        "alpha_s=x",
        "beta_s_per_joule=1e9",
        "goodput_bytes_per_s=0",
        "goodput_bytes_per_s=1e13",
        "alpha_s=1&alpha_s=2",
        "speed=3",
    ],
)
async def test_values_that_do_not_fit_are_refused_by_name(query: str) -> None:
    answer = await console().ask(f"{PATH}?{query}")
    assert (answer.status, answer.code) == (400, "bad-request")


async def test_a_device_without_a_plan_has_no_what_if() -> None:
    made = console()
    assert (await made.ask("/api/devices/nobody/what-if")).code == "unknown-twin"
    made.world.core.detach_device("cam", made.world.streams["cam"])
    answer = await made.ask(PATH)
    assert (answer.status, answer.code) == (409, "no-plan")


async def test_planning_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    made = console()
    monkeypatch.setattr("twin_service.console.app.what_if", lambda *_: made.clock.advance(0.03) or {})
    statuses = [(await made.ask(PATH)).status for _ in range(12)]
    assert statuses == [200] * 8 + [429] * 4
    refused = await made.ask(PATH)
    assert (refused.code, refused.headers["retry-after"]) == ("too-many-requests", "1")
    made.clock.advance(0.5)
    assert [(await made.ask(PATH)).status for _ in range(3)] == [200, 200, 429]
    assert (await made.ask(f"{PATH}?alpha_s=x")).status == 400


async def test_a_rule_that_fails_is_named_and_only_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        name = "failing"

        def evaluate(self, situations: object) -> list[object]:
            raise RuleError("rule 'failing' at epoch 1", "raised OSError: no /srv/secret at 0x7f")

    made = console()
    made.world.core.planner.rule = Failing()
    answer = await made.ask(PATH)
    assert (answer.status, answer.code) == (409, "rule-failed")
    text = answer.document["error"]["text"]
    check_text(text)
    assert text.startswith("rule 'failing' at epoch 1: it failed")
    (line,) = [record for record in caplog.records if record.getMessage() == "rule-failed"]
    assert vars(line)["fields"]["cause"] == "rule 'failing' at epoch 1: raised OSError: no /srv/secret at 0x7f"


async def test_a_deadline_is_kept() -> None:
    made = console()
    made.world.core.planner.weights = replace(made.world.core.planner.weights, deadline_s=0.25)
    answer = (await made.ask(f"{PATH}?alpha_s=9")).document
    assert answer["now"]["deadline_s"] == answer["then"]["deadline_s"] == 0.25
    assert answer["then"]["alpha_s"] == 9.0


def test_bands_at_which_nothing_changes_are_left_out() -> None:
    cells = np.array([[[0, 0, 2, 2]], [[3, 3, 3, 0]]], dtype=np.uint8)
    found, edges_s = bands_that_differ(cells, (0.1, 0.2, 0.3))
    assert found.tolist() == [[[0, 2, 2]], [[3, 3, 0]]]
    assert edges_s == [0.2, 0.3]
    same, none = bands_that_differ(cells[..., :1], ())
    assert (same.tolist(), none) == ([[[0]], [[3]]], [])


def test_states_that_are_decided_alike_share_a_row() -> None:
    never = UNREACHABLE
    cells = np.array([[[0, 0], [never, never], [1, 1], [1, 1], [1, 0]]], dtype=np.uint8)
    assert runs(cells) == [(0, 0, 0), (0, 2, 3), (0, 4, 4)]


async def test_weights_are_written_by_the_documents_own_rules() -> None:
    made = console()
    path = "/api/devices/cam/weights"

    async def write(body: object, **more: object) -> tuple[int, str]:
        answer = await made.ask(path, "POST", token=TOKEN, body=body, **more)
        return answer.status, answer.document.get("version") or answer.code

    assert await write({"version": 1, "alpha_s": 0.01}) == (200, 2)
    made.world.run()
    assert made.world.core.devices["cam"].weights(made.world.core.planner.weights).alpha_s == 0.01
    assert made.world.take(), "a plan that is worth so much goes out"
    assert await write({"version": 1, "alpha_s": 0.02}) == (409, "stale-write")
    for body in (
        {"version": 2, "alpha_s": -1},
        {"version": 2, "alpha_s": math.inf},
        {"version": 2, "alpha_s": math.nan},
        {"version": 2, "alpha_s": 10**400},
        {"version": 2, "alpha_s": "1"},
        {"version": 2, "alpha_s": True},
        {"version": 2, "alpha_s": None},
        {"version": 2, "gamma_s": 1},
        {"version": 2},
        {"version": "2", "alpha_s": 1},
        {"version": True, "alpha_s": 1},
        {"alpha_s": 1},
        [],
        "x",
    ):
        assert await write(body) == (400, "bad-request"), body
    for raw in (b"", b"{", b"\xff", b"[" * 3000):
        assert await write(None, raw=raw) == (400, "bad-request")
    assert await write(None, raw=b" " * 5000) == (413, "oversize")
    assert await write({"version": 2, "alpha_s": 1}, headers={"content-type": "text/plain"}) == (400, "bad-request")
    assert (
        await made.ask("/api/devices/nobody/weights", "POST", token=TOKEN, body={"version": 0, "alpha_s": 1})
    ).code == ("unknown-twin")
    assert await write({"version": 2, "deadline_s": 0, "beta_s_per_joule": 0.1}) == (200, 3)
