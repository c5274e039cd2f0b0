"""The device by the Open Inference Protocol: its model, which answers wherever its tasks end.

Another door for local programs beside :mod:`device.servicer`: a frame goes in as an encoded picture or as the model's
input, and the answer says in its parameters where the task stopped and why.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from device.servicer import MAX_NAME_CHARACTERS, SubmissionDoor
from twinsplit.access.door import this_call
from twinsplit.errors import (
    BadMessageError,
    DeadlineError,
    FrameError,
    NoAnswerError,
    StoppingError,
    TensorError,
    UnknownModelError,
    WrongDigestError,
)
from twinsplit.model.manifest import Manifest
from twinsplit.oip import parameters as names
from twinsplit.oip.datatypes import BYTES, DATATYPES, bytes_of_elements
from twinsplit.oip.messages import InferenceRequest, InferenceResponse, NamedTensor, Value
from twinsplit.oip.parameters import RequestSays, said_by
from twinsplit.oip.payloads import named_output, only_element, only_input, payload_of
from twinsplit.oip.service import ModelDescription, TensorDescription
from twinsplit.tensor import decode, encode
from twinsplit.tensor.header import PICTURE_KINDS
from twinsplit.types import Reason, TaskRecord

if TYPE_CHECKING:
    from twinsplit.model.runtime import Answer

LABEL, LABEL_INDEX = "label", "label_index"
"""Outputs of a classifier, which may have been answered by an exit: then there is no output of the whole network."""

Ended = tuple[TaskRecord, "Answer | None", "FrameError | None"]


class DeviceInference:
    """Serves ``door`` of the device ``name`` under the name of its model.

    Args:
        door: Takes frames.
        manifest: The device's model.
        digest: Its digest, hex.
        name: The device's; its certificate lets programs beside it in.
        takes_frames: Whether the device is not about to stop.
    """

    def __init__(
        self,
        door: SubmissionDoor,
        manifest: Manifest,
        digest: str,
        name: str,
        takes_frames: Callable[[], bool] = lambda: True,
    ) -> None:
        self._door = door
        self._manifest = manifest
        self._digest = digest
        self._name = name
        self._takes_frames = takes_frames
        self._taken = 0

    @property
    def server_name(self) -> str:
        return f"twinsplit device {self._name}"

    @property
    def is_ready(self) -> bool:
        return self._takes_frames()

    def model(self, name: str, version: str) -> ModelDescription:
        this_call().caller.must_be(self._name)
        manifest = self._manifest
        if name != manifest.name or version not in ("", str(manifest.version)):
            raise UnknownModelError(
                f"this device has {manifest.name!r} in version {manifest.version} and no other model"
            )
        source, output = manifest.cuts[0].tensor, manifest.cuts[-1].tensor
        inputs = (TensorDescription(source.name, DATATYPES[source.dtype], source.shape),)
        outputs: tuple[TensorDescription, ...]
        if manifest.task == "classification":
            outputs = (TensorDescription(LABEL, BYTES, (1,)), TensorDescription(LABEL_INDEX, "INT64", (1,)))
        else:
            outputs = (TensorDescription(output.name, DATATYPES[output.dtype], output.shape),)
        return ModelDescription(name, (str(manifest.version),), inputs, outputs)

    async def infer(self, request: InferenceRequest, left_s: float | None) -> InferenceResponse:
        this_call().caller.must_be(self._name)
        if request.problem is not None:
            raise request.problem
        model = self.model(request.model_name, request.model_version)
        says = said_by(request)
        if says.model_digest is not None and says.model_digest != self._digest:
            raise WrongDigestError(
                f"this device has {model.name!r}, but not the model {says.model_digest[:12]}; copy the same model "
                "folder to both sides"
            )
        asked = request.outputs or tuple(output.name for output in model.outputs)
        known = {output.name for output in model.outputs}
        for output in asked:
            if output not in known:
                raise BadMessageError(f"outputs: {output[:60]!r} is not this model's; ask for {' or '.join(known)}")
        frame = self._frame_of(request, says)
        ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

        def deliver(record: TaskRecord, answer: Answer | None, problem: FrameError | None) -> None:
            if not ended.done():
                ended.set_result((record, answer, problem))

        self._taken += 1
        await self._door.submit(request.request_id[:MAX_NAME_CHARACTERS] or str(self._taken), frame, deliver)
        try:
            record, answer, problem = await asyncio.wait_for(ended, says.budget_s)
        except asyncio.TimeoutError:
            raise DeadlineError("the time left ran out before the answer was there; the task goes on") from None
        outputs = self._outputs(record, answer, problem)
        return InferenceResponse(
            request.model_name,
            model.versions[0],
            request.request_id,
            _where_and_why(record),
            tuple(outputs[name] for name in asked),
            request.is_typed,
        )

    def _frame_of(self, request: InferenceRequest, says: RequestSays) -> bytes | NDArray[Any]:
        spec = self._manifest.cuts[0].tensor
        tensor = only_input(request, spec, is_picture_taken=True)
        if tensor.datatype == BYTES and says.representation is None:
            return bytes(only_element(tensor))
        header, data = payload_of(tensor, says, spec)
        if header.representation in PICTURE_KINDS:
            return bytes(data)
        if (header.shape, header.dtype) != (spec.shape, spec.dtype):
            raise TensorError(
                f"the input is {spec.dtype} {spec.shape}, but the tensor says {header.dtype} {header.shape}"
            )
        return decode(header, data, math.prod(spec.shape))

    def _outputs(self, record: TaskRecord, answer: Answer | None, problem: FrameError | None) -> dict[str, NamedTensor]:
        """The tensors of an answer.

        Raises:
            FrameError, StoppingError, NoAnswerError: there is no answer.
        """
        if problem is not None:
            raise problem
        if not record.outcome.is_answered:
            if record.reason is Reason.SHUTDOWN:
                raise StoppingError("this device is stopping; submit the frame again later")
            raise NoAnswerError(
                f"the frame was {record.outcome.value} ({record.reason.value}); send frames more slowly, or see the "
                "device's log"
            )
        spec = self._manifest.cuts[-1].tensor
        if record.label_index is None and answer is not None:
            output = np.ascontiguousarray(answer.output)
            return {spec.name: named_output(spec, encode(output, "float32"))}
        index = -1 if record.label_index is None else record.label_index
        label = str(index) if record.label is None else record.label
        return {
            LABEL: NamedTensor(LABEL, BYTES, (1,), bytes_of_elements([label.encode()])),
            LABEL_INDEX: NamedTensor(LABEL_INDEX, "INT64", (1,), index.to_bytes(8, "little", signed=True)),
        }


def _where_and_why(record: TaskRecord) -> dict[str, Value]:
    """What an answer says in its parameters; what is not known is missing."""
    said: dict[str, Value | None] = {
        names.TASK_ID: record.task_id,
        names.OUTCOME: record.outcome.value,
        names.REASON: record.reason.value,
        names.STOP_EPOCH: record.stop_epoch,
        names.EXIT: record.exit_index,
        names.PAYLOAD: None if record.payload is None else record.payload.value,
        names.REPRESENTATION: record.representation,
        names.EDGE_ID: record.edge_id,
        names.CONFIDENCE: record.confidence,
        names.LATENCY: record.latency_s,
        names.DEGRADED: record.degraded,
        names.PLAN_ID: record.plan_id,
    }
    return {name: value for name, value in said.items() if value is not None}
