"""One server of the Open Inference Protocol: its channels, and the few calls that an edge makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from twinsplit.errors import EdgeFullError, PeerLimitError, RefusedError, TwinsplitError
from twinsplit.model.manifest import Manifest, TensorSpec
from twinsplit.oip import parameters as said
from twinsplit.oip.datatypes import DATATYPES
from twinsplit.oip.messages import InferenceRequest, InferenceResponse, NamedTensor, Parameters, Value
from twinsplit.oip.names import tail_name
from twinsplit.oip.service import infer_call
from twinsplit.oip.v2 import inference_pb2, inference_pb2_grpc
from twinsplit.tensor.header import wire_dtype
from twinsplit.transport.channel import open_channel
from twinsplit.transport.status import INTERNAL_TEXT, InternalError, error_from_rpc, is_refusal
from twinsplit.transport.tls import TlsFiles

CHANNELS = 2
"""Connections to each back end: a small request need not wait behind a large one."""
PROBE_S = 2.0
"""A back end that does not say within so long that it is ready is not."""
_FINAL = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
    }
)
"""Refusals that another back end would repeat."""


class BackEndError(TwinsplitError):
    """A back end did not answer a tail that another one may."""

    def __init__(self, text: str, refusal: RefusedError | None = None) -> None:
        super().__init__(text)
        self.refusal = refusal
        """What it named as the cause; ``None``: nothing."""

    @property
    def is_full(self) -> bool:
        """Whether it takes no more at the moment, and does well otherwise."""
        return isinstance(self.refusal, (EdgeFullError, PeerLimitError))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a back end made of one tail."""

    output: NDArray[Any]
    queue_wait_s: float | None
    """How long it waited there; ``None``: the server does not say."""
    backlog_s: float | None
    """Backlog of the server after it, seconds; ``None``: the server does not say."""


class BackEnd:
    """Calls to one back end.

    Args:
        address: HOST:PORT.
        tls: ``None``: no TLS.
        max_message_bytes: Largest message.

    Raises:
        TlsError: the TLS files cannot be used.
    """

    def __init__(self, address: str, tls: TlsFiles | None, max_message_bytes: int) -> None:
        self.address = address
        self.is_ours = False
        """Whether it is an edge of this software, which reads and writes more than the protocol has."""
        self._tls = tls or TlsFiles()
        self._max_message_bytes = max_message_bytes
        self._busy = [0] * CHANNELS
        self._open()

    async def is_ready(self, models: Sequence[tuple[str, str]]) -> bool:
        """Whether it takes requests for all of these (name, version).

        Every connection is asked: one that nothing is sent on would be kept up by pings, which a server that allows
        one in five minutes (gRPC's default, and Triton's) answers by closing it (``too_many_pings``).

        Raises:
            grpc.aio.AioRpcError: it does not answer. If the TLS files have changed, connections are made by them from
                now on.
            TlsError: it does not answer, and the TLS files have changed and cannot be used.
        """
        try:
            return await self._says_ready(models)
        except grpc.aio.AioRpcError:
            if self._tls.stamp() != self._stamp:
                before = self._channels
                self._open()
                await _close(before)
            raise

    async def _says_ready(self, models: Sequence[tuple[str, str]]) -> bool:
        asked = inference_pb2.ServerReadyRequest()
        answers = await asyncio.gather(*(stub.ServerReady(asked, timeout=PROBE_S) for stub in self._stubs))
        if not all(answer.ready for answer in answers):
            return False
        stub = self._stubs[0]
        for name, version in models:
            request = inference_pb2.ModelReadyRequest(name=name, version=version)
            if not (await stub.ModelReady(request, timeout=PROBE_S)).ready:
                return False
        about = await stub.ServerMetadata(inference_pb2.ServerMetadataRequest(), timeout=PROBE_S)
        self.is_ours = about.name.startswith("twinsplit edge")
        return True

    async def infer(
        self,
        manifest: Manifest,
        digest: str,
        cut: int,
        tensor: NDArray[Any],
        *,
        timeout_s: float,
        budget_s: float | None,
    ) -> Answer:
        """The network's output from the tensor of ``cut``.

        Args:
            timeout_s: after so long the call ends.
            budget_s: after so long nobody needs the answer; ``None``: no limit.

        Raises:
            RefusedError: the tail itself is refused, by name.
            BackEndError: this back end cannot; another one may.
        """
        parameters: dict[str, Value] = {}
        if self.is_ours:
            parameters[said.MODEL_DIGEST] = digest
            if budget_s is not None:
                parameters[said.BUDGET] = budget_s
        request = infer_request(manifest, cut, tensor, parameters)
        index = self._busy.index(min(self._busy))
        self._busy[index] += 1
        try:
            response = await self._infer[index](request, timeout=timeout_s)
        except grpc.aio.AioRpcError as failure:
            raise self._error(failure) from None
        finally:
            self._busy[index] -= 1
        if response.problem is not None:
            raise BackEndError(f"{self.address} answers what cannot be read: {response.problem}")
        output = output_of(response, manifest.cuts[-1].tensor)
        if output is None:
            raise BackEndError(f"{self.address}: {request.model_name} answers another tensor than its manifest says")
        return Answer(output, _number(response.parameters, said.QUEUE_WAIT), _number(response.parameters, said.BACKLOG))

    async def close(self) -> None:
        """End all connections."""
        await _close(self._channels)

    def _open(self) -> None:
        stamp, limit = self._tls.stamp(), self._max_message_bytes
        self._channels = [open_channel(self.address, self._tls, max_message_bytes=limit) for _ in range(CHANNELS)]
        self._stamp = stamp
        self._infer = [infer_call(channel) for channel in self._channels]
        self._stubs: list[Any] = [inference_pb2_grpc.GRPCInferenceServiceStub(channel) for channel in self._channels]

    def _error(self, failure: grpc.aio.AioRpcError) -> TwinsplitError:
        named = error_from_rpc(failure, self.address) if is_refusal(failure) else None
        if failure.code() in _FINAL:
            return named if isinstance(named, RefusedError) else InternalError(INTERNAL_TEXT)
        text = f"{self.address} does not answer ({failure.code().name}): {failure.details() or 'no reason given'}"
        return BackEndError(text, named if isinstance(named, RefusedError) else None)


async def _close(channels: Sequence[grpc.aio.Channel]) -> None:
    for channel in channels:
        await channel.close(None)


def infer_request(manifest: Manifest, cut: int, tensor: NDArray[Any], parameters: Parameters) -> InferenceRequest:
    """The request for the tail after ``cut`` with the tensor of that cut."""
    spec = manifest.cuts[cut].tensor
    body = np.ascontiguousarray(tensor.astype(wire_dtype(spec.dtype), copy=False))
    entry = NamedTensor(spec.name, DATATYPES[spec.dtype], spec.shape, body.reshape(-1).view(np.uint8).data)
    asked = (manifest.cuts[-1].tensor.name,)
    return InferenceRequest(tail_name(manifest.name, cut), str(manifest.version), "", parameters, (entry,), asked)


def output_of(response: InferenceResponse, spec: TensorSpec) -> NDArray[Any] | None:
    """The output in an answer; ``None``: it has none that is as the manifest says."""
    found = next((tensor for tensor in response.outputs if tensor.name == spec.name), None)
    if found is None or found.datatype != DATATYPES[spec.dtype] or tuple(found.shape) != spec.shape:
        return None
    return np.frombuffer(found.data, wire_dtype(spec.dtype)).reshape(spec.shape)


def _number(parameters: Parameters, name: str) -> float | None:
    value = parameters.get(name)
    return float(value) if isinstance(value, (int, float)) and value >= 0 else None
