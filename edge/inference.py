"""The edge by the Open Inference Protocol: every held model as ``NAME``, and every tail as ``NAME.from_cut_K``.

Another door to the same queue: what comes in here is admitted, limited, counted and finished as what comes by the tail
stream of :mod:`edge.servicer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

from edge.models import HeldModel
from edge.servicer import ALL_DEVICES, NAME, EdgeServicer
from edge.tail_work import EdgeTail, TailResult
from twinsplit.access.door import this_call
from twinsplit.certificates.subject import Role
from twinsplit.errors import BadMessageError, RefusedError, StoppingError, UnknownModelError, WrongDigestError
from twinsplit.model.manifest import TensorSpec
from twinsplit.oip import parameters as names
from twinsplit.oip.datatypes import DATATYPES
from twinsplit.oip.messages import InferenceRequest, InferenceResponse, Value
from twinsplit.oip.names import tail_name
from twinsplit.oip.parameters import RequestSays, said_by
from twinsplit.oip.payloads import named_output, only_input, payload_of
from twinsplit.oip.service import ModelDescription, TensorDescription


class Served(NamedTuple):
    """What one name stands for, in one version."""

    model: HeldModel
    cut: int

    @property
    def version(self) -> str:
        return str(self.model.manifest.version)

    @property
    def input(self) -> TensorSpec:
        return self.model.manifest.cuts[self.cut].tensor

    @property
    def output(self) -> TensorSpec:
        return self.model.manifest.cuts[-1].tensor


class EdgeInference:
    """Serves the tails of ``servicer`` under the names of their models.

    Args:
        servicer: Admits and counts, and has the queue.
        edge_id: What this edge calls itself.
        allow_devices: Patterns of the names in certificates of devices that are served.
    """

    def __init__(self, servicer: EdgeServicer, edge_id: str, *, allow_devices: tuple[str, ...] = ALL_DEVICES) -> None:
        self._servicer = servicer
        self._edge_id = edge_id
        self._allow_devices = allow_devices
        self._served = served_by_name(servicer.models.values())

    @property
    def server_name(self) -> str:
        return f"twinsplit edge {self._edge_id}"

    @property
    def is_ready(self) -> bool:
        return self._servicer.executor.unready_reason is None

    def model(self, name: str, version: str) -> ModelDescription:
        self._see_caller()
        found = self._find(name, version, None)
        return ModelDescription(
            name, tuple(each.version for each in self._served[name]), (_shown(found.input),), (_shown(found.output),)
        )

    async def infer(self, request: InferenceRequest, left_s: float | None) -> InferenceResponse:
        servicer = self._servicer
        loop = asyncio.get_running_loop()
        thread_id = threading.get_ident()
        ended: asyncio.Future[TailResult] = loop.create_future()

        def end(result: TailResult) -> None:
            servicer.note_hand_over(result)
            if not ended.done():
                ended.set_result(result)
            # After whoever waits for the answer, which has just been woken.
            loop.call_soon(self._note_end, result)

        def deliver(_: EdgeTail, result: TailResult) -> None:
            if threading.get_ident() == thread_id:
                end(result)
            else:
                # A loop that has closed takes nothing more, and nobody is left to answer.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(end, result)

        arrived_at_s = servicer.now_s()
        self._see_caller()
        try:
            if request.problem is not None:
                raise request.problem
            served, says = self._asked(request)
            tail = self._tail_of(request, served, says, left_s, arrived_at_s, ended, deliver)
            servicer.enter(tail, says.device_id, says.task_id)
        except RefusedError as error:
            servicer.refused_tails += 1
            servicer.note_refusal(error)
            raise
        finally:
            # Books after answers: a very short tail has ended by now.
            loop.call_soon(servicer.note_event)
        try:
            result = await ended
        except asyncio.CancelledError:
            servicer.executor.cancel(tail)
            servicer.note_event()
            raise
        if result.output is None:
            failure = result.error or StoppingError("this edge has given the tail up; ask again later")
            servicer.note_refusal(failure)
            raise failure
        return InferenceResponse(
            request.model_name,
            served.version,
            request.request_id,
            self._answered(result, says),
            (named_output(served.output, result.output),),
            request.is_typed,
        )

    def _see_caller(self) -> None:
        """
        Raises:
            NotAllowedError: a device that is not served here.
        """
        caller = this_call().caller
        if caller.role is Role.DEVICE:
            caller.must_match(self._allow_devices)

    def _find(self, name: str, version: str, digest: str | None) -> Served:
        """
        Raises:
            UnknownModelError: no model of that name and version is held.
            WrongDigestError: one is, but not that one.
        """
        found = self._served.get(name)
        if found is None:
            whole = sorted({held.manifest.name for held in self._servicer.models.values()})
            raise UnknownModelError(
                f"this edge has no model {name[:80]!r}; it has {', '.join(whole)}, and of each the tails "
                f"{tail_name('NAME', 1)} and so on"
            )
        if version:
            found = [each for each in found if each.version == version]
            if not found:
                raise UnknownModelError(f"this edge has {name!r}, but not in version {version[:20]!r}")
        if digest is None:
            return found[0]
        for each in found:
            if each.model.digest == digest:
                return each
        raise WrongDigestError(
            f"this edge has {name!r}, but not the model {digest[:12]}; copy the same model folder to both sides"
        )

    def _asked(self, request: InferenceRequest) -> tuple[Served, RequestSays]:
        says = said_by(request)
        if says.device_id:
            if not NAME.fullmatch(says.device_id):
                raise BadMessageError(f"parameters: {names.DEVICE_ID} is no name; send letters, digits, '.', '_', '-'")
            this_call().caller.must_be(says.device_id)
        served = self._find(request.model_name, request.model_version, says.model_digest)
        for output in request.outputs:
            if output != served.output.name:
                raise BadMessageError(f"outputs: {output[:60]!r} is not this model's; ask for {served.output.name}")
        return served, says

    def _tail_of(
        self,
        request: InferenceRequest,
        served: Served,
        says: RequestSays,
        left_s: float | None,
        arrived_at_s: float,
        owner: asyncio.Future[TailResult],
        deliver: Callable[[EdgeTail, TailResult], None],
    ) -> EdgeTail:
        spec = served.input
        payload = payload_of(only_input(request, spec, is_picture_taken=served.cut == 0), says, spec)
        limits_s = [limit_s for limit_s in (says.budget_s, left_s) if limit_s is not None]
        deadline_at_s = arrived_at_s + min(limits_s) if limits_s else None
        return self._servicer.tail_of(
            owner, served.model.digest, served.cut, payload, deadline_at_s, deliver, arrived_at_s
        )

    def _answered(self, result: TailResult, says: RequestSays) -> dict[str, Value]:
        """What an answer says in its parameters."""
        said: dict[str, Value] = {
            names.QUEUE_WAIT: result.queue_wait_s,
            names.SERVICE: result.service_s,
            names.BACKLOG: result.backlog.backlog_s,
            names.EDGE_ID: self._edge_id,
        }
        if says.plan_id is not None:
            said[names.PLAN_ID] = says.plan_id
        return said

    def _note_end(self, result: TailResult) -> None:
        self._servicer.observe(result)
        self._servicer.note_event()


def served_by_name(models: Iterable[HeldModel]) -> dict[str, list[Served]]:
    """What every name stands for, the newest version first. A model whose own name looks like that of another one's
    tail keeps it."""
    held = sorted(models, key=lambda model: (-model.manifest.version, model.digest))
    found: dict[str, list[Served]] = {}
    for model in held:
        found.setdefault(model.manifest.name, []).append(Served(model, 0))
    whole = set(found)
    for model in held:
        for cut in range(1, model.manifest.segment_count):
            name = tail_name(model.manifest.name, cut)
            if name not in whole:
                found.setdefault(name, []).append(Served(model, cut))
    return found


def _shown(spec: TensorSpec) -> TensorDescription:
    return TensorDescription(spec.name, DATATYPES[spec.dtype], spec.shape)
