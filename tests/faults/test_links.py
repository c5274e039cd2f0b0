"""Connections that are reset, half open or drained too slowly, and full disks: real processes, and nothing is lost."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.testbed.process import sample
from tests.faults.catalogue import Fault, has_not_fired
from tests.faults.cell_run import RECOVERY_S, WAITING_BOUND_S, added_waiting_s
from tests.faults.flatness import sampled
from tests.faults.link import Way
from tests.faults.moments import HALF_A_PAYLOAD_BYTES
from tests.faults.program import Submission
from tests.faults.stage import Device, Stage
from twinsplit.transport.limits import KEEPALIVE_TIME_S, KEEPALIVE_TIMEOUT_S

pytestmark = pytest.mark.slow

PATIENCE_S = 20.0
KEPT_TENSORS = 8
"""Default of ``--kept-tensors``."""
CONNECTED_S = 3.0
"""Longest time for a connection that is known to be gone to be made anew."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stage")) as running:
        yield running


@pytest.fixture
def device(stage: Stage) -> Iterator[Device]:
    """The device, whose books are looked at afterwards."""
    stage.await_whole()
    assert stage.devices[0].settled() == []
    first = len(stage.devices[0].program.submissions)
    yield stage.devices[0]
    for link in stage.links:
        link.mend()
    submissions = stage.devices[0].program.submissions[first:]
    for submission in submissions:
        assert submission.over.wait(PATIENCE_S)
    assert [len(submission.answers) for submission in submissions] == [1] * len(submissions)
    assert stage.devices[0].settled() == []


def answered(submissions: Sequence[Submission]) -> list[dict[str, object]]:
    for submission in submissions:
        assert submission.over.wait(PATIENCE_S)
    return [submission.answers[0] for submission in submissions]


def memory_bytes(device: Device) -> int:
    assert device.process.pid is not None
    found = sampled(device.process.pid, 0.0)
    assert found is not None
    return found.memory_bytes


def test_connections_reset_in_the_middle_of_a_payload_cost_one_task_its_offload(stage: Stage, device: Device) -> None:
    halted = stage.device_edges[0].halt_after(Way.UP, HALF_A_PAYLOAD_BYTES)
    submission = device.program.submit(stage.frame)
    assert halted.wait(PATIENCE_S)
    for link in stage.links:
        assert link.reset() > 0, has_not_fired(Fault.RESET)
        link.release()
    began_s = time.monotonic()
    (task,) = answered([submission])
    assert (task["outcome"], task["reason"]) == ("device", "edge-lost")
    assert added_waiting_s(task) < WAITING_BOUND_S
    stage.await_whole(PATIENCE_S)
    assert time.monotonic() - began_s < RECOVERY_S


def test_an_end_that_is_gone_without_a_word_is_found_out_and_no_task_waits_for_it(stage: Stage, device: Device) -> None:
    left = [link.leave_half_open() for link in stage.links]
    assert min(left) > 0
    bound_s = KEEPALIVE_TIME_S + KEEPALIVE_TIMEOUT_S + CONNECTED_S
    began_s = time.monotonic()
    submissions: list[Submission] = []
    while not submissions or stage.lack() is not None or submissions[-1].ended_at != "edge":
        assert time.monotonic() - began_s < bound_s, f"still so after {bound_s:g} s: {stage.lack()}"
        submissions.append(device.program.submit(stage.frame))
        assert submissions[-1].over.wait(PATIENCE_S)
        time.sleep(0.1)
    assert all(link.fired["bytes swallowed"] > 0 for link in stage.links), has_not_fired(Fault.HALF_OPEN)
    waited_s = [added_waiting_s(task) for task in answered(submissions)]
    assert max(waited_s) < WAITING_BOUND_S
    assert sum(submission.ended_at == "device" for submission in submissions) > 0


def test_an_edge_that_reads_next_to_nothing_does_not_make_a_device_grow(stage: Stage, device: Device) -> None:
    link = stage.device_edges[0]
    before_bytes = memory_bytes(device)
    link.slow(100.0, frozenset({Way.UP}))
    submissions = [device.program.submit(stage.frame) for _ in range(40)]
    most, largest_bytes = 0, 0
    while not all(submission.over.is_set() for submission in submissions):
        metrics = device.process.metrics()
        most = max(most, int(sample(metrics, "twinsplit_uploads_in_flight") or 0))
        largest_bytes = max(largest_bytes, memory_bytes(device))
        time.sleep(0.02)
    assert link.fired["bytes slowed"] > 0, has_not_fired(Fault.SLOW_READER)
    assert 0 < most <= KEPT_TENSORS
    assert largest_bytes - before_bytes < 30e6


def test_a_disk_that_is_full_delays_no_task_and_leaves_no_gap_in_the_records(stage: Stage, device: Device) -> None:
    pid = device.process.pid
    assert pid is not None
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (device.sink.stat().st_size + 10, limits[1]))
    try:
        # One after the other: none waits for another.
        tasks = [answered([device.program.submit(stage.frame)])[0] for _ in range(5)]
        deadline_s = time.monotonic() + PATIENCE_S
        while sample(device.process.metrics(), "twinsplit_sink_waiting_records") != 5.0:
            assert time.monotonic() < deadline_s, has_not_fired(Fault.FULL_DISK)
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    assert max(map(added_waiting_s, tasks)) < WAITING_BOUND_S
    assert "sink-fails" in device.process.log_path.read_text() or _is_log_full(device.process.log_path, device.sink)


def _is_log_full(log: Path, sink: Path) -> bool:
    """The limit is one for all files of a process; a log that is longer than the records took no line either."""
    return log.stat().st_size >= sink.stat().st_size


def test_a_twin_whose_disk_is_full_goes_on_from_memory_and_saves_later(stage: Stage, device: Device) -> None:
    pid, log = stage.twin.pid, stage.state / "twin.sqlite-wal"
    assert pid is not None
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (stage.twin.log_path.stat().st_size + 4096, limits[1]))
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while "state-not-saved" not in stage.twin.log_path.read_text():
            (task,) = answered([device.program.submit(stage.frame)])
            assert task["outcome"] in ("edge", "device")
            assert time.monotonic() < deadline_s, has_not_fired(Fault.FULL_DISK)
        stage.device_twin.reset()
        stage.await_whole()
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    before = log.stat().st_mtime_ns
    (task,) = answered([device.program.submit(stage.frame)])
    deadline_s = time.monotonic() + PATIENCE_S
    while log.stat().st_mtime_ns == before:
        assert time.monotonic() < deadline_s, "the state is not saved though the disk has room again"
        time.sleep(0.02)
