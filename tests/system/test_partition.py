"""A device and the rest of the system in two network namespaces whose packets no longer reach one another: nothing is
refused, nothing answers, as with a pulled cable behind a switch."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.testbed.follow import LineFollower
from benchmarks.testbed.process import HOST, ServiceProcess, free_ports, sample, total
from benchmarks.testbed.scenarios import SHIPPED_MODEL
from tests.faults.catalogue import Fault, has_not_fired
from tests.faults.program import Program, Submission

pytestmark = [pytest.mark.needs("root", "iproute2", "network-namespaces"), pytest.mark.timeout(180)]

NAMESPACE = "twinsplit-partition"
NEAR, FAR = "10.213.77.1", "10.213.77.2"
NEAR_END, FAR_END = "twinsplit-near", "twinsplit-far"
NOBODY = "02:00:00:00:00:99"
"""No interface has this address: what is sent to it vanishes."""
ANSWER_TIMEOUT_S = 0.5
PARTITION_S = 4.0
WAITING_BOUND_S = ANSWER_TIMEOUT_S + 0.25
RECOVERY_S = PARTITION_S + 3.0
"""TCP sends again what was lost after pauses that have doubled meanwhile, at most as long again as the partition
lasted; then all is as after any outage."""
PATIENCE_S = 40.0
IN_NAMESPACE = (
    "import os, sys; os.execvp('ip', ['ip', 'netns', 'exec', sys.argv[1], sys.executable, *sys.argv[2:]])",
    NAMESPACE,
)


def ip(*words: str) -> None:
    """The command ``ip``."""
    subprocess.run(("ip", *words), check=True, capture_output=True, text=True)


def far_ip(*words: str) -> None:
    """The same in the namespace."""
    ip("-n", NAMESPACE, *words)


class Cable:
    """Two ends of a cable between this namespace and the other."""

    def cut(self) -> None:
        """From now on both ends talk to nobody."""
        ip("neigh", "replace", FAR, "lladdr", NOBODY, "dev", NEAR_END, "nud", "permanent")
        far_ip("neigh", "replace", NEAR, "lladdr", NOBODY, "dev", FAR_END, "nud", "permanent")

    def mend(self) -> None:
        """As before."""
        ip("neigh", "del", FAR, "dev", NEAR_END)
        far_ip("neigh", "del", NEAR, "dev", FAR_END)

    @property
    def lost_packets(self) -> int:
        """Packets that went out at the near end: those after :meth:`cut` reached nobody."""
        return int(Path(f"/sys/class/net/{NEAR_END}/statistics/tx_packets").read_text())


@contextmanager
def cable() -> Iterator[Cable]:
    # One that a run left behind which was killed.
    subprocess.run(("ip", "netns", "del", NAMESPACE), check=False, capture_output=True)
    ip("netns", "add", NAMESPACE)
    try:
        far_ip("link", "set", "lo", "up")
        ip("link", "add", NEAR_END, "type", "veth", "peer", "name", FAR_END, "netns", NAMESPACE)
        ip("address", "add", f"{NEAR}/30", "dev", NEAR_END)
        ip("link", "set", NEAR_END, "up")
        far_ip("address", "add", f"{FAR}/30", "dev", FAR_END)
        far_ip("link", "set", FAR_END, "up")
        yield Cable()
    finally:
        # The cable goes with the namespace that holds one of its ends.
        ip("netns", "del", NAMESPACE)


@contextmanager
def running(*processes: ServiceProcess) -> Iterator[None]:
    try:
        for process in processes:
            process.start()
        yield
    finally:
        for process in processes:
            process.ask_to_stop()
        for process in processes:
            process.stop()


def ended(program: Program, frame: bytes) -> Submission:
    submission = program.submit(frame)
    assert submission.over.wait(PATIENCE_S)
    return submission


def is_whole(device: ServiceProcess) -> bool:
    metrics = device.metrics()
    return (
        sample(metrics, "twinsplit_twin_attached") == 1.0
        and sample(metrics, "twinsplit_degraded") == 0.0
        and sample(metrics, "twinsplit_breaker_state", state="closed") == 1.0
    )


def await_whole(device: ServiceProcess, program: Program, frame: bytes, patience_s: float) -> None:
    deadline_s = time.monotonic() + patience_s
    while ended(program, frame).ended_at != "edge" or not is_whole(device):
        assert time.monotonic() < deadline_s, f"not whole after {patience_s:g} s; {device.last_lines()}"
        time.sleep(0.05)


def waiting_s(task: dict[str, Any]) -> float:
    work_s = sum(task["stages_s"][name] or 0.0 for name in ("compute", "encode", "edge_compute"))
    return float(task["latency_s"] - work_s)


def test_a_partition_loses_no_task_delays_none_beyond_the_bound_and_heals(tmp_path: Path) -> None:
    twin_port, twin_http, edge_port, edge_http, port, http_port = free_ports(6)
    sink = tmp_path / "tasks.jsonl"
    frame = next((SHIPPED_MODEL / "frames").glob("*.jpg")).read_bytes()
    far = ("-c", *IN_NAMESPACE, "-m")
    twin = ServiceProcess(
        "twin",
        [
            *(*far, "twin_service", f"--listen={FAR}:{twin_port}", f"--http-listen={FAR}:{twin_http}", "--insecure"),
            *(f"--state={tmp_path / 'state'}", "--rule=static:1", "--log-format=json"),
        ],
        tmp_path,
    )
    edge = ServiceProcess(
        "edge",
        [
            *(*far, "edge", f"--listen={FAR}:{edge_port}", f"--http-listen={FAR}:{edge_http}", "--insecure"),
            *(f"--models={SHIPPED_MODEL}", f"--twin={FAR}:{twin_port}", "--drain-s=0", "--log-format=json"),
        ],
        tmp_path,
    )
    device = ServiceProcess(
        "device",
        [
            *("-m", "device", f"--model={SHIPPED_MODEL}", f"--twin={FAR}:{twin_port}", f"--listen={HOST}:{port}"),
            *(f"--http-listen={HOST}:{http_port}", f"--sink={sink}", "--energy=model", "--log-format=json"),
            f"--answer-timeout-s={ANSWER_TIMEOUT_S}",
        ],
        tmp_path,
        http_port,
    )
    with cable() as link, running(twin, edge, device):
        device.wait_until_ready()
        program = Program(f"{HOST}:{port}")
        await_whole(device, program, frame, PATIENCE_S)
        link.cut()
        first, sent, until_s = len(program.submissions), link.lost_packets, time.monotonic() + PARTITION_S
        while time.monotonic() < until_s:
            ended(program, frame)
            time.sleep(0.05)
        lost_packets = link.lost_packets - sent
        link.mend()
        during = program.submissions[first:]
        await_whole(device, program, frame, RECOVERY_S)
        program.close()
        metrics = device.metrics()
        follower = LineFollower(sink)
        deadline_s = time.monotonic() + PATIENCE_S
        while len(follower.objects) < len(program.submissions) and time.monotonic() < deadline_s:
            follower.new_objects()
            time.sleep(0.05)
    assert lost_packets > 0, has_not_fired(Fault.PARTITIONED)
    assert {submission.ended_at for submission in during} == {"device"}
    assert max(waiting_s(submission.answers[0]) for submission in during) < WAITING_BOUND_S
    assert [len(submission.answers) for submission in program.submissions] == [1] * len(program.submissions)
    entered = total(metrics, "twinsplit_tasks_entered_total")
    assert entered == total(metrics, "twinsplit_tasks_total") == len(follower.objects) == len(program.submissions)
    assert len({line["task_id"] for line in follower.objects}) == len(follower.objects)
