"""What every simulated world keeps to, whatever the rule."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.scenario import SHIPPED_MODEL, changed_scenario
from benchmarks.simulator.deciding import ByTable, Forced
from benchmarks.simulator.link import Link
from benchmarks.simulator.running import compare
from benchmarks.simulator.samples import evidence_draw
from benchmarks.simulator.world import World
from benchmarks.testbed.frames import frame_names
from edge.load_pattern import Pattern
from tests.simulation.worlds import Records, scenario_of, world_of
from twin_service.decision.rules import rule_named
from twinsplit.errors import SettingsError
from twinsplit.model.preprocessing import prepare
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.plan import Plan
from twinsplit.types import NO_EVIDENCE, Decision, Outcome, Payload, evidence_state

pytestmark = pytest.mark.slow

BURSTS = {
    "load_share": 0.7,
    "load_pattern": Pattern.ONOFF,
    "load_sizes": "exponential",
    "load_mean_s": 0.03,
    "uplink_bytes_per_s": 20_000.0,
    "uplink_delay_s": 0.01,
}
RULES = ("device-only", "edge-only", "static:2", "one-time", "one-time-myopic", "load-only", "open-loop")
TUNABLE = ("one-time-threshold:0.9", "threshold-static:2,0.9")


@pytest.mark.parametrize("rule", RULES + TUNABLE)
def test_every_task_gets_exactly_one_outcome_under_every_rule(rule: str) -> None:
    records = Records()
    world = world_of(rule, scenario_of(tasks=200, **BURSTS), records)
    run = world.run()
    assert Counter(record.task_id for record in records.tasks) == dict.fromkeys(range(1, 201), 1)
    assert run.summary.tasks == 200
    assert run.summary.share_answered == 1.0
    assert world.devices[0].pipeline.is_empty


def test_tasks_add_up_when_devices_and_edge_have_no_room_and_answers_come_too_late() -> None:
    records = Records()
    crowded = scenario_of(
        tasks=1_500,
        task_rate_per_s=12.0,
        queue_capacity=2,
        edge_queue_capacity=2,
        kept_tensors=3,
        answer_timeout_s=0.15,
        **(BURSTS | {"load_share": 1.1}),
    )
    world = world_of("edge-only", crowded, records)
    summary = world.run().summary
    assert sum(summary.outcomes.values()) == 1_500
    assert len(records.tasks) == 1_500
    for outcome in (Outcome.DROPPED, Outcome.DEVICE, Outcome.EDGE):
        assert summary.outcomes[outcome.value] > 0, outcome
    came_back = world.devices[0].pipeline.offloads.came_back
    assert len(came_back) >= 2, "refused by the edge, and too late"
    assert world.edges[0].refused_jobs > 0
    answered_by_edge = sum(tail.work.device is not None for tail, _ in records.started)
    assert answered_by_edge >= summary.outcomes[Outcome.EDGE.value]


def test_what_enters_the_edge_is_served_in_the_order_of_arrival() -> None:
    records = Records()
    world = world_of("static:1", scenario_of(tasks=300, **BURSTS), records)
    world.run()
    served = [tail for tail, _ in records.started]
    assert served == records.admitted[: len(served)]
    ends = 0.0
    for tail, began_s in records.started:
        assert began_s == pytest.approx(max(tail.arrived_at_s, ends))
        ends = began_s + tail.work.service_s


def test_the_latency_of_an_offload_is_the_sum_of_its_parts() -> None:
    records = Records()
    world = world_of("edge-only", scenario_of(tasks=300, **BURSTS), records)
    world.run()
    for record in records.tasks:
        stages = record.stages
        parts = (stages.queue, stages.compute, stages.encode, stages.upload, stages.edge_queue, stages.edge_compute)
        assert math.fsum(part or 0.0 for part in parts) == pytest.approx(record.latency_s)
    quiet = min(record.stages.upload or 0.0 for record in records.tasks)
    entry = world.manifest.cuts[0].representations[records.tasks[0].representation_index or 0]
    assert quiet == pytest.approx(round(entry.mean_bytes) / 20_000.0 + 2.0 * 0.01)


def test_every_rule_meets_the_same_world() -> None:
    scenario = scenario_of(devices=3, tasks=300, service_jitter=0.2, **BURSTS)
    first, second = (world_of(rule, scenario) for rule in ("edge-only", "open-loop"))
    first.run(), second.run()
    for one, other in zip(first.devices, second.devices, strict=True):
        assert one.samples.arrivals_s == other.samples.arrivals_s
        assert one.samples.uniforms == other.samples.uniforms
        assert one.samples.segment_jitters == other.samples.segment_jitters
    until_s = min(first.now_s, second.now_s)
    assert list(first.edges[0].jobs.between(-2.0, until_s)) == list(second.edges[0].jobs.between(-2.0, until_s))


def test_a_seed_gives_the_same_run_again_and_another_seed_another_one() -> None:
    scenario = scenario_of(tasks=300, **BURSTS)
    first, again, other = (world_of("open-loop", scenario, seed=seed).run() for seed in (1, 1, 2))
    assert list(first.costs_s) == list(again.costs_s)
    assert list(first.costs_s) != list(other.costs_s)


def test_the_number_of_processes_changes_no_result() -> None:
    scenario = scenario_of(tasks=60, **BURSTS)
    names, seeds = ["one-time", "open-loop", "one-time-threshold-best"], [1, 2, 3]
    here, spread = (compare([scenario], names, seeds, workers=workers)[0] for workers in (1, 2))
    assert here.tuned == spread.tuned
    for name in names:
        assert [run.cost_s for run in here.runs[name]] == [run.cost_s for run in spread.runs[name]]
        assert [run.seed for run in spread.runs[name]] == seeds


def test_tasks_of_the_warm_up_are_in_no_figure() -> None:
    scenario = scenario_of(tasks=300, **BURSTS)
    whole = world_of("open-loop", scenario).run(keeps_entries=True)
    cut = world_of("open-loop", changed_scenario(scenario, warm_up_tasks=100)).run(keeps_entries=True)
    assert [entry.task_id for entry in cut.entries] == list(range(101, 301))
    assert list(cut.costs_s) == list(whole.costs_s[100:])
    assert cut.summary.tasks == 200
    assert cut.simulated_tasks == 300


def test_exits_show_evidence_as_often_as_the_manifest_says() -> None:
    world = world_of("device-only", scenario_of(tasks=1))
    draw, bins = evidence_draw(world.manifest), world.manifest.bin_count
    first, second = world.manifest.exits[:2]
    steps = [(i + 0.5) / 4_000 for i in range(4_000)]
    counts = Counter(draw.evidence(NO_EVIDENCE, 0, u) for u in steps)
    for b, share in enumerate(first.prior):
        assert counts[evidence_state(0, b, bins)] / 4_000 == pytest.approx(share, abs=1e-3)
    before = evidence_state(0, 3, bins)
    counts = Counter(draw.evidence(before, second.index, u) for u in steps)
    for b, share in enumerate(first.transitions[second.index][3]):
        assert counts[evidence_state(1, b, bins)] / 4_000 == pytest.approx(share, abs=1e-3)


def test_exits_show_what_they_show_on_the_frames_of_the_testbed_in_its_order(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(12):
        name = f"{number:04}.jpg"
        (frames / name).write_bytes((SHIPPED_MODEL / "frames" / name).read_bytes())
    scenario = scenario_of(tasks=30, frames=frames, evidence="frames")
    records = Records()
    world_of("threshold-static:2,0", scenario, records).run()
    runtime = SegmentRuntime.load(SHIPPED_MODEL)
    order = changed_scenario(scenario, seed=1).frame_order(frame_names(frames, runtime.manifest), 30)
    assert len(set(order)) == 12
    shown = {}
    for name in order:
        tensor = runtime.run_segment(0, prepare((frames / name).read_bytes(), runtime.manifest).tensor)
        shown[name] = runtime.run_exit(0, tensor).evidence
    assert len(set(shown.values())) > 3
    seen = {task.task_id: task.evidence for task in records.tasks if task.exit_index == 0}
    assert len(seen) == 30, "each leaves at the first exit"
    assert seen == {number: shown[name] for number, name in enumerate(order, start=1)}


def test_a_table_is_looked_up_as_a_plan_is() -> None:
    """With exact state a device decides what a plan of the same table would have it decide."""
    looked_up: list[tuple[Decision, Decision]] = []

    class Beside(ByTable):
        def decision(self, device, now_s, epoch, evidence, observed):
            found = super().decision(device, now_s, epoch, evidence, observed)
            table = self._standing[device.index]
            plan = Plan(
                1, "", "", "edge", "edge", table.exits_run, table.band_edges_s, table.table,
                table.tensor_representations, table.input_representations, 10.0, None, table.observation,
            )  # fmt: skip
            assert observed.backlog_s == device.edge.backlog_s(now_s)
            looked_up.append((found, plan.decision(epoch, evidence, observed.queue_length, observed.backlog_s)))
            return found

    World(scenario_of(tasks=200, **BURSTS), 1, Beside(rule_named("open-loop"))).run()
    assert len({found for found, _ in looked_up}) >= 3
    assert all(found is expected for found, expected in looked_up)


def test_a_task_can_be_made_to_take_any_decision_while_all_others_decide() -> None:
    records = Records()
    base = ByTable(rule_named("open-loop"))
    forced = Forced(base, device=0, task_id=40, epoch=3, decision=Decision.OFFLOAD_TENSOR)
    World(scenario_of(tasks=60, **BURSTS), 1, forced, listeners=[records]).run()
    record = next(record for record in records.tasks if record.task_id == 40)
    assert (record.stop_epoch, record.payload) == (3, Payload.TENSOR)
    free = Records()
    World(scenario_of(tasks=60, **BURSTS), 1, base, listeners=[free]).run()
    before = [(r.task_id, r.ended_at_s) for r in free.tasks if r.ended_at_s < record.arrived_at_s]
    assert before == [(r.task_id, r.ended_at_s) for r in records.tasks if r.ended_at_s < record.arrived_at_s]
    assert len(before) > 20


def test_with_tensors_only_no_frame_leaves_a_device() -> None:
    for rule in ("edge-only", "one-time", "open-loop"):
        records = Records()
        world_of(rule, scenario_of(tasks=200, payloads="tensors-only", **BURSTS), records).run()
        sent = {record.payload for record in records.tasks if record.outcome is Outcome.EDGE}
        assert sent == {Payload.TENSOR}, rule


def test_a_payload_takes_as_long_as_the_rates_that_it_meets() -> None:
    scenario = scenario_of(step_at_s=10.0, step_uplink_bytes_per_s=1_000.0)
    link = Link(scenario, 0)
    assert link.departure_s(50_000, 1.0) == pytest.approx(1.5)
    assert link.departure_s(100_000 + 2_000, 9.0) == pytest.approx(12.0)
    assert link.hand_over(100_000, 0.0) == pytest.approx(1.0)
    assert link.hand_over(50_000, 0.2) == pytest.approx(1.5), "a payload waits for those before it"
    assert link.busy_s(0.5) == pytest.approx(1.0)


def test_a_link_with_two_states_is_bad_as_often_as_its_dwell_times_say() -> None:
    scenario = scenario_of(
        uplink="two-state", uplink_bad_bytes_per_s=10_000.0, uplink_good_s=3.0, uplink_bad_s=1.0, seed=5
    )
    link = Link(scenario, 0)
    looks = [link.bytes_per_s(0.05 * i) for i in range(400_000)]
    assert set(looks) == {100_000.0, 10_000.0}
    assert looks.count(10_000.0) / len(looks) == pytest.approx(0.25, abs=0.02)


def test_a_trace_of_the_link_is_begun_again_at_its_end(tmp_path: Path) -> None:
    trace = tmp_path / "link.csv"
    trace.write_text("# offset_s,bytes_per_s\n0,1000\n2,500\n5,1\n")
    link = Link(scenario_of(uplink="trace", uplink_trace=trace), 0)
    assert [link.bytes_per_s(at_s) for at_s in (0.0, 1.9, 2.0, 4.9, 5.0, 7.5)] == [1000, 1000, 500, 500, 1000, 500]
    trace.write_text("1,1000\n")
    other = scenario_of(uplink="trace", uplink_trace=tmp_path / "other.csv")
    with pytest.raises(SettingsError, match="offset_s,bytes_per_s"):
        Link(other, 0)


def test_after_a_step_the_load_is_the_other_one() -> None:
    records = Records()
    scenario = scenario_of(
        tasks=2_000,
        load_pattern=Pattern.POISSON,
        load_share=0.2,
        load_mean_s=0.01,
        step_at_s=200.0,
        step_load_share=0.8,
    )
    world_of("edge-only", scenario, records).run()
    jobs = [tail.arrived_at_s for tail in records.admitted if tail.work.device is None]
    before, after = sum(0 <= at_s < 200 for at_s in jobs), sum(200 <= at_s < 400 for at_s in jobs)
    assert before == pytest.approx(200 * 20, rel=0.1)
    assert after == pytest.approx(200 * 80, rel=0.1)


def test_devices_have_their_own_speeds_and_share_the_edges() -> None:
    scenario = scenario_of(devices=5, device_factors=(1.0, 2.0), edges=2, tasks=200)
    world = world_of("open-loop", scenario)
    whole = [math.fsum(device.speeds.segment_s) for device in world.devices]
    assert whole == pytest.approx([0.1, 0.2, 0.1, 0.2, 0.1])
    assert [device.edge.index for device in world.devices] == [0, 1, 0, 1, 0]
    assert sum(len(device.samples.arrivals_s) for device in world.devices) == 200
    assert world.run().summary.tasks == 200


@pytest.mark.parametrize("name", ["device_whole_s", "edge_whole_s", "uplink_bytes_per_s"])
def test_a_scenario_that_leaves_a_speed_to_be_measured_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        world_of("open-loop", scenario_of(**{name: None}))
