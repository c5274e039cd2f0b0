"""A model goes from version 1 to 2 while tasks run: both sides agree on digests, and no answer is made of both."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.testbed.follow import LineFollower
from benchmarks.testbed.process import HOST, ServiceProcess, free_ports, sample
from tests.integration.device_bench import (
    PATIENCE_S,
    DeviceBench,
    expected_labels,
    running_device,
    running_edge,
    until,
    write_frames,
    write_network,
    write_profile,
)
from tests.unit.edge.tiny_model import write_tiny_model
from twin_service.decision.features import FEATURE_COUNT
from twin_service.decision.value_net import HEADS, OFFLOADING, ValueNet
from twin_service.memory import WeightsRow
from twin_service.reader import TwinReader, reading
from twin_service.store.sqlite import SqliteStore
from twin_service.views import DeviceView
from twin_service.workload.replayed import Replayed
from twinsplit.model.payload import PICTURE_KINDS, decode_payload, encode_payload
from twinsplit.model.preprocessing import prepare
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.transport.tls import TlsFiles
from twinsplit.types import Decision, Outcome, Reason, TaskRecord

pytestmark = pytest.mark.slow

FRAMES = 6
PATIENT = {"answer_timeout_s": 60.0, "drain_s": 60.0}
"""No task ends on the device because the machine is busy with other work."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 and 2 of one network, of the same shapes and with other weights."""
    folder = tmp_path_factory.mktemp("models") / "garments"
    write_network(folder / "1")
    write_tiny_model(folder / "2", seed=7)
    manifest = json.loads((folder / "2/manifest.json").read_text())
    (folder / "2/manifest.json").write_text(json.dumps(manifest | {"version": 2}))
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_frames(tmp_path_factory.mktemp("frames"), FRAMES).iterdir())


def offload_at_1(epoch: int, *_: int) -> Decision:
    return Decision.OFFLOAD_TENSOR if epoch == 1 else Decision.CONTINUE


async def answered_by(bench: DeviceBench, edge: str, frames: Sequence[Path], plan_id: int = 1) -> list[TaskRecord]:
    bench.plan(offload_at_1, edge, plan_id=plan_id, representation=0)
    await bench.edge_is("closed")
    count = len(bench.records)
    await bench.submit(frames)
    return (await bench.ended(count + len(frames)))[count:]


async def test_devices_of_both_versions_are_answered_each_by_its_own(models: Path, frames: list[Path]) -> None:
    labels = {version: expected_labels(models / str(version), frames[0].parent) for version in (1, 2)}
    assert labels[1] != labels[2], "the versions can be told apart"
    async with (
        running_edge(models.parent) as edge,
        running_device(models / "1", id="old", **PATIENT) as old,
        running_device(models / "2", id="new", **PATIENT) as new,
    ):
        assert old.digest != new.digest
        for _ in range(2):
            for bench, version in ((old, 1), (new, 2)):
                records = await answered_by(bench, edge.address, frames, plan_id=len(bench.records) + 1)
                assert {record.outcome for record in records} == {Outcome.EDGE}
                assert {record.frame: record.label for record in records} == labels[version]


async def test_a_device_that_is_rolled_first_finishes_by_itself_until_the_edge_has_its_model(
    models: Path, frames: list[Path]
) -> None:
    labels = {version: expected_labels(models / str(version), frames[0].parent) for version in (1, 2)}
    async with running_edge(models / "1") as edge:
        async with running_device(models / "1", **PATIENT) as old:
            await answered_by(old, edge.address, frames[:3])
            # Rolled while tasks run: what was accepted is finished by the old version.
            await old.submit(frames[3:])
        assert {record.frame: record.label for record in old.records} == labels[1]
        assert old.device.summary()["entered"] == len(old.records) == FRAMES
        async with running_device(models / "2", **PATIENT) as new:
            new.plan(offload_at_1, edge.address, representation=0)
            await new.submit(frames)
            refused = list(await new.ended(FRAMES))
            assert {record.outcome for record in refused} == {Outcome.DEVICE}
            # It need not end first: others meet a breaker that the refusals have opened, and wait for nothing.
            assert min(refused, key=lambda record: record.task_id).reason is Reason.EDGE_REFUSED
            assert {record.frame: record.label for record in refused} == labels[2]
            async with running_edge(models.parent) as rolled:
                records = await answered_by(new, rolled.address, frames, plan_id=2)
                assert {record.frame: record.label for record in records} == labels[2]
                await until(lambda: new.device.status()["open"] == 0)
            assert {record.outcome for record in records} == {Outcome.EDGE}


DEVICES = ("left", "right")
SLOWDOWN = 20.0
SEGMENT_S = 0.04
RATE_PER_S = 5
AT_ONCE = 6
"""Tasks of a device that an edge must answer before the two are believed to agree."""
LONG_BACKLOG_S = 5.0
"""Far more than a device needs for the whole network: only with the learned weights it would offload then."""


def labels_of(head: SegmentRuntime, tail: SegmentRuntime, frame: Path) -> set[str | None]:
    """Every answer that two halves can give to a frame, whichever tensor passes between them and however encoded."""
    found = set()
    tensor = prepare(frame.read_bytes(), head.manifest).tensor
    for cut in range(head.manifest.segment_count):
        for index, entry in enumerate(head.manifest.cuts[cut].representations):
            if entry.kind not in PICTURE_KINDS:
                sent = encode_payload(head.manifest, cut, index, tensor)
                output = tail.run_tail(cut, decode_payload(tail.manifest, cut, sent.header, sent.data))
                assert output is not None
                found.add(tail.answer(output).label)
        tensor = head.run_segment(cut, tensor)
    return found


def write_telling_frames(folder: Path, old: SegmentRuntime, new: SegmentRuntime) -> None:
    """Frames to which each version has one answer, and neither the other version nor a mixture of the two has that."""
    for frame in write_frames(folder, 10 * FRAMES).iterdir():
        olds, news = labels_of(old, old, frame), labels_of(new, new, frame)
        is_told = olds.isdisjoint(labels_of(old, new, frame)) and news.isdisjoint(labels_of(new, old, frame))
        if not (is_told and len(olds) == len(news) == 1):
            frame.unlink()
    assert len(list(folder.iterdir())) >= FRAMES


def weights_that_always_offload() -> ValueNet:
    """Offloading is worth far more than open-loop says, whatever the backlog; while that is short both offload."""
    worth = np.zeros(HEADS, np.float32)
    worth[OFFLOADING] = 1000.0
    return ValueNet(((np.zeros((FEATURE_COUNT, HEADS), np.float32), worth),))


class Life:
    """A device's process from its start to its end, and what became of its tasks."""

    def __init__(self, process: ServiceProcess, sink: Path) -> None:
        self.process = process
        self._follower = LineFollower(sink)
        self._seen = 0

    @property
    def records(self) -> list[dict[str, Any]]:
        self._follower.new_objects()
        return self._follower.objects

    def from_now(self) -> None:
        self._seen = len(self.records)

    def is_answered(self) -> bool:
        """Whether an edge has answered enough tasks since."""
        return sum(record["outcome"] == "edge" for record in self.records[self._seen :]) >= AT_ONCE

    def summary(self) -> dict[str, Any]:
        """What it says at its end."""
        log = LineFollower(self.process.log_path).new_objects()
        (stopped,) = (line for line in log if line["event"] == "device-stopped")
        return stopped


class Site:
    """A twin service, an edge and two devices as real processes; each may be started anew in its place."""

    def __init__(self, folder: Path, models: Path, stack: ExitStack) -> None:
        self.models = models
        self.frames = folder / "frames"
        self.state = folder / "state"
        self.lives: dict[tuple[str, int], Life] = {}
        self._folder, self._stack = folder, stack
        self._ports = {name: free_ports(2) for name in ("twin", "edge", *DEVICES)}
        self._running: dict[str, ServiceProcess] = {}

    def address(self, name: str) -> str:
        return f"{HOST}:{self._ports[name][0]}"

    async def twin(self) -> None:
        flags = ("--learning-share=0", "--save-s=0.1", "--heartbeat-s=0.5")
        await self._roll("twin", "", "twin_service", f"--state={self.state}", *flags)

    async def edge(self, models: Path) -> None:
        """The edge with these models, at the address of the one before it."""
        twin = f"--twin={self.address('twin')}"
        await self._roll("edge", f"-{models.name}", "edge", f"--models={models}", twin, "--id=edge", "--drain-s=1")

    async def device(self, name: str, version: int) -> None:
        """A device with this version, at the address of the one before it."""
        model, sink = self.models / str(version), self._folder / f"{name}-{version}.jsonl"
        profile = write_profile(model, self._folder / f"profile-{version}.json", SEGMENT_S / SLOWDOWN, exit_s=1e-5)
        flags = [
            *(f"--model={model}", f"--twin={self.address('twin')}", f"--id={name}", f"--sink={sink}", "--energy=model"),
            *(f"--source=frames:{self.frames}", f"--arrivals=poisson:{RATE_PER_S}", "--queue-capacity=4096"),
            *(f"--profile={profile}", f"--emulate-slowdown={SLOWDOWN:g}", "--payloads=tensors-only", "--drain-s=30"),
        ]
        self.lives[name, version] = Life(await self._roll(name, f"-{version}", "device", *flags), sink)

    async def stop(self, name: str) -> None:
        """End a process in order, which must not have met another model than it holds."""
        if (process := self._running.get(name)) is not None:
            assert not sample(process.metrics(), "twinsplit_refused_messages_total", code="WRONG_DIGEST")
            assert await asyncio.to_thread(process.stop) == 0, process.last_lines()

    async def answered(self, *lives: tuple[str, int]) -> None:
        """Wait until an edge has answered tasks of all of these that end from now on."""
        for key in lives:
            self.lives[key].from_now()
        await until(lambda: all(self.lives[key].is_answered() for key in lives))

    async def _roll(self, name: str, label: str, module: str, *flags: str) -> ServiceProcess:
        await self.stop(name)
        port, http_port = self._ports[name]
        places = (f"--listen={HOST}:{port}", f"--http-listen={HOST}:{http_port}", "--log-format=json")
        process = ServiceProcess(f"{name}{label}", ["-m", module, *places, *flags], self._folder, http_port)
        self._running[name] = process
        self._stack.callback(process.kill)
        process.start()
        await asyncio.to_thread(process.wait_until_ready)
        return process


async def twins(reader: TwinReader, models: dict[str, SegmentRuntime]) -> list[DeviceView]:
    """The twins of the devices that hold these; each has a plan for its model and the edge."""
    found = [(await reader.device(name))[0] for name in models]
    for view, model in zip(found, models.values(), strict=True):
        assert view.plan is not None
        assert (view.model_digest, view.plan.model_digest, view.plan.edge_id) == (model.digest, model.digest, "edge")
    return found


async def held_at_the_edge(reader: TwinReader) -> set[str]:
    """Digests of its models, as the twin has been told."""
    (edge,) = (await reader.listing()).edges
    return set(edge.model_digests)


def obeys_weights(view: DeviceView) -> bool:
    """Whether it has a plan that only the learned weights make."""
    assert view.plan is not None
    states = range(view.plan.table.shape[1])
    return any(view.plan.decision(1, evidence, 0, LONG_BACKLOG_S).is_offload for evidence in states)


async def replayed(reader: TwinReader) -> tuple[set[int], set[tuple[str, str]]]:
    """Versions of the models that devices hold, and device and digest of every task that is replayed for them; waits
    until there are tasks of all devices."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        batches = [batch async for batch in reader.replay("", 0)]
        versions = {json.loads(batch.manifest_json)["version"] for batch in batches if batch.manifest_json}
        tasks = [Replayed.from_bytes(data) for batch in batches for data in batch.records]
        if {task.device_id for task in tasks} == set(DEVICES):
            return versions, {(task.device_id, task.model_digest) for task in tasks}
        await asyncio.sleep(0.1)
    raise AssertionError("not every device has a task replayed")


async def roll(site: Site, reader: TwinReader, old: SegmentRuntime, new: SegmentRuntime) -> None:
    """As an operator does it, and what the twin says at every step."""
    left, right = DEVICES
    await asyncio.gather(site.twin(), site.edge(site.models / "1"), site.device(left, 1), site.device(right, 1))
    await site.answered((left, 1), (right, 1))
    assert await held_at_the_edge(reader) == {old.digest}
    before = await twins(reader, {left: old, right: old})
    assert all(map(obeys_weights, before))
    assert await replayed(reader) == ({1}, {(left, old.digest), (right, old.digest)})

    await site.edge(site.models)
    await site.answered((left, 1), (right, 1))
    assert await held_at_the_edge(reader) == {old.digest, new.digest}

    await site.device(left, 2)
    await site.answered((left, 2), (right, 1))
    rolled, _ = await twins(reader, {left: new, right: old})
    assert not obeys_weights(rolled)
    await site.device(right, 2)
    await site.answered((left, 2), (right, 2))

    await site.edge(site.models / "2")
    await site.answered((left, 2), (right, 2))
    assert await held_at_the_edge(reader) == {new.digest}
    after = await twins(reader, {left: new, right: new})
    assert not any(map(obeys_weights, after))
    assert await replayed(reader) == ({2}, {(left, new.digest), (right, new.digest)})
    for was, now in zip(before, after, strict=True):
        assert (was.version, was.attachment_epoch) < (now.version, now.attachment_epoch)
        assert (was.plan_id or 0) < (now.plan_id or 0)


@pytest.mark.timeout(300)
async def test_edge_and_devices_are_rolled_in_place_under_a_twin_while_tasks_run(models: Path, tmp_path: Path) -> None:
    runtimes = {version: SegmentRuntime.load(models / str(version)) for version in (1, 2)}
    old, new = runtimes.values()
    assert old.digest != new.digest
    learnt = WeightsRow(old.digest, 1, "serving", 1.7e9, "{}", weights_that_always_offload().to_bytes())
    with ExitStack() as stack:
        site = Site(tmp_path, models, stack)
        write_telling_frames(site.frames, old, new)
        with closing(SqliteStore(site.state)) as store:
            store.keep_weights(learnt)
        async with reading(site.address("twin"), TlsFiles()) as reader:
            await roll(site, reader, old, new)
            await asyncio.gather(*map(site.stop, DEVICES))
            await site.stop("edge")
            documents = (await reader.listing()).devices
            traces = [json.loads(line) async for batch in reader.traces() for line in batch.splitlines()]
            assert [(row.model_digest, row.version) for row in await reader.weights()] == [(old.digest, 1)]

    books = {}
    for (name, version), life in site.lives.items():
        records, summary = life.records, life.summary()
        assert summary["entered"] == len(records) == sum(summary[outcome.value] for outcome in Outcome)
        assert sorted(record["task_id"] for record in records) == list(range(1, len(records) + 1))
        assert {record["outcome"] for record in records} <= {"edge", "device", "exit"}
        labels = expected_labels(models / str(version), site.frames)
        whole = [record for record in records if record["outcome"] != "exit"]
        assert [record for record in whole if record["label"] != labels[record["frame"]]] == []
        assert min(record["stop_epoch"] for record in whole) > 0, "both halves are needed"
        books[name, runtimes[version].digest] = {(r["task_id"], r["outcome"], r["stop_epoch"]) for r in records}
    # What the twin tells of a model, tasks of that model did; a report that was under way at an end may be missing.
    for document in documents:
        of_both = [r["outcome"] for version in (1, 2) for r in site.lives[document.device_id, version].records]
        assert Counter(document.outcomes) <= Counter(of_both)
    told: dict[tuple[str, str], set[tuple[int, str, int]]] = {key: set() for key in books}
    for line in (line for line in traces if line["kind"] == "task"):
        told[line["device_id"], line["model_digest"]].add((line["task_id"], line["outcome"], line["stop_epoch"]))
    assert all(len(told[key]) >= AT_ONCE and told[key] <= books[key] for key in books)
