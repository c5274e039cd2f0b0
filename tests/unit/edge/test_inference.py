"""The inference protocol at an edge: names, the same queue and books as the tail stream, cancellation."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import numpy as np
import pytest

from edge.arrival_log import Arrival
from edge.inference import EdgeInference, served_by_name
from edge.models import HeldModel
from edge.servicer import EdgeIdentity, EdgeServicer
from edge.tail_queue import TailEnd
from tests.unit.edge.chain_bench import WIDTH, Bench, Chain, make_manifest
from twinsplit.access.door import _CALL, Call
from twinsplit.access.rights import Caller, Scope
from twinsplit.certificates.subject import Role
from twinsplit.errors import (
    BadMessageError,
    DeadlineError,
    EdgeFullError,
    ErrorCode,
    NotAllowedError,
    OversizeError,
    RefusedError,
    StoppingError,
    TensorError,
    UnknownModelError,
    WrongDigestError,
)
from twinsplit.oip.messages import InferenceRequest, InferenceResponse, NamedTensor

ZEROS = np.zeros((1, WIDTH), np.float32).tobytes()


class Door(Bench):
    """The bench with the protocol's door before it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        identity = EdgeIdentity("edge-1", "cpu")
        self.servicer = EdgeServicer(self.executor, {self.digest: self.model}, identity, self.clock)
        self.events = 0
        self.servicer.note_event = self._count
        self.inference = EdgeInference(self.servicer, "edge-1", allow_devices=("cam*",))

    def _count(self) -> None:
        self.events += 1

    async def ask(self, name: str = "chain", left_s: float | None = None, **changes: Any) -> InferenceResponse:
        return await self.inference.infer(asked(name, **changes), left_s)


def asked(name: str = "chain", cut: int = 0, **changes: Any) -> InferenceRequest:
    tensor = NamedTensor(f"t{cut}", "FP32", (1, WIDTH), ZEROS)
    return InferenceRequest(name, **{"inputs": (tensor,)} | changes)


def values(answer: InferenceResponse) -> list[float]:
    (output,) = answer.outputs
    found: list[float] = np.frombuffer(output.data, np.float32).tolist()
    return found


@pytest.mark.parametrize(
    ("name", "cut", "added"),
    [("chain", 0, 3.0), ("chain.from_cut_1", 1, 2.0), ("chain.from_cut_2", 2, 1.0)],
)
async def test_each_name_runs_the_segments_after_its_cut(name: str, cut: int, added: float) -> None:
    door = Door()
    answer = await door.inference.infer(asked(name, cut, request_id="id"), None)
    assert (answer.model_name, answer.model_version, answer.request_id) == (name, "1", "id")
    assert answer.outputs[0][:3] == ("t3", "FP32", (1, WIDTH))
    assert values(answer) == [added] * WIDTH


async def test_an_answer_says_what_it_took_and_whose_it_is() -> None:
    said = (await Door().ask(parameters={"twinsplit_plan_id": 9})).parameters
    assert said["twinsplit_service_s"] == pytest.approx(0.03)
    assert (said["twinsplit_queue_wait_s"], said["twinsplit_backlog_s"]) == (0.0, 0.0)
    assert (said["twinsplit_edge_id"], said["twinsplit_plan_id"]) == ("edge-1", 9)
    assert "twinsplit_plan_id" not in (await Door().ask()).parameters


async def test_what_comes_in_here_is_in_the_same_books_as_what_comes_by_stream() -> None:
    door = Door()
    seen: list[TailEnd] = []
    arrivals: list[Arrival] = []
    door.servicer.arrivals.add = arrivals.append
    door.servicer.observe = lambda result: seen.append(result.end)
    await door.ask(parameters={"twinsplit_device_id": "cam-1", "twinsplit_task_id": 4})
    await asyncio.sleep(0)
    (arrival,) = arrivals
    assert (arrival.device_id, arrival.task_id) == ("cam-1", 4)
    assert arrival.work_s == pytest.approx(0.03)
    assert door.servicer.wire_bytes == door.servicer.raw_bytes == 4 * WIDTH
    assert door.executor.ends() == {TailEnd.FINISHED: 1}
    assert seen == [TailEnd.FINISHED]
    await asyncio.sleep(0)
    assert door.events >= 2


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"model_name": "chain2"}, UnknownModelError),
        ({"model_name": "chain.from_cut_3"}, UnknownModelError),
        ({"model_name": ""}, UnknownModelError),
        ({"model_version": "2"}, UnknownModelError),
        ({"parameters": {"twinsplit_model_digest": "00"}}, WrongDigestError),
        ({"parameters": {"twinsplit_budget": 1.0}}, BadMessageError),
        ({"parameters": {"twinsplit_device_id": "no name!"}}, BadMessageError),
        ({"parameters": {"twinsplit_representation": "float16"}}, TensorError),
        ({"outputs": ("t0",)}, BadMessageError),
        ({"inputs": ()}, BadMessageError),
        ({"inputs": (NamedTensor("t1", "FP32", (1, WIDTH), ZEROS),)}, BadMessageError),
        ({"inputs": (NamedTensor("frame", "FP32", (1, WIDTH), ZEROS),)}, BadMessageError),
        ({"inputs": (NamedTensor("t0", "FP32", (WIDTH, 1), ZEROS),)}, TensorError),
        ({"inputs": (NamedTensor("t0", "FP64", (1, WIDTH), ZEROS * 2),)}, TensorError),
        ({"inputs": (NamedTensor("t0", "FP32", (1, WIDTH), bytes(40000)),)}, OversizeError),
        ({"problem": BadMessageError("as read")}, BadMessageError),
    ],
)
async def test_what_does_not_fit_is_refused_by_name_and_counted(
    changes: dict[str, Any], error: type[RefusedError]
) -> None:
    door = Door()
    with pytest.raises(error):
        await door.inference.infer(asked()._replace(**changes), None)
    assert door.servicer.refusals == {error.code: 1}
    assert door.servicer.refused_tails == 1
    assert door.chain.ran == []


async def test_the_digest_and_the_version_may_be_told() -> None:
    door = Door()
    for changes in ({"model_version": "1"}, {"parameters": {"twinsplit_model_digest": door.digest}}):
        assert values(await door.ask(**changes)) == [3.0] * WIDTH


async def test_parameters_of_the_tensor_count_before_those_of_the_request() -> None:
    door = Door()
    tensor = NamedTensor("t0", "FP32", (1, WIDTH), ZEROS, {"twinsplit_plan_id": 2})
    answer = await door.ask(inputs=(tensor,), parameters={"twinsplit_plan_id": 1})
    assert answer.parameters["twinsplit_plan_id"] == 2


@pytest.mark.parametrize(
    ("budget_s", "left_s", "is_in_time"),
    [
        (None, None, True),
        (0.02, None, False),
        (None, 0.02, False),
        (5.0, 0.02, False),
        (0.02, 5.0, False),
        (1, 1, True),
    ],
)
async def test_the_shorter_of_budget_and_deadline_counts(
    budget_s: float | None, left_s: float | None, is_in_time: bool
) -> None:
    door = Door()
    asking = door.ask(left_s=left_s, parameters={} if budget_s is None else {"twinsplit_budget_s": budget_s})
    if is_in_time:
        await asking
    else:
        with pytest.raises(DeadlineError, match=r"30\.0 ms"):
            await asking
        assert door.chain.ran == []


async def test_a_tail_that_runs_out_of_time_between_segments_is_refused_then() -> None:
    door = Door()
    door.chain.segment_s = 0.1
    with pytest.raises(DeadlineError):
        await door.ask(left_s=0.15)
    assert door.executor.ends() == {TailEnd.EXPIRED: 1}
    assert door.servicer.refusals == {ErrorCode.DEADLINE: 1}
    assert door.servicer.refused_tails == 0, "it had been admitted"


async def test_a_full_queue_and_one_that_stops_refuse() -> None:
    door = Door(capacity=1)
    for _ in range(2):
        door.queue.admit(door.tail(), 0.0)
    with pytest.raises(EdgeFullError):
        await door.ask()
    door.executor.stop_admitting()
    with pytest.raises(StoppingError):
        await door.ask()
    assert not door.inference.is_ready


async def test_who_no_longer_waits_has_left_the_queue() -> None:
    door = Door()
    door.queue.admit(door.tail(), 0.0)  # someone else's, which nobody runs here
    asking = asyncio.ensure_future(door.ask())
    await asyncio.sleep(0)
    assert door.queue.queue_length == 2
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert door.queue.queue_length == 1
    assert door.executor.ends() == {TailEnd.CANCELLED: 1}


async def test_a_device_is_asked_its_name_and_an_edge_may_speak_for_others() -> None:
    door = Door()
    own = {"twinsplit_device_id": "cam-1"}
    for caller, parameters, is_served in (
        (Caller(Role.DEVICE, "cam-1", Scope.OWN), own, True),
        (Caller(Role.DEVICE, "cam-1", Scope.OWN), {}, True),
        (Caller(Role.DEVICE, "cam-2", Scope.OWN), own, False),
        (Caller(Role.DEVICE, "other", Scope.OWN), {}, False),
        (Caller(Role.EDGE, "edge-2", Scope.ALL), own, True),
    ):
        token = _CALL.set(Call(caller))
        try:
            if is_served:
                await door.ask(parameters=parameters)
            else:
                with pytest.raises(NotAllowedError):
                    await door.ask(parameters=parameters)
        finally:
            _CALL.reset(token)


def test_a_model_shows_its_tensors() -> None:
    door = Door()
    described = door.inference.model("chain.from_cut_2", "")
    assert described == ("chain.from_cut_2", ("1",), (("t2", "FP32", (1, WIDTH)),), (("t3", "FP32", (1, WIDTH)),))
    with pytest.raises(UnknownModelError, match=r"it has chain, and of each the tails NAME\.from_cut_1"):
        door.inference.model("tiny", "")
    with pytest.raises(UnknownModelError, match="not in version '7'"):
        door.inference.model("chain", "7")


def named(bench: Bench, name: str, version: int) -> HeldModel:
    manifest, _ = make_manifest()
    manifest = manifest.model_copy(update={"name": name, "version": version})
    return dataclasses.replace(bench.model, manifest=manifest, digest=f"{name}-{version}", runtime=Chain(bench.clock))


def test_the_newest_version_comes_first_and_no_tail_takes_a_models_own_name() -> None:
    bench = Bench()
    models = [named(bench, "a", 1), named(bench, "a", 3), named(bench, "a.from_cut_1", 2)]
    found = served_by_name(models)
    assert [each.version for each in found["a"]] == ["3", "1"]
    assert [(each.model.digest, each.cut) for each in found["a.from_cut_1"]] == [("a.from_cut_1-2", 0)]
    assert [each.cut for each in found["a.from_cut_2"]] == [2, 2]
    assert "a.from_cut_1.from_cut_2" in found
