"""Tails run by a process of its own: the same outputs, given up as soon, and started again when it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from edge.computing import LocalComputing
from edge.computing_process.messages import Start
from edge.computing_process.parent import AHEAD_BYTES, ComputingProcess
from edge.idle_check import IdleCheck
from edge.models import HeldModel, load_models
from edge.service import start_edge
from edge.settings import EdgeSettings
from edge.tail_queue import Tail
from edge.tail_work import EdgeTail, TailWork
from tests.integration.device_bench import until
from tests.unit.edge.tiny_model import boundary_tensors, write_tiny_model
from twinsplit.clock import SystemClock
from twinsplit.errors import ModelFileError, SettingsError, TensorError
from twinsplit.model.payload import encode_payload
from twinsplit.model.profile import made_up_input
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.tensor import EncodedTensor, decode
from twinsplit.transport.channel import open_channel
from twinsplit.transport.status import InternalError
from twinsplit.transport.tail_stream import InferRequest, InferResponse, infer_call

SLOW = 20_000.0
"""Emulated: a segment of some 20 us then takes long enough to be met within."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder / "tiny" / "1")
    write_tiny_model(folder / "other" / "1", name="other", seed=1)
    return folder


def start_of(root: Path, slowdown: float = 1.0) -> Start:
    return Start(
        models=root,
        provider="cpu",
        threads=1,
        slowdown=slowdown,
        profile=None,
        log_level="warning",
        is_log_json=True,
    )


class Bench:
    """A computing process with its models, and tails for it."""

    def __init__(self, root: Path, slowdown: float = 1.0, ahead_bytes: int = AHEAD_BYTES) -> None:
        self.process = ComputingProcess(start_of(root, slowdown), ahead_bytes)
        self.models: dict[str, HeldModel] = self.process.models()
        self.runtime = SegmentRuntime.load(root / "tiny" / "1")
        self.tensors = boundary_tensors(self.runtime)
        self.model = self.models[self.runtime.digest]

    def tail(self, cut: int = 0, position: int = 0, scale: float = 1.0, deadline_at_s: float | None = None) -> EdgeTail:
        picture = made_up_input(self.runtime.manifest).picture
        tensor = (self.tensors[cut] * scale).astype(np.float32)
        payload = encode_payload(self.runtime.manifest, cut, position, tensor, picture)
        return self.tail_of(cut, payload, deadline_at_s)

    def tail_of(self, cut: int, payload: EncodedTensor, deadline_at_s: float | None = None) -> EdgeTail:
        work = TailWork(payload.header, payload.data, lambda _tail, _result: None)
        return Tail(self.runtime.digest, cut, "stream", work, 0.0, deadline_at_s)

    def output(self, tail: EdgeTail, following: EdgeTail | None = None) -> Any:
        (output,) = self.process.run([tail], following).outputs
        assert output is not None
        return decode(output.header, output.data, 1000)

    def kill(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)


def computing_processes() -> set[int]:
    """Of this test run that live."""
    found = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "edge.computing_process" in child.cmdline():
                found.add(child.pid)
    return found


@pytest.fixture(scope="module")
def bench(root: Path) -> Iterator[Bench]:
    bench = Bench(root)
    yield bench
    bench.process.close()


@pytest.fixture
def slow_bench(root: Path) -> Iterator[Bench]:
    bench = Bench(root, SLOW)
    yield bench
    bench.process.close()


@pytest.fixture(scope="module")
def here(root: Path) -> LocalComputing:
    return LocalComputing(load_models(root, clock=SystemClock()), SystemClock())


def test_it_measures_the_models_that_the_edge_holds(bench: Bench, root: Path) -> None:
    loaded = load_models(root, clock=SystemClock())
    assert set(bench.models) == set(loaded)
    for digest, model in bench.models.items():
        assert model.manifest == loaded[digest].manifest
        assert min(model.segment_s) > 0.0
        assert min(model.decode_s) > 0.0
        assert model.batches_from == loaded[digest].batches_from


def test_every_cut_and_representation_gives_what_it_gives_in_the_thread(bench: Bench, here: LocalComputing) -> None:
    manifest = bench.runtime.manifest
    for cut in range(manifest.segment_count):
        for position in range(len(manifest.cuts[cut].representations)):
            tail = bench.tail(cut, position)
            (expected,) = here.run([tail]).outputs
            assert expected is not None
            np.testing.assert_array_equal(bench.output(tail), decode(expected.header, expected.data, 1000))


def test_what_follows_is_begun_without_being_asked_for(bench: Bench) -> None:
    first, second = bench.tail(), bench.tail(1)
    ended_s = bench.process.run([first], second).ended_s
    time.sleep(0.1)
    asked_s = time.monotonic()
    computed = bench.process.run([second])
    assert ended_s <= computed.began_s <= computed.ended_s < asked_s


def test_a_large_payload_is_not_sent_ahead(root: Path) -> None:
    bench = Bench(root, ahead_bytes=10)
    try:
        second = bench.tail()
        bench.process.run([bench.tail()], second)
        time.sleep(0.1)
        asked_s = time.monotonic()
        assert bench.process.run([second]).began_s >= asked_s
    finally:
        bench.process.close()


def test_what_was_to_follow_and_is_wanted_no_longer_costs_nobody_an_answer(slow_bench: Bench) -> None:
    given_up, last = slow_bench.tail(2, scale=2.0), slow_bench.tail(2, scale=3.0)
    first = slow_bench.output(slow_bench.tail(2), given_up)
    given_up.is_wanted = False
    slow_bench.process.look_again()
    np.testing.assert_allclose(slow_bench.output(last), 3.0 * first, rtol=1e-5)


def test_a_tail_is_given_up_between_segments_when_it_is_cancelled(slow_bench: Bench) -> None:
    tail = slow_bench.tail()

    def cancel() -> None:
        tail.is_wanted = False
        slow_bench.process.look_again()

    threading.Timer(0.05, cancel).start()
    assert slow_bench.process.run([tail]).outputs == [None]
    assert slow_bench.process.run([slow_bench.tail(2)]).outputs != [None]


def test_a_tail_is_given_up_between_segments_when_its_time_is_over(slow_bench: Bench) -> None:
    assert slow_bench.process.run([slow_bench.tail(deadline_at_s=time.monotonic() + 0.05)]).outputs == [None]


def test_a_payload_that_is_none_is_refused_by_its_name_and_the_next_is_run(bench: Bench) -> None:
    header = bench.tail(position=2).work.header
    with pytest.raises(TensorError):
        bench.process.run([bench.tail_of(0, EncodedTensor(header, b"\x00" * 60))])
    assert bench.output(bench.tail()).shape == (1, 4)


def test_what_cannot_be_run_together_fails_and_says_nothing_of_the_cause(bench: Bench) -> None:
    with pytest.raises(InternalError, match="its log says why"):
        bench.process.run([bench.tail(), bench.tail()])
    assert bench.output(bench.tail()).shape == (1, 4)


def test_an_idle_edge_is_told_its_speed_unless_work_comes(bench: Bench) -> None:
    quickest_s = bench.process.quickest_s(bench.model, lambda: True)
    assert quickest_s is not None
    assert quickest_s > 0.0
    assert bench.process.quickest_s(bench.model, lambda: False) is None


def test_many_flags_are_used_in_turn(bench: Bench) -> None:
    expected = bench.output(bench.tail(2))
    for _ in range(600):
        np.testing.assert_array_equal(bench.output(bench.tail(2)), expected)


def test_one_that_is_killed_is_missed_and_started_again(root: Path) -> None:
    bench = Bench(root)
    woken = threading.Event()
    bench.process.start(woken.set)
    try:
        expected = bench.output(bench.tail())
        bench.kill()
        assert woken.wait(10.0)
        assert bench.process.lack == "the computing process has ended and is started again"
        with pytest.raises(InternalError):
            bench.process.run([bench.tail()])
        bench.process.restore()
        assert bench.process.lack is None
        np.testing.assert_array_equal(bench.output(bench.tail()), expected)
        samples = {name: value for name, _, value in bench.process.samples()}
        assert samples["twinsplit_computing_process_restarts_total"] == 1
        assert samples["twinsplit_computing_process_resident_memory_bytes"] > 0
    finally:
        bench.process.close()


def test_one_that_is_killed_while_it_is_asked_for_its_speed_ends_nothing_else(root: Path) -> None:
    bench = Bench(root, SLOW)
    try:
        check = IdleCheck({bench.runtime.digest: replace(bench.model, slowdown=1.0)}, bench.process.quickest_s)
        bench.kill()
        assert check.measured(lambda: True) is None
        assert bench.process.lack is not None
    finally:
        bench.process.close()


def test_it_is_not_started_again_with_other_models(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_tiny_model(tmp_path / "tiny" / "1")
    bench = Bench(tmp_path)
    try:
        write_tiny_model(tmp_path / "tiny" / "1", seed=2)
        bench.kill()
        with pytest.raises(InternalError):
            bench.process.run([bench.tail()])
        bench.process.restore()
        assert bench.process.lack is not None
    finally:
        bench.process.close()


def test_a_damaged_model_is_named_as_without_it(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    (tmp_path / "segment-1.onnx").write_bytes(b"damaged")
    with pytest.raises(ModelFileError, match=r"segment-1\.onnx") as found:
        ComputingProcess(start_of(tmp_path)).models()
    with pytest.raises(ModelFileError) as expected:
        load_models(tmp_path, clock=SystemClock())
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_all_processes_of_a_terminal_leaves_it_to_the_edge(root: Path, number: signal.Signals) -> None:
    bench = Bench(root)
    try:
        os.kill(bench.process.pid, number)
        bench.output(bench.tail())
        assert bench.process.lack is None
    finally:
        bench.process.close()


def test_it_ends_with_the_edge(root: Path) -> None:
    bench = Bench(root)
    assert bench.process.pid in computing_processes()
    bench.process.close()
    assert bench.process.pid not in computing_processes()


def settings(root: Path, **changed: object) -> EdgeSettings:
    given = {"listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0", "models": root, "drain_s": 1.0}
    return EdgeSettings(**given | {"computing": "process"} | changed)


async def test_an_edge_goes_on_when_its_computing_process_is_killed(root: Path) -> None:
    runtime = SegmentRuntime.load(root / "tiny" / "1")
    payload = encode_payload(runtime.manifest, 0, 0, boundary_tensors(runtime)[0])
    good = InferRequest(1, runtime.digest, 0, None, False, payload)
    before = computing_processes()
    edge = await start_edge(settings(root))
    try:
        (child,) = computing_processes() - before
        async with open_channel(edge.address) as channel:
            call = infer_call(channel)
            for number in (1, 2):
                await call.write(replace_id(good, number))
                answer = await asyncio.wait_for(call.read(), 10.0)
                assert isinstance(answer, InferResponse)
                assert answer.error is None
            os.kill(child, signal.SIGKILL)
            await until(lambda: edge.executor.unready_reason is not None)
            await call.write(replace_id(good, 3))
            answer = await asyncio.wait_for(call.read(), 30.0)
            assert isinstance(answer, InferResponse)
            assert (answer.request_id, answer.error) == (3, None), "it waited until the process was there again"
            assert edge.executor.unready_reason is None
    finally:
        await edge.stop()
    assert computing_processes() == before


async def test_a_core_for_all_and_a_process_beside_do_not_go_together(root: Path) -> None:
    with pytest.raises(SettingsError, match="--computing process"):
        await start_edge(settings(root, core=0))


async def test_an_engine_elsewhere_has_no_use_for_it(root: Path) -> None:
    with pytest.raises(SettingsError, match="--computing is for --engine local"):
        await start_edge(settings(root, engine="oip://127.0.0.1:1"))


def replace_id(request: InferRequest, request_id: int) -> InferRequest:
    return request._replace(request_id=request_id)
