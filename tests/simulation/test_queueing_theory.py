"""The simulator reproduces queueing theory: expectations come from formulas, never from the simulator."""

from __future__ import annotations

import math

import pytest

from benchmarks.scenario import changed_scenario
from benchmarks.simulator.edge import SimulatedEdge, Work
from benchmarks.simulator.load import LoadJobs, job_sizes_s
from benchmarks.simulator.speeds import speeds_of
from benchmarks.simulator.world import World, model_of
from edge.load_pattern import Pattern
from edge.tail_queue import Tail
from tests.simulation.intervals import assert_mean
from tests.simulation.worlds import Records, scenario_of, world_of

pytestmark = pytest.mark.slow

SERVICE_S = 0.02
BUSY = {"task_rate_per_s": 5.0, "device_whole_s": 0.3, "uplink_bytes_per_s": 8_000.0}
"""A slow link and a slow device: tasks of every rule wait."""


def edge_waits_s(sizes: str, share: float, jobs: int, seed: int) -> list[float]:
    """Waits of other users' jobs at an edge that serves nobody else, after a warm-up."""
    scenario = scenario_of(load_pattern=Pattern.POISSON, load_share=share, load_sizes=sizes, seed=seed)
    waits: list[float] = []

    def started(_: int, tail: Tail[Work], at_s: float) -> None:
        waits.append(at_s - tail.arrived_at_s)

    edge = SimulatedEdge(
        0, "model", (1.0,), LoadJobs(scenario, 0, SERVICE_S), -2.0, capacity=10**9, admitted=None, started=started
    )
    edge.advance(jobs * SERVICE_S / share)
    return waits[jobs // 20 :]


def test_jobs_at_the_edge_wait_as_in_an_m_m_1_queue() -> None:
    share = 0.6
    assert_mean(edge_waits_s("exponential", share, 120_000, 1), share / (1.0 - share) * SERVICE_S, within_share=0.06)


def test_jobs_at_the_edge_wait_as_in_an_m_d_1_queue() -> None:
    share = 0.7
    expected_s = share / (2.0 * (1.0 - share)) * SERVICE_S
    assert_mean(edge_waits_s("fixed", share, 120_000, 2), expected_s, within_share=0.06)


def device_waits_s(share: float, tasks: int, jitter: float = 0.0) -> tuple[list[float], World]:
    scenario = scenario_of(tasks=tasks, task_rate_per_s=share / 0.1, service_jitter=jitter)
    records = Records()
    world = world_of("device-only", scenario, records)
    world.run()
    return records.waits_s[tasks // 20 :], world


def test_tasks_on_a_device_that_does_everything_wait_as_in_an_m_d_1_queue() -> None:
    share = 0.5
    waits_s, _ = device_waits_s(share, 30_000)
    assert_mean(waits_s, share / (2.0 * (1.0 - share)) * 0.1, within_share=0.1)


def test_noise_of_service_times_makes_tasks_wait_as_pollaczek_and_khinchine_say() -> None:
    share, jitter = 0.5, 0.8
    waits_s, world = device_waits_s(share, 30_000, jitter)
    variance = sum((jitter * seconds) ** 2 for seconds in world.devices[0].speeds.segment_s)
    expected_s = (share / 0.1) * (0.1**2 + variance) / (2.0 * (1.0 - share))
    assert expected_s > 1.1 * share / (2.0 * (1.0 - share)) * 0.1
    assert_mean(waits_s, expected_s, within_share=0.1)


def test_the_mean_queue_is_the_task_rate_times_the_mean_wait() -> None:
    """Little's law; the queue is looked at every few milliseconds and knows nothing of waits."""
    records = Records()
    world = world_of("open-loop", scenario_of(tasks=10_000, **BUSY), records)
    device = world.devices[0]
    lengths: list[int] = []
    every_s, until_s = 0.0137, device.samples.arrivals_s[-1]

    def look(at_s: float) -> None:
        lengths.append(device.pipeline.queue_length)
        if at_s + every_s < until_s:
            world.schedule(at_s + every_s, look, at_s + every_s)

    world.schedule(0.0, look, 0.0)
    world.run()
    rate = len(records.tasks) / until_s
    mean_wait_s = math.fsum(records.waits_s) / len(records.tasks)
    assert mean_wait_s > 0.005
    assert_mean(lengths, rate * mean_wait_s, within_share=0.25)
    assert sum(lengths) / len(lengths) == pytest.approx(rate * mean_wait_s, rel=0.02)


def test_all_waiting_is_waiting_that_some_task_caused() -> None:
    """The identity behind the price of a second on the device: all waits sum up to the integral of the queue's length
    over the services of all tasks (design section 5)."""
    records = Records()
    world = world_of("open-loop", scenario_of(tasks=3_000, **BUSY), records)
    device = world.devices[0]
    caused_s: dict[int, float] = {}
    last = [0.0, 0, 0]  # instant, queue length, task in service since then

    def changed() -> None:
        at_s, length, task_id = last
        if task_id:
            caused_s[task_id] = caused_s.get(task_id, 0.0) + length * (world.now_s - at_s)
        else:
            assert length == 0, "somebody waits though nobody is served"
        task = device.task
        last[:] = [world.now_s, device.pipeline.queue_length, 0 if task is None else task.task_id]

    obey = device.obey

    def followed(instructions: list[object]) -> None:
        changed()
        obey(instructions)

    device.obey = followed
    world.run()
    assert sum(records.waits_s) > 10.0
    assert math.fsum(caused_s.values()) == pytest.approx(math.fsum(records.waits_s), rel=1e-9)
    assert len(caused_s) == 3_000


def test_the_load_offered_is_the_share_asked_for_whatever_the_sizes() -> None:
    for sizes in ("fixed", "exponential", "heavy"):
        scenario = scenario_of(load_pattern=Pattern.POISSON, load_share=0.5, load_sizes=sizes)
        jobs = LoadJobs(scenario, 0, SERVICE_S)
        assert math.fsum(jobs.sizes_s) / len(jobs.sizes_s) == pytest.approx(SERVICE_S)
        seconds = 2_000.0
        work_s = [0.0] * 2_000
        for at_s, service_s in jobs.between(0.0, seconds):
            work_s[min(int(at_s), 1_999)] += service_s
        assert_mean(work_s, 0.5, within_share=0.15)


def test_exponential_sizes_have_the_variance_of_an_exponential_distribution() -> None:
    jobs = LoadJobs(scenario_of(load_sizes="exponential"), 0, SERVICE_S)
    second_moment = math.fsum(size * size for size in jobs.sizes_s) / len(jobs.sizes_s)
    assert second_moment == pytest.approx(2.0 * SERVICE_S**2, rel=0.005)


def test_heavy_sizes_follow_a_pareto_distribution() -> None:
    jobs = LoadJobs(scenario_of(load_sizes="heavy"), 0, SERVICE_S)
    shortest_s = SERVICE_S / 3.0  # the mean is shape / (shape - 1) = 3 times the shortest
    for beyond in (2.0, 5.0, 20.0):
        share = sum(size > beyond * shortest_s for size in jobs.sizes_s) / len(jobs.sizes_s)
        assert share == pytest.approx(beyond**-1.5, abs=2e-3)


def test_jobs_are_of_another_kind_from_the_step_on_and_offer_as_much() -> None:
    alike = scenario_of(load_pattern=Pattern.POISSON, load_share=0.5)
    turning = changed_scenario(alike, step_at_s=1_000.0, step_load_sizes="heavy")
    jobs, same = LoadJobs(turning, 0, SERVICE_S), LoadJobs(alike, 0, SERVICE_S)
    before, after = list(jobs.between(0.0, 999.9)), list(jobs.between(1_000.0, 3_000.0))
    assert before == list(same.between(0.0, 999.9))
    assert {service_s for _, service_s in before} == {SERVICE_S}
    assert {service_s for _, service_s in after} <= set(job_sizes_s("heavy", SERVICE_S))
    assert_mean([service_s for _, service_s in after], SERVICE_S, within_share=0.15)


def test_speeds_add_up_to_the_whole_network() -> None:
    scenario = scenario_of()
    manifest, _ = model_of(scenario.model)
    speeds = speeds_of(scenario, manifest)
    assert math.fsum(speeds.segment_s) == pytest.approx(0.1)
    assert speeds.tail_s[0] == pytest.approx(0.01)
