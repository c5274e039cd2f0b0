"""The console's page in Chromium, on the three real services under load."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.system.browser import Browser, chromium
from tests.system.console_crowd import MARKUP, Crowd
from tests.system.live_services import LiveServices, live_services

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.timeout(400)]

DESK = (1440, 900)
PHONE = (360, 740)
ALPHA = "what-if-alpha-s"
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

REFUSED = ("the server responded with a status of 401", "the server responded with a status of 403")
NO_TWIN = "Failed to load resource: net::ERR_"
"""What a browser itself says of a service that is not there, or went away in the middle of an answer."""

Move = TypeVar("Move", float, str)

SHOWN = """
document.querySelector("#device-title").textContent === "camera-1" &&
document.querySelectorAll(".plan tbody tr").length > 1 &&
document.querySelectorAll("#feed .task").length > 3 &&
document.querySelector(".edge-chart canvas") !== null
"""
MARKER = 'document.querySelector(".strip-large .strip-predicted")'
CURVE = """
const probe = new OffscreenCanvas(1, 1).getContext("2d");
probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--edge");
probe.fillRect(0, 0, 1, 1);
const wanted = probe.getImageData(0, 0, 1, 1).data;
const canvas = document.querySelector(".edge-chart canvas");
const plot = document.querySelector(".edge-chart .u-over").getBoundingClientRect();
const left = Math.ceil(plot.left - canvas.getBoundingClientRect().left);
const { data, width, height } = canvas.getContext("2d").getImageData(left, 0, Math.floor(plot.width), canvas.height);
const isDrawn = (x) => [...Array(height).keys()].some((y) =>
  wanted.every((part, index) => Math.abs(part - data[4 * (y * width + x) + index]) < 40));
return [120 * (1 - [...Array(width).keys()].findIndex(isDrawn) / width), performance.now() / 1000];
"""
"""How long ago the curve of the first edge's backlog begins, and the page was opened."""
SAMPLED_MOTION = f"""
const seen = [];
const until = performance.now() + 3000;
while (performance.now() < until) {{
  await new Promise((resolve) => setTimeout(resolve, 25));
  const marker = {MARKER};
  seen.push(marker.hidden ? null : Number(marker.style.getPropertyValue("--share")));
}}
return seen;
"""


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServices]:
    with live_services(tmp_path_factory.mktemp("services")) as running:
        yield running


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(services: LiveServices, tab: Browser) -> Iterator[Browser]:
    """The page on a desk, showing camera-1. Whatever a test does: nothing from outside is ever asked for, and no error
    is left that it did not expect."""
    tab.prefer()
    tab.size(*DESK)
    tab.open("about:blank")
    tab.requests()
    tab.open(f"{services.console}#device=camera-1")
    tab.wait_for(SHOWN, timeout_s=120)
    yield tab
    asked = [url for url in tab.requests() if not url.startswith(("about:", "chrome:"))]
    assert asked
    assert [url for url in asked if not url.startswith(services.console)] == []
    assert tab.errors() == []


def _chosen(services: LiveServices) -> dict[str, Any]:
    return next(device for device in services.snapshot()["devices"] if device["id"] == "camera-1")


def _move_slider(page: Browser, name: str, position: float) -> None:
    page.run(
        'const slider = document.getElementById(args[0]); slider.value = String(args[1]);'
        'slider.dispatchEvent(new Event("input", { bubbles: true }));',
        name, position,
    )  # fmt: skip


def _ask_for_another_plan(page: Browser) -> None:
    _move_until_cells_change(page, (-1, 1, -0.5, 0.5), lambda position: _move_slider(page, ALPHA, position))


def _move_until_cells_change(page: Browser, moves: Iterable[Move], move: Callable[[Move], None]) -> None:
    """Moves alpha until cells differ: how many do depends on how the machine runs just now."""
    changed = 'document.querySelectorAll(".plan td[data-changed]").length'
    asked = 'document.querySelector(".what-if-status").textContent.includes(" cells would decide otherwise")'
    for each in moves:
        page.run('document.querySelector(".what-if-status").textContent = "";')
        move(each)
        page.wait_for(asked)
        if page.run(f"return {changed};"):
            return
    raise AssertionError("no alpha gives another plan")


def _press(page: Browser, keys: str) -> None:
    ActionChains(page.driver).send_keys(keys).perform()


def _tab_to(page: Browser, wanted: str) -> None:
    """By Tab alone to the element that the selector ``wanted`` names."""
    for _ in range(12):
        _press(page, Keys.TAB)
        if page.run("return document.activeElement.matches(`${args[0]}:focus-visible`);", wanted):
            return
    raise AssertionError(f"{wanted} was not reached")


def _apply_with(page: Browser, token: str) -> None:
    page.wait_for('document.querySelector("#token-dialog").open')
    page.run('document.getElementById("token").value = args[0]; document.getElementById("token-ok").click();', token)


def _violations(page: Browser) -> list[str]:
    if not page.run("return typeof axe !== 'undefined';"):
        page.driver.execute_script(AXE.read_text())
    script = "const { passes, violations } = await axe.run(document, { runOnly: args[0] });"
    checked, found = page.run(f"{script} return [passes.map((each) => each.id), violations];", RULES)
    assert {"color-contrast", "button-name", "aria-allowed-attr", "label"} <= set(checked)
    return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in found for node in each["nodes"]]


def test_the_page_draws_device_plan_edge_and_tasks(page: Browser) -> None:
    parts = page.run(
        """
        const many = (selector) => document.querySelectorAll(selector).length;
        return {
          segments: many(".strip-large .strip-segment"), exits: many(".strip-large .strip-exit"),
          bands: many(".plan .band[data-now]"), fields: many(".fields tbody tr"), edges: many(".edge"),
          outcomes: many(".outcome-legend li"), link: document.querySelector("#link").textContent,
        };
        """
    )
    assert (parts["segments"], parts["exits"], parts["edges"], parts["link"]) == (5, 2, 1, "live")
    assert parts["bands"] == 1
    tiles = page.each(".tile-value", "it.textContent")
    assert len(tiles) == 6
    assert all(any(sign.isdigit() for sign in tile) for tile in tiles), tiles
    assert parts["fields"] > 8
    assert parts["outcomes"] > 0
    assert set(page.each(".plan td", 'it.dataset.decision ?? "continue"')) <= {"continue", "exit", "tensor", "input"}
    assert page.errors() == []


def test_age_and_error_of_the_mirror_are_in_view(page: Browser) -> None:
    for name in ("Mirror right", "Queue error", "Uplink error", "Report age"):
        page.wait_for(
            """
            [...document.querySelectorAll(".fact")].some((fact) => fact.checkVisibility() &&
              fact.firstChild.textContent === args[0] && /[0-9]/.test(fact.lastChild.textContent))
            """,
            name,
        )
    page.wait_for('/error [0-9].* reported [0-9].* ago/.test(document.querySelector(".edge-facts").textContent)')


def test_a_page_that_is_opened_anew_draws_what_backlogs_were_before(services: LiveServices, page: Browser) -> None:
    page.wait_for("performance.now() > 10_000")
    page.open("about:blank")
    page.open(services.console)
    page.wait_for('document.querySelector(".edge-chart canvas")')
    began_s, opened_s = page.run(CURVE)
    assert opened_s + 5.0 < began_s <= 120.0


def test_segments_are_as_wide_as_they_take_time(services: LiveServices, page: Browser) -> None:
    def shares(values: list[float]) -> list[float]:
        return [value / sum(values) for value in values]

    for _ in range(20):  # times are measured all the while, and change between the one look and the other
        widths = page.each(".strip-large .strip-segment", "it.getBoundingClientRect().width")
        service_s = [segment["service_s"] for segment in _chosen(services)["model"]["segments"]]
        if shares(widths) == pytest.approx(shares(service_s), abs=0.03):
            return
        time.sleep(0.5)
    raise AssertionError(f"{shares(widths)} of the width, {shares(service_s)} of the time")


def test_the_predicted_position_moves_smoothly_between_snapshots(page: Browser) -> None:
    # Snapshots come every 0.5 s, so that four steps forward within 0.3 s are the page's own. A machine that is busy
    # with other work draws them at last.
    look = f"""
        let run = [];
        const until = performance.now() + 25_000;
        while (performance.now() < until) {{
          await new Promise((resolve) => setTimeout(resolve, 20));
          const marker = {MARKER};
          const share = marker.hidden ? null : Number(marker.style.getPropertyValue("--share"));
          if (share === null || (run.length && share < run.at(-1).share)) run = [];
          if (share !== null && share !== run.at(-1)?.share) run.push({{ share, at: performance.now() }});
          run = run.filter((step) => step.at > performance.now() - 300);
          if (run.length > 4) return true;
        }}
        return false;
        """
    assert any(page.run(look) for _ in range(4)), "no smooth motion was seen"


def test_without_motion_the_position_stands_between_snapshots(page: Browser) -> None:
    page.prefer(prefers_reduced_motion="reduce")
    page.wait_for('matchMedia("(prefers-reduced-motion: reduce)").matches')
    page.run("await new Promise((resolve) => setTimeout(resolve, 500));")  # and the position stands for one snapshot
    changes = []
    while not any(changes) and len(changes) < 5:  # none at all: it was idle whenever a snapshot was taken
        seen = page.run(SAMPLED_MOTION)
        changes.append(sum(before != after for before, after in itertools.pairwise(seen)))
    assert 0 < changes[-1] <= 12, changes  # six or seven snapshots came in that time, and some that were late


def test_tasks_come_in_with_answer_reason_payoffs_and_picture(page: Browser) -> None:
    newest = page.text("#feed .task")
    page.wait_for('document.querySelector("#feed .task").textContent !== args[0]', newest)
    page.wait_for('document.querySelector("#feed .payoff[data-taken] .payoff-fill")')
    drawn = """[...document.querySelectorAll("#feed canvas")].some((canvas) =>
        canvas.getContext("2d").getImageData(48, 48, 1, 1).data[3] > 0)"""
    page.wait_for(drawn)
    assert page.text("#feed .task-why")
    assert page.errors() == []


def test_what_if_shows_another_plan_and_leaves_the_device_alone(services: LiveServices, page: Browser) -> None:
    before = _chosen(services)
    _ask_for_another_plan(page)
    assert page.text("#plan-title") == "Plan that would stand"
    assert "cells would decide otherwise" in page.text(".what-if-status")
    after = _chosen(services)
    assert (after["version"], after["weights"]) == (before["version"], before["weights"])
    _move_slider(page, ALPHA, 0)
    page.wait_for('document.querySelector("#plan-title").textContent === "Standing plan"')
    assert page.run('return document.querySelectorAll(".plan td[data-changed]").length;') == 0
    assert page.errors() == []


@pytest.mark.parametrize("name", ["alpha_s", "beta_s_per_joule", "goodput_bytes_per_s"])
def test_every_slider_asks_for_the_plan_with_what_it_stands_for(page: Browser, name: str) -> None:
    slider = f"what-if-{name.replace('_', '-')}"
    page.wait_for(f"!document.getElementById('{slider}').disabled")
    _move_slider(page, slider, -1)
    page.wait_for('document.querySelector(".what-if-status").textContent.includes(" cells would decide otherwise")')
    assert page.text("#plan-title") == "Plan that would stand"
    asked = page.run(
        """
        return performance.getEntriesByType("resource").map((each) => new URL(each.name))
          .filter((url) => url.pathname.endsWith("/what-if")).map((url) => [...url.searchParams.keys()]);
        """
    )
    assert [name] in asked
    assert all(keys == [name] for keys in asked)
    assert page.errors() == []


def test_weights_are_applied_with_the_token_only(services: LiveServices, page: Browser) -> None:
    before = _chosen(services)
    refused = page.run(
        """
        const answer = await fetch("api/devices/camera-1/weights", {
          method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(args[0]) });
        return answer.status;
        """,
        {"version": before["version"], "alpha_s": 4.0},
    )
    assert refused == 401
    _move_slider(page, ALPHA, 0.3)
    page.run('document.getElementById("apply-weights").click();')
    _apply_with(page, "guessed")
    page.wait_for('document.querySelector("#applied").textContent.startsWith("Not applied")')
    assert _chosen(services)["weights"] == before["weights"]
    _apply_with(page, services.token)
    page.wait_for('document.querySelector("#applied").textContent.startsWith("Applied")')
    wanted_s = before["weights"]["alpha_s"] * 10**0.3
    page.wait_for(f"""Math.abs((await (await fetch("api/snapshot?device=camera-1")).json()).devices[0].weights.alpha_s
        - {wanted_s}) < 0.05""")
    assert services.token not in page.run(
        "return JSON.stringify({ ...localStorage, ...sessionStorage }) + location.href;"
    )
    assert page.errors(*REFUSED) == []


def test_where_reading_needs_the_token_the_page_asks_for_it(tab: Browser, tmp_path: Path) -> None:
    services = LiveServices(tmp_path)
    try:
        # Bound beyond loopback, where reading is not open to everybody.
        services.start_twin("--console-listen", f"0.0.0.0:{services.console_port}", "--console-insecure")
        tab.prefer()
        tab.size(*DESK)
        tab.open(services.console)
        tab.wait_for('document.querySelector("#token-dialog").open')
        assert tab.text("#link") == "reading needs the token"
        assert tab.run("return document.activeElement.id;") == "token"
        _apply_with(tab, "guessed")
        tab.wait_for('document.querySelector("#token-dialog").open && document.querySelector("#token").value === ""')
        _apply_with(tab, services.token)
        tab.wait_for('document.querySelector("#link").textContent === "live"')
        assert tab.text("#token-button") == "Forget token"
        assert tab.errors(*REFUSED) == []
        tab.open("about:blank")
    finally:
        services.stop()


def test_the_page_comes_back_with_a_killed_twin(services: LiveServices, page: Browser) -> None:
    services.kill("twin")
    page.wait_for('document.querySelector("#link").textContent.startsWith("twin service not reachable since")')
    assert page.run("return document.body.dataset.link;") == "lost"
    services.start_twin()
    page.wait_for('document.querySelector("#link").textContent === "live"')
    assert page.errors(NO_TWIN) == []
    page.wait_for('document.querySelector("#device-state").textContent === "attached"', timeout_s=90)
    page.wait_for('document.querySelectorAll("#feed .task").length > 2', timeout_s=90)
    page.wait_for(f"!{MARKER}.hidden")


async def test_a_device_that_has_not_attached_since_the_twin_started_is_shown_as_far_as_it_is_known(
    services: LiveServices, page: Browser
) -> None:
    services.kill("camera-1")
    try:
        await asyncio.to_thread(_come_back_without_device, services, page)
        async with Crowd(services.twin, ["hall-120"]):
            seen = f'document.querySelector("#feed").textContent.includes({json.dumps(MARKUP)})'
            await asyncio.to_thread(page.wait_for, seen)
        assert page.errors() == []
    finally:
        services.start_device("camera-1", "--thumbnails")
    await asyncio.to_thread(page.wait_for, '!document.querySelector(".what-if").hidden', timeout_s=120)
    assert page.text("#link") == "live"


def _come_back_without_device(services: LiveServices, page: Browser) -> None:
    services.kill("twin")
    page.wait_for('document.body.dataset.link === "lost"')
    services.start_twin()
    page.wait_for('document.querySelector(".plan-text").textContent.includes("has not attached since")')
    assert page.text("#device-title") == "camera-1"
    assert page.text("#device-state") == "detached"
    assert page.text("#link") == "live"
    assert page.run('return document.querySelector(".what-if").hidden;')
    assert page.errors(NO_TWIN) == []


def test_a_defect_of_the_page_is_told_and_is_no_lost_link(page: Browser) -> None:
    states = page.run(
        """
        const { Stream } = await import("/static/js/service.js");
        const states = [];
        await new Promise((resolve) => {
          let shown = 0;
          const draw = () => {
            if ((shown += 1) === 3) resolve(stream.stop());
            throw new Error("cannot be drawn");
          };
          const stream = new Stream("api/events", { snapshot: draw }, ({ state }) => states.push(state));
          stream.start();
        });
        return states;
        """
    )
    assert states == ["live"]
    said = page.errors()
    assert len(said) == 3
    assert all("cannot be drawn" in line for line in said), said


def test_a_phone_scrolls_down_only(page: Browser) -> None:
    page.size(*PHONE)
    page.wait_for("innerWidth === args[0]", PHONE[0])
    assert page.run("return document.documentElement.scrollWidth;") == PHONE[0]
    _ask_for_another_plan(page)
    page.run('document.querySelector("details").open = true;')
    assert page.run("return document.documentElement.scrollWidth;") == PHONE[0]
    beyond = """
        return [...document.querySelectorAll("main *")].filter((node) => !node.closest(".scroll, .strip, .unseen") &&
          node.getBoundingClientRect().right > innerWidth + 0.5).map((node) => node.outerHTML.slice(0, 80));
        """
    assert page.run(beyond) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE])
def test_nothing_bars_anybody(page: Browser, scheme: str, size: tuple[int, int]) -> None:
    page.size(*size)
    page.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    _ask_for_another_plan(page)
    page.run('document.querySelector("details").open = true;')
    assert _violations(page) == []
    page.run('document.getElementById("token-button").click();')
    page.wait_for('document.querySelector("#token-dialog").open')
    assert _violations(page) == []


def test_a_screen_reader_hears_of_the_link_and_of_wishes_only(page: Browser) -> None:
    regions = "[aria-live], [role=status], [role=alert], [role=log], output"
    live = page.each(regions, "it.id || it.className || it.tagName")
    assert sorted(live) == ["applied", "link", "what-if-status"]


async def test_weights_are_tried_and_applied_by_keyboard_alone(services: LiveServices, page: Browser) -> None:
    async with Crowd(services.twin, ["hall-120"]):
        await asyncio.to_thread(_apply_by_keyboard, services, page)


def _apply_by_keyboard(services: LiveServices, page: Browser) -> None:
    page.wait_for('document.querySelectorAll("#device-list [role=option]").length > 1')
    _tab_to(page, ".skip")
    assert page.run("return document.activeElement.getBoundingClientRect().top >= 0;")
    _tab_to(page, "#device-list")
    is_first = page.each("#device-list [role=option]", "it.dataset.device").index("camera-1") == 0
    away, back = (Keys.ARROW_DOWN, Keys.ARROW_UP) if is_first else (Keys.ARROW_UP, Keys.ARROW_DOWN)
    _press(page, away)
    page.wait_for('document.querySelector("#device-title").textContent !== "camera-1"')
    _press(page, back)
    page.wait_for(SHOWN)
    _tab_to(page, f"#{ALPHA}")
    before = page.text(".slider-value")
    _press(page, Keys.ARROW_RIGHT)
    assert page.text(".slider-value") != before
    far = (Keys.HOME, Keys.END, Keys.HOME + 10 * Keys.ARROW_RIGHT, Keys.END + 10 * Keys.ARROW_LEFT)
    _move_until_cells_change(page, far, lambda keys: _press(page, keys))
    assert page.text("#plan-title") == "Plan that would stand"
    _press(page, Keys.HOME + 21 * Keys.ARROW_RIGHT)
    _tab_to(page, "#apply-weights")
    _press(page, Keys.ENTER)
    page.wait_for('document.querySelector("#token-dialog").open && document.activeElement.id === "token"')
    _press(page, Keys.ESCAPE)
    page.wait_for('!document.querySelector("#token-dialog").open && document.activeElement.id === "apply-weights"')
    _press(page, Keys.ENTER)
    page.wait_for('document.querySelector("#token-dialog").open')
    _press(page, services.token)
    _tab_to(page, "#token-ok")
    _press(page, Keys.SPACE)
    page.wait_for('document.querySelector("#applied").textContent.startsWith("Applied to camera-1")')


def test_a_token_dialog_that_is_opened_again_at_once_still_applies(services: LiveServices, page: Browser) -> None:
    """A browser tells of a closed dialog some time later; here it is open again by then."""
    _move_slider(page, ALPHA, 0.05)
    page.run(
        "const apply = document.getElementById('apply-weights'); apply.click();"
        "document.getElementById('token-cancel').click(); apply.click();"
    )
    _apply_with(page, services.token)
    page.wait_for('document.querySelector("#applied").textContent.startsWith("Applied to camera-1")')


def test_the_link_at_the_top_leads_to_the_device_and_a_reload_finds_one(page: Browser) -> None:
    _press(page, Keys.TAB + Keys.ENTER)
    assert page.run("return document.activeElement.id;") == "device"
    page.driver.refresh()
    page.wait_for(SHOWN)


async def test_many_devices_are_filtered_chosen_by_keyboard_and_turned_over(
    services: LiveServices, page: Browser
) -> None:
    names = [f"hall-{k:03d}" for k in (120, *range(120), *range(121, 205))]  # the first one has ended a task
    async with Crowd(services.twin, names):
        await asyncio.to_thread(_choose_among_many, page)


def _choose_among_many(page: Browser) -> None:
    page.wait_for('document.querySelector("#device-count").textContent === "1 to 200 of 206"')  # all are attached
    assert page.run('return document.querySelectorAll("#device-list [role=option]").length;') == 200
    page.run('document.getElementById("filter").focus();')
    active = page.driver.switch_to.active_element
    active.send_keys("HALL-12")
    page.wait_for('document.querySelectorAll("#device-list [role=option]").length === 10')
    active.send_keys(Keys.TAB)
    assert page.run("return document.activeElement.id;") == "device-list"
    chosen = page.driver.switch_to.active_element
    chosen.send_keys(Keys.HOME)
    chosen.send_keys(Keys.ARROW_DOWN)
    page.wait_for('document.querySelector("#device-title").textContent === "hall-121"')
    active_id = 'document.getElementById("device-list").getAttribute("aria-activedescendant")'
    marked = page.run(f"return document.getElementById({active_id}).dataset.device;")
    assert marked == "hall-121"
    assert "device=hall-121" in page.run("return location.hash;")
    # Markup in an answer is text, whatever it says. Tasks of one device are found however many others end.
    chosen.send_keys(Keys.HOME)
    page.wait_for('document.querySelector("#device-title").textContent === "hall-120"')
    page.run('document.getElementById("feed-only").click();')
    page.wait_for(f'document.querySelector("#feed").textContent.includes({json.dumps(MARKUP)})')
    assert page.run('return document.querySelectorAll("#feed img, #feed .task-head b b").length;') == 0
    page.run(
        'document.querySelector("#filter").value = ""; document.querySelector("#device-pages button + button").click();'
    )
    page.wait_for('document.querySelector("#device-count").textContent === "201 to 206 of 206"')
    page.run('document.querySelector("#device-pages button").click();')
    page.wait_for('document.querySelector("#device-count").textContent === "1 to 200 of 206"')
    assert page.errors() == []


def test_pause_stops_everything_that_moves(page: Browser) -> None:
    page.run('document.getElementById("pause").click();')
    before = page.text("main")
    page.run("await new Promise((resolve) => setTimeout(resolve, 1500));")
    assert page.text("main") == before
    page.run('document.getElementById("pause").click();')
    page.wait_for('document.querySelector("main").textContent !== args[0]', before)


def test_events_are_read_from_pieces_cut_anywhere(page: Browser) -> None:
    text = ': hello\r\n\r\nevent: snapshot\r\ndata: {"a":\r\ndata: 1}\r\n\r\nid: 7\ndata: x\n\n'
    parsed = page.run(
        """
        const { EventParser } = await import("/static/js/service.js");
        return Array.from({ length: args[0].length + 1 }, (_, cut) => {
          const parser = new EventParser();
          return JSON.stringify([...parser.take(args[0].slice(0, cut)), ...parser.take(args[0].slice(cut))]);
        });
        """,
        text,
    )
    expected = [{"name": "snapshot", "data": '{"a":\n1}'}, {"name": "message", "data": "x"}]
    assert {json.dumps(json.loads(each)) for each in parsed} == {json.dumps(expected)}


def test_a_position_is_reckoned_on_the_boundaries(page: Browser) -> None:
    reckoned = page.run(
        """
        const { positionAt } = await import("/static/js/motion.js");
        return args[0].map((age_s) => positionAt([0.1, 0.3, 0.4], age_s));
        """,
        [0.0, 0.05, 0.1, 0.2, 0.35, 9.0],
    )
    assert reckoned == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.5, 3.0])
