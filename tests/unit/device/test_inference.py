"""The inference protocol at a device: frames in, answers out, with where and why in the parameters."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from device.compute import Deliver
from device.inference import DeviceInference
from tests.unit.device.made_up_device import manifest_of
from twinsplit.access.door import _CALL, Call
from twinsplit.access.rights import Caller, Scope
from twinsplit.certificates.subject import Role
from twinsplit.errors import (
    BadMessageError,
    DeadlineError,
    FrameError,
    NoAnswerError,
    NotAllowedError,
    RefusedError,
    StoppingError,
    TensorError,
    UnknownModelError,
    WrongDigestError,
)
from twinsplit.model.answers import Answer
from twinsplit.oip.datatypes import bytes_of_elements, elements_of_bytes
from twinsplit.oip.messages import InferenceRequest, InferenceResponse, NamedTensor
from twinsplit.tensor import encode
from twinsplit.types import Outcome, Payload, Reason, TaskRecord

MANIFEST = manifest_of(3, (1,))
DIGEST = "ab" * 32
SPEC = MANIFEST.cuts[0].tensor
COUNT = int(np.prod(SPEC.shape))
TENSOR = NamedTensor(SPEC.name, "FP32", SPEC.shape, np.arange(COUNT, dtype=np.float32).tobytes())
PICTURE = NamedTensor("frame", "BYTES", (1,), bytes_of_elements([b"a picture"]))


def record(outcome: Outcome = Outcome.EDGE, reason: Reason = Reason.OFFLOAD_PAYS, **changes: Any) -> TaskRecord:
    known: dict[str, Any] = {
        "task_id": 5,
        "frame": "f",
        "arrived_at_s": 1.0,
        "started_at_s": 1.0,
        "ended_at_s": 1.5,
        "outcome": outcome,
        "reason": reason,
        "stop_epoch": 2,
        "evidence": 0,
        "label": "boot",
        "label_index": 3,
        "confidence": 0.75,
    }
    return TaskRecord(**known | changes)


class Door:
    """A device that ends every task as it is told to; ``None``: never."""

    def __init__(
        self, ended: TaskRecord | None, answer: Answer | None = None, problem: FrameError | None = None
    ) -> None:
        self.ended, self.answer, self.problem = ended, answer, problem
        self.taken: list[tuple[str, Any]] = []

    async def submit(self, name: str, data: Any, deliver: Deliver) -> None:
        self.taken.append((name, data))
        if self.ended is not None:
            deliver(self.ended, self.answer, self.problem)

    def status(self) -> dict[str, Any]:
        return {}


async def ask(door: Door, manifest: Any = MANIFEST, **changes: Any) -> InferenceResponse:
    request = InferenceRequest(MANIFEST.name, **{"inputs": (PICTURE,)} | changes)
    return await DeviceInference(door, manifest, DIGEST, "cam").infer(request, None)


async def test_an_answer_has_the_label_and_says_where_and_why_the_task_stopped() -> None:
    ended = record(
        payload=Payload.TENSOR,
        representation="uint8+zstd",
        edge_id="edge-1",
        plan_id=4,
        degraded=False,
        exit_index=None,
    )
    answer = await ask(Door(ended), request_id="seven")
    label, index = answer.outputs
    assert (label.name, elements_of_bytes("x", label.data)) == ("label", [b"boot"])
    assert (index.name, np.frombuffer(index.data, "<i8").tolist()) == ("label_index", [3])
    assert (answer.request_id, answer.model_version) == ("seven", str(MANIFEST.version))
    assert answer.parameters == {
        "twinsplit_task_id": 5,
        "twinsplit_outcome": "edge",
        "twinsplit_reason": "offload-pays",
        "twinsplit_stop_epoch": 2,
        "twinsplit_payload": "tensor",
        "twinsplit_representation": "uint8+zstd",
        "twinsplit_edge_id": "edge-1",
        "twinsplit_confidence": 0.75,
        "twinsplit_latency_s": 0.5,
        "twinsplit_degraded": False,
        "twinsplit_plan_id": 4,
    }


async def test_what_is_not_known_is_missing() -> None:
    answer = await ask(Door(record(Outcome.EXIT, Reason.EXIT_CONFIDENT, exit_index=0, confidence=None, label=None)))
    assert answer.parameters["twinsplit_exit"] == 0
    assert not {"twinsplit_confidence", "twinsplit_edge_id", "twinsplit_plan_id"} & set(answer.parameters)
    assert elements_of_bytes("x", answer.outputs[0].data) == [b"3"], "a class without a name has its number"


async def test_a_picture_goes_in_as_it_is_and_a_tensor_as_an_array() -> None:
    door = Door(record())
    device = DeviceInference(door, MANIFEST, DIGEST, "cam")
    half = TENSOR._replace(datatype="FP16", data=np.arange(COUNT, dtype=np.float16).tobytes())
    for request_id, tensor in (("a", PICTURE), ("", TENSOR), ("", half)):
        await device.infer(InferenceRequest(MANIFEST.name, request_id=request_id, inputs=(tensor,)), None)
    (name, data), (second, array), (_, halves) = door.taken
    assert (name, data) == ("a", b"a picture")
    assert second == "2", "a frame without an id is called by its number"
    for taken in (array, halves):
        assert (taken.shape, taken.dtype) == (SPEC.shape, np.float32)
        assert taken.reshape(-1).tolist() == list(range(COUNT))


async def test_a_tensor_goes_in_whatever_it_is_represented_as_by_numbers_or_as_one_element() -> None:
    values = np.arange(COUNT, dtype=np.float32).reshape(SPEC.shape)
    header, data = encode(values, "uint8", "zstd")
    says = {
        "twinsplit_representation": "uint8",
        "twinsplit_codec": "zstd",
        "twinsplit_scale": header.scale,
        "twinsplit_zero_point": header.zero_point,
    }
    door = Door(record())
    for datatype, shape, sent in (("UINT8", (len(data),), data), ("BYTES", (1,), bytes_of_elements([data]))):
        await ask(door, inputs=(NamedTensor(SPEC.name, datatype, shape, sent, says),))
    for _, taken in door.taken:
        assert taken == pytest.approx(values, abs=header.scale)


async def test_a_picture_may_say_what_it_is() -> None:
    door = Door(record())
    await ask(door, inputs=(PICTURE._replace(parameters={"twinsplit_representation": "jpeg"}),))
    await ask(door, parameters={"twinsplit_model_digest": DIGEST})
    assert [data for _, data in door.taken] == [b"a picture"] * 2


async def test_only_what_is_asked_for_is_answered() -> None:
    assert [output.name for output in (await ask(Door(record()), outputs=("label_index",))).outputs] == ["label_index"]
    with pytest.raises(BadMessageError, match="ask for"):
        await ask(Door(record()), outputs=("logits",))


async def test_a_network_that_is_no_classifier_answers_by_its_output() -> None:
    raw = MANIFEST.model_copy(update={"task": "raw"})
    output = np.ones(raw.cuts[-1].tensor.shape, np.float32)
    ended = record(Outcome.DEVICE, label=None, label_index=None)
    answer = await ask(Door(ended, Answer(None, None, None, output)), raw)
    (tensor,) = answer.outputs
    assert (tensor.name, tensor.datatype, tensor.shape) == (raw.cuts[-1].tensor.name, "FP32", output.shape)
    assert np.frombuffer(tensor.data, np.float32).tolist() == output.reshape(-1).tolist()


@pytest.mark.parametrize(
    ("door", "error", "says"),
    [
        (Door(record(Outcome.FAILED, Reason.BAD_FRAME), problem=FrameError("no picture")), FrameError, "no picture"),
        (Door(record(Outcome.DROPPED, Reason.SHUTDOWN)), StoppingError, "again later"),
        (Door(record(Outcome.DROPPED, Reason.NEWER_FRAME)), NoAnswerError, "dropped .newer-frame."),
        (Door(record(Outcome.FAILED, Reason.EDGE_LOST)), NoAnswerError, "failed .edge-lost."),
    ],
)
async def test_a_task_without_an_answer_is_an_error_that_says_why(
    door: Door, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        await ask(door)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"model_name": "other"}, UnknownModelError),
        ({"model_version": "99"}, UnknownModelError),
        ({"inputs": ()}, BadMessageError),
        ({"inputs": (PICTURE, PICTURE)}, BadMessageError),
        ({"inputs": (TENSOR._replace(name="x9"),)}, BadMessageError),
        ({"inputs": (PICTURE._replace(data=b""),)}, TensorError),
        ({"inputs": (TENSOR._replace(shape=(COUNT,)),)}, TensorError),
        ({"inputs": (TENSOR._replace(datatype="INT32"),)}, TensorError),
        ({"inputs": (PICTURE._replace(datatype="UINT8", shape=(9,)),)}, BadMessageError),
        ({"inputs": (PICTURE._replace(parameters={"twinsplit_codecs": "none"}),)}, BadMessageError),
        ({"inputs": (PICTURE._replace(parameters={"twinsplit_representation": "float16"}),)}, TensorError),
        ({"parameters": {"twinsplit_budget_s": -1.0}}, BadMessageError),
        ({"parameters": {"twinsplit_model_digest": "cd" * 32}}, WrongDigestError),
        ({"inputs": (PICTURE._replace(parameters={"twinsplit_model_digest": "cd" * 32}),)}, WrongDigestError),
        ({"problem": TensorError("as read")}, TensorError),
    ],
)
async def test_what_does_not_fit_is_refused_and_never_enters(
    changes: dict[str, Any], error: type[RefusedError]
) -> None:
    door = Door(record())
    request = InferenceRequest(MANIFEST.name, inputs=(PICTURE,))._replace(**changes)
    with pytest.raises(error):
        await DeviceInference(door, MANIFEST, DIGEST, "cam").infer(request, None)
    assert door.taken == []


async def test_a_budget_ends_the_waiting_and_that_of_the_tensor_counts_first() -> None:
    with pytest.raises(DeadlineError, match="the task goes on"):
        await ask(Door(None), parameters={"twinsplit_budget_s": 0.001})
    brief = PICTURE._replace(parameters={"twinsplit_budget_s": 0.001})
    with pytest.raises(DeadlineError):
        await asyncio.wait_for(ask(Door(None), inputs=(brief,), parameters={"twinsplit_budget_s": 1e6}), 30.0)


async def test_an_answer_that_nobody_waits_for_any_more_is_let_go() -> None:
    door = Door(None)
    kept: list[Deliver] = []

    async def keep(name: str, data: Any, deliver: Deliver) -> None:
        kept.append(deliver)

    door.submit = keep
    asking = asyncio.ensure_future(ask(door))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    kept[0](record(), None, None)


async def test_only_those_beside_the_device_and_operators_submit() -> None:
    for caller, is_served in (
        (Caller(Role.DEVICE, "cam", Scope.OWN), True),
        (Caller(Role.OPERATOR, "ops", Scope.ALL), True),
        (Caller(Role.DEVICE, "other", Scope.OWN), False),
    ):
        token = _CALL.set(Call(caller))
        try:
            if is_served:
                await ask(Door(record()))
            else:
                with pytest.raises(NotAllowedError):
                    await ask(Door(record()))
        finally:
            _CALL.reset(token)


def test_a_device_that_stops_is_not_ready_and_says_who_it_is() -> None:
    inference = DeviceInference(Door(None), MANIFEST, DIGEST, "cam", lambda: False)
    assert (inference.is_ready, inference.server_name) == (False, "twinsplit device cam")
