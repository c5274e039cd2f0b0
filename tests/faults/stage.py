"""Twin, edges and devices as real processes, with a link that can be made to fail on each way between two of them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc

from benchmarks.testbed.follow import LineFollower
from benchmarks.testbed.process import HOST, ServiceEndedError, ServiceProcess, free_ports, sample, total
from benchmarks.testbed.scenarios import SHIPPED_MODEL
from tests.faults.catalogue import Service
from tests.faults.link import Link, Switchboard
from tests.faults.program import Program
from tests.integration.device_bench import write_profile
from twin_service.workload.traces import unpacked
from twinsplit.rpc.v1 import device_pb2, device_pb2_grpc, twin_pb2, twin_pb2_grpc
from twinsplit.types import Outcome, Reason

SEGMENT_S = 0.04
"""Every segment is emulated to last so long."""
SLOWDOWN = 40.0
ANSWER_TIMEOUT_S = 0.5
RULE = "static:1"
"""Every task is offloaded after its first segment, so that there is always an upload to hit."""
SAVE_S = 0.1
PATIENCE_S = 30.0
LOOK_EVERY_S = 0.02


class Device:
    """A device's process, its program and its lines; it may have several lives."""

    def __init__(self, name: str, stage: Stage, twin_link: Link) -> None:
        port, http_port = free_ports(2)
        self.name = name
        self.address = f"{HOST}:{port}"
        self.sink = stage.folder / f"{name}.jsonl"
        arguments = [
            *("-m", "device", f"--id={name}", f"--model={SHIPPED_MODEL}", f"--twin={HOST}:{twin_link.port}"),
            *(f"--listen={self.address}", f"--http-listen={HOST}:{http_port}", f"--sink={self.sink}"),
            *(f"--profile={stage.profile}", f"--emulate-slowdown={SLOWDOWN:g}", "--energy=model", "--drain-s=2"),
            *(f"--answer-timeout-s={ANSWER_TIMEOUT_S:g}", "--log-format=json"),
        ]
        self.process = ServiceProcess(name, arguments, stage.folder, http_port)
        self.program = Program(self.address)
        self._follower = LineFollower(self.sink)
        self._life_began_at_line = [0]
        self._life_began_at_submission = 0

    def status(self) -> dict[str, Any]:
        """What the device says of itself."""
        with grpc.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = device_pb2_grpc.DeviceServiceStub(channel)
            answer = stub.GetStatus(device_pb2.GetStatusRequest(), timeout=PATIENCE_S, wait_for_ready=True)
        document: dict[str, Any] = json.loads(answer.status_json)
        return document

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Of all its lives, as far as they have been read."""
        return self._follower.objects

    def new_life(self) -> None:
        """The process has been started anew and counts from 1 again."""
        self._follower.new_objects()
        self._life_began_at_line.append(len(self.lines))
        self._life_began_at_submission = len(self.program.submissions)

    def unfinished_business(self) -> list[str]:
        """Of a life that SIGTERM has ended, before the next begins: what it took and did not finish, write down and
        answer."""
        submissions = self.program.submissions[self._life_began_at_submission :]
        for submission in submissions:
            submission.over.wait(PATIENCE_S)
        self._follower.new_objects()
        lines = self.lines[self._life_began_at_line[-1] :]
        log = LineFollower(self.process.log_path).new_objects()
        summary = next((line for line in reversed(log) if line.get("event") == "device-stopped"), None)
        if summary is None:
            return [f"{self.name} has not stopped in order: {self.process.last_lines()}"]
        ended = sum(summary[outcome.value] for outcome in Outcome)
        problems = []
        if not summary["entered"] == ended == len(lines):
            problems.append(
                f"{self.name} stopped: {summary['entered']} tasks entered, {ended} ended, {len(lines)} lines"
            )
        answered = {answer["task_id"] for submission in submissions for answer in submission.answers}
        finished = {line["task_id"] for line in lines if line["reason"] != Reason.SHUTDOWN.value}
        if finished - answered:
            problems.append(f"{self.name} stopped: it finished and did not answer {sorted(finished - answered)}")
        return problems

    def settled(self) -> list[str]:
        """Wait until nothing is open; where this life's counters and lines do not show one outcome for every task."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            metrics = self.process.metrics()
            self._follower.new_objects()
            entered, ended = (int(total(metrics, f"twinsplit_tasks_{name}total")) for name in ("entered_", ""))
            lines = self.lines[self._life_began_at_line[-1] :]
            if metrics is not None and entered == ended == len(lines):
                break
            if time.monotonic() > deadline_s:
                return [f"{entered} tasks entered {self.name}, {ended} ended, {len(lines)} have a line"]
            time.sleep(LOOK_EVERY_S)
        return [
            f"{self.name}: tasks with two lines in one life: {doubled}"
            for first, last in pairwise([*self._life_began_at_line, len(self.lines)])
            if (doubled := _doubled(self.lines[first:last]))
        ]


class Stage:
    """A running system; a context manager. Everything is stopped at the end, whatever happens."""

    def __init__(self, folder: Path, devices: int = 1, edges: int = 1) -> None:
        self.folder = folder
        self.profile = folder / "profile.json"
        self.state = folder / "state"
        self.board = Switchboard()
        self.frame = next((SHIPPED_MODEL / "frames").glob("*.jpg")).read_bytes()
        write_profile(SHIPPED_MODEL, self.profile, SEGMENT_S / SLOWDOWN, exit_s=1e-5)
        twin_port, twin_http = free_ports(2)
        self._twin_address = f"{HOST}:{twin_port}"
        self.twin = ServiceProcess("twin", _twin_arguments(twin_port, twin_http, self.state), folder, twin_http)
        self.device_twin = self._link("device-twin", twin_port)
        self.edge_twin = self._link("edge-twin", twin_port)
        self.device_edges: list[Link] = []
        self.edges: list[ServiceProcess] = []
        for index in range(edges):
            port, http_port = free_ports(2)
            link = self._link(f"device-edge-{index + 1}", port)
            name = f"edge-{index + 1}"
            arguments = _edge_arguments(name, port, http_port, link.port, self.edge_twin.port, self.profile)
            self.edges.append(ServiceProcess(name, arguments, folder, http_port))
            self.device_edges.append(link)
        self.devices = [Device(f"device-{index + 1}", self, self.device_twin) for index in range(devices)]

    def __enter__(self) -> Stage:
        try:
            for process in self.processes:
                process.start()
            for process in self.processes:
                process.wait_until_ready()
            self.await_whole()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        for link in self.links:
            link.mend()
        for device in self.devices:
            device.program.close()
        for process in self.processes:
            process.ask_to_stop()
        for process in self.processes:
            process.stop()
        self.board.close()

    @property
    def processes(self) -> list[ServiceProcess]:
        return [self.twin, *self.edges, *(device.process for device in self.devices)]

    @property
    def links(self) -> list[Link]:
        return [self.device_twin, self.edge_twin, *self.device_edges]

    def process(self, service: Service) -> ServiceProcess:
        """The first of its kind."""
        return {Service.TWIN: self.twin, Service.EDGE: self.edges[0], Service.DEVICE: self.devices[0].process}[service]

    def links_of(self, service: Service) -> list[Link]:
        """The ways that begin or end at it."""
        return {
            Service.TWIN: [self.device_twin, self.edge_twin],
            Service.EDGE: [self.edge_twin, *self.device_edges],
            Service.DEVICE: [self.device_twin, *self.device_edges],
        }[service]

    def lack(self) -> str | None:
        """What still keeps the system from being whole, as the services themselves say; ``None``: nothing."""
        for edge in self.edges:
            if sample(edge.metrics(), "twinsplit_twin_attached") != 1.0:
                return f"{edge.name} is not attached"
        for device in self.devices:
            metrics = device.process.metrics()
            if sample(metrics, "twinsplit_twin_attached") != 1.0:
                return f"{device.name} is not attached"
            if sample(metrics, "twinsplit_degraded") != 0.0:
                return f"{device.name} has no plan"
            if sample(metrics, "twinsplit_breaker_state", state="closed") != 1.0:
                return f"the breaker of {device.name} is not closed"
        return None

    def recorded(self) -> set[str]:
        """Lines of the tasks that the twin has recorded, as it exports them."""
        with grpc.insecure_channel(self._twin_address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            batches = twin_pb2_grpc.TwinServiceStub(channel).ExportTraces(
                twin_pb2.ExportTracesRequest(), timeout=PATIENCE_S, wait_for_ready=True
            )
            lines = [line for batch in batches for line in unpacked(batch.lines_zstd).splitlines()]
        return {line for line in lines if json.loads(line)["kind"] == "task"}

    def await_whole(self, patience_s: float = PATIENCE_S) -> None:
        """Return when every device has a plan and an edge that answers, by offloading a task to see.

        Raises:
            ServiceEndedError: they do not find one another.
        """
        deadline_s = time.monotonic() + patience_s
        while (reason := self._first_lack()) is not None:
            if time.monotonic() > deadline_s:
                raise ServiceEndedError(f"not whole after {patience_s:g} s: {reason}")
            time.sleep(LOOK_EVERY_S)

    def _first_lack(self) -> str | None:
        for device in self.devices:
            submission = device.program.submit(self.frame)
            submission.over.wait(PATIENCE_S)
            if not submission.answers or submission.answers[0]["outcome"] != "edge":
                return f"{device.name}: a task did not end at an edge"
        return self.lack()

    def _link(self, name: str, target_port: int) -> Link:
        (port,) = free_ports(1)
        return self.board.link(name, port, target_port)


def _doubled(lines: Sequence[dict[str, Any]]) -> list[int]:
    return [task_id for task_id, count in Counter(line["task_id"] for line in lines).items() if count > 1]


def _twin_arguments(port: int, http_port: int, state: Path) -> list[str]:
    return [
        *("-m", "twin_service", f"--listen={HOST}:{port}", f"--http-listen={HOST}:{http_port}", f"--state={state}"),
        *(f"--rule={RULE}", f"--save-s={SAVE_S:g}", "--log-format=json"),
    ]


def _edge_arguments(name: str, port: int, http_port: int, seen_as: int, twin_port: int, profile: Path) -> list[str]:
    return [
        *("-m", "edge", f"--id={name}", f"--listen={HOST}:{port}", f"--http-listen={HOST}:{http_port}"),
        *(f"--advertise={HOST}:{seen_as}", f"--models={SHIPPED_MODEL}", f"--twin={HOST}:{twin_port}"),
        *(f"--profile={profile}", "--drain-s=1", "--log-format=json"),
    ]
