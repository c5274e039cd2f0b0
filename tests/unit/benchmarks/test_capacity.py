"""Capacity on paper: laws against numbers worked out apart, needs by hand, and the page that the repository holds."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.capacity import calculation, laws, needs, page
from benchmarks.capacity.command import capacity
from benchmarks.capacity.inputs import NEEDED, InputError, Inputs, inputs_of
from benchmarks.capacity.needs import FLEETS, Assumptions
from benchmarks.results import RESULTS_FOLDER
from twinsplit.replicas.listing import MOST_REPLICAS

ROOT = Path(__file__).resolve().parents[3]
ROUND = Inputs(
    twin_task_s=0.0005,
    twin_devices_held=1000,
    twin_held_rate_per_s=1.0,
    twin_is_quick=False,
    twin_device_bytes=100e3,
    twin_base_bytes=100e6,
    many_edges=50,
    many_edges_task_s=0.0004,
    one_edge_task_s=0.0003,
    attach_s=0.002,
    plan_s=0.001,
    edge_report_s=0.0001,
    tail_s=0.002,
    edge_is_quick=False,
    payload_bytes=3_000.0,
    offloaded=0.5,
    settled_rate_per_s=0.25,
    messages_per_task=2.5,
    message_bytes_per_task=500.0,
    messages_per_s=0.2,
    message_bytes_per_s=10.0,
    changes_per_task=1.5,
    heartbeats_per_s=0.1,
    edge_messages_per_s=2.0,
    edge_message_bytes_per_s=100.0,
    fleet_messages_per_task=2.9,
    document_bytes=400.0,
    written_bytes_per_document=2_000.0,
    document_s=0.0001,
)
"""Figures that can be reckoned with in one's head."""
ASSUMED = Assumptions()


def test_a_server_of_4_ms_at_100_a_second_is_busy_for_two_fifths_and_holds_175_at_seven_tenths() -> None:
    assert laws.busy_share(100.0, 0.004) == pytest.approx(0.4)
    assert laws.most_rate_per_s(0.004, 0.7) == pytest.approx(175.0)
    assert laws.mean_count(100.0, 0.05) == pytest.approx(5.0)


def test_the_mean_wait_is_that_of_a_queue_that_was_lived_through() -> None:
    service_s, share = 0.01, 0.7
    assert laws.mean_wait_s(share, service_s) == pytest.approx(0.7 * 0.01 / 0.6)
    rng, waits_s, wait_s = random.Random(1), 0.0, 0.0
    count = 40_000
    for _ in range(count):
        wait_s = max(0.0, wait_s + service_s - rng.expovariate(share / service_s))
        waits_s += wait_s
    assert waits_s / count == pytest.approx(laws.mean_wait_s(share, service_s), rel=0.1)
    assert laws.mean_wait_s(1.0, service_s) == math.inf
    assert laws.share_of_wait(laws.mean_wait_s(share, service_s), service_s) == pytest.approx(share)


def test_a_replicas_share_is_that_of_devices_thrown_at_random() -> None:
    found = laws.replica_share(400, 2)
    assert found.mean == 0.5
    rng = random.Random(2)
    shares = [sum(rng.random() < 0.5 for _ in range(400)) / 400 for _ in range(300)]
    assert math.sqrt(sum((share - 0.5) ** 2 for share in shares) / 300) == pytest.approx(found.deviation, rel=0.15)


def test_a_round_writes_each_document_that_has_changed_once() -> None:
    hardly = laws.changed_share(0.001, math.inf, 5.0)
    assert laws.saved_per_s(1_000, hardly, 5.0, 1e9) == pytest.approx(1_000 * 0.001, rel=0.01), "every change by itself"
    often = laws.changed_share(100.0, math.inf, 5.0)
    assert laws.saved_per_s(1_000, often, 5.0, 1e9) == pytest.approx(200.0), "once in a round"
    assert laws.changed_share(0.001, 5.0, 5.0) == 1.0, "signs of life change them, too"
    assert laws.saved_per_s(1_000, 1.0, 5.0, 100.0) == 100.0


def test_a_task_costs_a_twin_its_streams_and_what_choosing_adds() -> None:
    assert needs.twin_task_s(ROUND) == pytest.approx(0.0006)
    assert needs.twin_task_s(replace(ROUND, many_edges_task_s=0.0001)) == pytest.approx(0.0005)


def test_the_core_of_a_twin_is_filled_by_tasks_documents_and_edges() -> None:
    by_hand = 500.0 * 0.0006 + 500.0 / 5.0 * 0.0001 + 50 * 2.0 * 0.0001
    assert needs.twin_share(ROUND, ASSUMED, 500.0, 50) == pytest.approx(by_hand)
    most = needs.devices_per_twin(ROUND, ASSUMED, 50)
    assert needs.twin_share(ROUND, ASSUMED, most, 50) == pytest.approx(0.7)
    assert most == pytest.approx((0.7 - 0.01) / (0.0006 + 0.0001 / 5.0))


def test_limits_are_of_one_unit_each_and_the_first_comes_first() -> None:
    found = needs.limits(ROUND, ASSUMED)
    by_name = {(limit.unit, limit.resource): limit.devices for limit in found}
    assert by_name["edge", "core"] == pytest.approx(0.7 / 0.002 / 0.5)
    assert by_name["edge", "network"] == pytest.approx(125e6 / (0.5 * 3_000.0))
    assert by_name["twin", "memory"] == pytest.approx((2.0 * 2**30 - 100e6) / 100e3)
    assert by_name["twin", "network"] == pytest.approx(125e6 / 510.0)
    assert by_name["cell", "what edges say"] == pytest.approx(0.3 * 0.7 / (2.0 * 0.0001) * 700.0)
    assert by_name["cell", "edges that a twin keeps"] == pytest.approx(256 * 700.0)
    assert by_name["twin", "pace of saving"] == pytest.approx(4_000.0 * 5.0)
    for unit in ("twin", "edge", "cell"):
        devices = [limit.devices for limit in found if limit.unit == unit]
        assert devices == sorted(devices)


def test_a_thousand_devices_by_hand() -> None:
    found = needs.needs(ROUND, ASSUMED, 1_000)
    assert (found.tasks_per_s, found.tails_per_s) == (1_000.0, 500.0)
    assert found.edge_cores == pytest.approx(1.0)
    assert (found.edges, found.cells, found.twins) == (2, 1, 1)
    assert found.tail_wait_s == pytest.approx(0.5 * 0.002 / (2.0 * 0.5))
    assert found.twin_memory_bytes == pytest.approx(200e6)
    assert found.twin_messages_per_s == pytest.approx(1_000 * 2.7 + 2 * 2.0)
    assert found.twin_bytes_per_s == pytest.approx(1_000 * 510.0 + 2 * 100.0)
    assert found.payload_bytes_per_s == pytest.approx(500.0 * 3_000.0)
    assert found.documents_bytes == pytest.approx(400e3)
    assert found.attach_all_s == pytest.approx(2.0)


def test_a_fleet_that_is_too_large_for_a_cell_gets_more_of_them_and_no_unit_is_overfull() -> None:
    for devices in FLEETS:
        found = needs.needs(ROUND, ASSUMED, devices)
        assert found.edge_cores / found.edges <= 0.7
        assert found.twin_cores / found.twins <= 0.7 + 1e-9
        assert found.edges / found.cells <= 256
        assert devices / found.twins <= ASSUMED.most_devices
        assert found.twins % found.cells == 0
    listed = replace(ASSUMED, most_replicas=1_000)
    assert needs.needs(ROUND, listed, FLEETS[-1]).cells == math.ceil(math.ceil(1e7 / 700.0) / 256)


def test_a_cell_has_no_more_twins_than_a_list_of_replicas_takes() -> None:
    assert ASSUMED.most_replicas == MOST_REPLICAS
    by_name = {(limit.unit, limit.resource): limit.devices for limit in needs.limits(ROUND, ASSUMED)}
    assert by_name["cell", "replicas in a list"] == pytest.approx(MOST_REPLICAS * by_name["twin", "core"])
    for devices in FLEETS:
        found = needs.needs(ROUND, ASSUMED, devices)
        assert found.twins / found.cells <= MOST_REPLICAS
    short = replace(ASSUMED, most_replicas=2)
    found = needs.needs(ROUND, short, 100_000)
    assert found.twins == 2 * found.cells
    assert 100_000 / (found.cells - 1) > 2 * needs.devices_of_twin(ROUND, short, found.edges / (found.cells - 1))


def test_twins_that_share_a_database_are_no_more_than_it_takes_the_documents_of() -> None:
    by_name = {(limit.unit, limit.resource): limit.devices for limit in needs.limits(ROUND, ASSUMED)}
    core = by_name["twin", "core"]
    each = needs.documents_of_twin_per_s(ROUND, ASSUMED, core)
    assert by_name["cell", "shared PostgreSQL"] == pytest.approx(3_900.0 * core / each)
    few, many = (needs.needs(ROUND, ASSUMED, devices) for devices in (1_000, 10_000_000))
    assert few.sharing_cells == few.cells == 1
    assert many.sharing_cells == math.ceil(many.documents_per_s / 3_900.0) > many.cells
    page_text = (ROOT / "docs/how-to/postgresql.md").read_text(encoding="utf-8")
    assert f"{ASSUMED.shared_per_s:,.0f} documents a second" in page_text


def test_two_replicas_hold_twice_as_much_but_for_chance() -> None:
    found = needs.held(ROUND, ASSUMED, 50)
    one, two = found["devices_of_one"], found["devices_of_two"]
    assert one == pytest.approx(needs.devices_per_twin(ROUND, ASSUMED, 50))
    share = laws.replica_share(round(two), 2)
    assert two * (share.mean + 2.0 * share.deviation) == pytest.approx(one, rel=1e-3)
    assert found["edges_share"] == pytest.approx(50 * 2.0 * 0.0001)
    seldom = needs.held(ROUND, replace(ASSUMED, task_rate_per_s=0.5), 50)
    assert seldom["tasks_per_s_of_two"] == pytest.approx(0.5 * seldom["devices_of_two"])


def documents() -> dict[str, Any]:
    """As the measurements write them, of round numbers."""
    kind = {"calls": 100, "seconds": 0.5, "longest_s": 0.1}
    run: dict[str, Any] = {
        "devices": 100,
        "edges": 5,
        "tasks": 500,
        "simulated_s": 20.0,
        "outcomes": {"edge": 200, "device": 200},
        "payload_bytes": 500_000,
        "attached": {"attach": kind, "tick that plans": kind, "rule": kind},
        "served": {"device task": kind, "tick that plans": kind, "rule": kind, "save": kind, "edge report": kind},
        "messages": {"device task": 500, "twin plan": 250, "device heartbeat": 400, "edge backlog": 50},
        "bytes": {"device task": 50_000, "twin plan": 50_000, "device heartbeat": 4_000, "edge backlog": 1_000},
        "store": {"documents_written": 50, "document_mean_bytes": 400.0, "written_bytes": 100_000},
    }
    settled = {
        "tasks": 250,
        "seconds": 10.0,
        "served": {name: {"calls": 50, "seconds": 0.25} for name in run["served"]},
        "messages": {name: count / 2 for name, count in run["messages"].items()},
        "bytes": {name: count / 2 for name, count in run["bytes"].items()},
    }
    run["settled"] = settled
    points = [
        {
            "devices": devices,
            "is_held": devices < 64,
            "reports_per_s": devices * 1.0,
            "service_cpu_cores": 0.01 + devices * 0.002,
            "service_memory_mb": 80.0 + 0.1 * devices,
            "memory_kb_per_device": 100.0,
        }
        for devices in (8, 32, 64)
    ]
    plans = {"name": "plans", "messages_by_kind": {"device task": 1.0, "device hello": 0.2, "twin plan": 0.5}}
    about = {"written_at": "2026-11-28T20:45:05+00:00", "commit": "abc", "machine": {"load_average": 0.5}}
    found: dict[str, Any] = {
        "load-twin": {"results": {"is_quick": True, "task_rate_per_s": 1.0, "by_devices": points}},
        "load-edge": {
            "results": {
                "is_quick": False,
                "capacity": [
                    {"answers_per_s": 100.0, "service_cpu_cores": 0.5},
                    {"answers_per_s": 400.0, "service_cpu_cores": 0.8},
                ],
            }
        },
        "planning": {
            "results": {
                "rows": [
                    {"devices": 10, "plan_in_batch": {"median_s": 0.003}},
                    {"devices": 100, "plan_in_batch": {"median_s": 0.001}},
                ]
            }
        },
        "signalling-fleet": {"variants": [{"name": "exact state", "messages_by_kind": {}}, plans]},
        "capacity-simulation": {"results": run},
        "capacity-settled": {"results": run},
        "capacity-one-edge": {"results": run | {"settled": settled | {"tasks": 500}}},
    }
    return {name: document | {"provenance": about} for name, document in found.items()}


def test_inputs_are_read_from_what_was_measured() -> None:
    found = inputs_of(documents())
    assert found.twin_task_s == pytest.approx(0.074 / 32), "of the most devices that were held"
    assert (found.twin_devices_held, found.twin_is_quick, found.edge_is_quick) == (32, True, False)
    assert found.twin_base_bytes == pytest.approx(80e6)
    assert found.tail_s == pytest.approx(0.002), "of the point with most answers"
    assert found.plan_s == 0.001
    assert found.many_edges_task_s == pytest.approx(1.0 / 500), "tasks and plans, not savings and edges"
    assert found.one_edge_task_s == pytest.approx(1.0 / 1_000)
    assert found.attach_s == pytest.approx(1.0 / 100), "without the part that is within another"
    assert found.offloaded == 0.5
    assert found.payload_bytes == pytest.approx(2_000.0), "of 250 tasks at edges, the warm-up's counted in"
    assert found.messages_per_task == pytest.approx(1.5)
    assert found.message_bytes_per_task == pytest.approx(200.0)
    assert found.messages_per_s == pytest.approx(0.2)
    assert found.heartbeats_per_s == pytest.approx(0.2)
    assert found.changes_per_task == pytest.approx(1.0)
    assert found.edge_messages_per_s == pytest.approx(0.5)
    assert found.fleet_messages_per_task == pytest.approx(1.5)
    assert found.document_s == pytest.approx(0.01)
    assert found.written_bytes_per_document == pytest.approx(2_000.0)


def test_documents_of_a_run_are_foretold_round_by_round() -> None:
    run: dict[str, Any] = {"devices": 1_000, "simulated_s": 18.0, "messages": {"device task": 36_000, "twin plan": 9}}
    # Rounds begin after 5, 10 and 15 s, and take a quarter of a second.
    assert needs.foretold_documents(ASSUMED, run) == pytest.approx(3_000.0)
    early = run | {"simulated_s": 5.125, "messages": {"device task": 10_250}}
    assert needs.foretold_documents(ASSUMED, early) == pytest.approx(500.0)
    assert needs.foretold_documents(ASSUMED, run | {"simulated_s": 4.0, "messages": {"device task": 8_000}}) == 0.0
    crowd = run | {"devices": 30_000, "messages": {"device task": 1_080_000}}
    assert needs.foretold_documents(ASSUMED, crowd) == pytest.approx(13.0 * 4_000.0), "as fast as it goes"


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InputError, match=r"load-edge\.json"):
        inputs_of({name: document for name, document in documents().items() if name != "load-edge"})
    too_short = documents()
    too_short["capacity-simulation"]["results"]["store"]["documents_written"] = 0
    with pytest.raises(InputError, match="too short"):
        inputs_of(too_short)
    overrun = documents()
    for point in overrun["load-twin"]["results"]["by_devices"]:
        point["is_held"] = False
    with pytest.raises(InputError, match=r"load-twin\.json: .* held"):
        inputs_of(overrun)
    without = documents()
    without["capacity-settled"]["results"] |= {"settled": None}
    with pytest.raises(InputError, match=r"capacity-settled\.json: .* warm_up_tasks"):
        inputs_of(without)


@pytest.mark.slow
def test_another_rate_is_printed_and_changes_no_page(tmp_path: Path) -> None:
    for name, document in documents().items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    result = CliRunner().invoke(capacity, ["--task-rate", "0.1", "--results", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "10,000,000 devices" in result.output
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(NEEDED)


STORED: dict[str, Any] = json.loads((RESULTS_FOLDER / "capacity.json").read_text())


def test_the_stored_result_follows_from_its_inputs() -> None:
    found = STORED["results"]
    inputs, assumed = Inputs(**found["inputs"]), Assumptions(**found["assumed"])
    assert assumed == ASSUMED
    assert found["limits"] == [asdict(limit) for limit in needs.limits(inputs, assumed)]
    assert [fleet["devices"] for fleet in found["fleets"]] == list(FLEETS)
    for fleet in found["fleets"]:
        assert fleet == pytest.approx(needs.needs(inputs, assumed, fleet["devices"]).described())
    assert found["held"] == pytest.approx(needs.held(inputs, assumed, inputs.many_edges))
    assert calculation.lines(found)


def test_the_law_of_saving_foretells_what_the_simulated_twin_saved() -> None:
    found = STORED["results"]
    assert found["foretold_documents"] == pytest.approx(found["simulation"]["store"]["documents_written"], rel=0.15)


def test_what_to_add_is_said_of_every_limit_and_a_full_edge_is_told_apart_from_a_full_twin() -> None:
    text = page.page(STORED)
    for limit in needs.limits(ROUND, ASSUMED):
        assert f"| {limit.unit} | {limit.resource} | " in text
    assert re.search(r"\| edge \| core \| [\d,]+ \| another edge", text)
    assert re.search(r"\| twin \| core \| [\d,]+ \| a replica", text)


def test_a_measurement_of_changed_files_is_named_as_such() -> None:
    text = page.page(STORED)
    for about in STORED["results"]["origins"].values():
        commit = about["commit"].removesuffix("-dirty")
        assert f"commit {commit[:12]}{', changed' if commit != about['commit'] else ''}, load" in text


@pytest.mark.slow
def test_the_page_is_drawn_from_the_stored_result() -> None:
    text = (ROOT / "docs/capacity.md").read_text(encoding="utf-8")
    assert text == page.page(STORED), "run: twinsplit bench capacity"
    assert f"({page.FIGURE})" in text
    assert (ROOT / "docs" / page.FIGURE).is_file()
    ((name, data),) = page.figures(STORED).items()
    assert name == page.FIGURE
    assert data.startswith(b"\x89PNG")
