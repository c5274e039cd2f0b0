"""A server of the Open Inference Protocol that is no edge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import numpy as np

from twinsplit.model.runtime import SegmentRuntime
from twinsplit.oip.datatypes import DATATYPES
from twinsplit.oip.messages import (
    InferenceRequest,
    InferenceResponse,
    NamedTensor,
    request_from_bytes,
    response_to_bytes,
)
from twinsplit.oip.v2 import inference_pb2
from twinsplit.transport.status import abort_with

Infer = Callable[[InferenceRequest, Any], Awaitable[InferenceResponse]]
SERVICE = "inference.GRPCInferenceService"


class OtherServer:
    """A server of the protocol that is no edge: answers by the tiny model, as slowly as it is told, or fails."""

    SLEEPS_S = (0.03, 0.02, 0.01)
    """By cut: what :meth:`slowly` takes at least."""

    def __init__(self, runtime: SegmentRuntime) -> None:
        self._runtime = runtime
        self.answer: Infer = self.right
        self.is_ready = True
        self.asked = 0
        self.cancelled = 0
        self.connections: set[str] = set()
        """The other end of every connection that something was asked on."""
        self.address = ""
        self._server = grpc.aio.server()

    async def start(self, address: str = "127.0.0.1:0") -> None:
        def reply(message: object) -> Callable[[object, object], Awaitable[object]]:
            async def method(_request: object, context: Any) -> object:
                self.connections.add(context.peer())
                return message() if callable(message) else message

            return method

        pb2 = inference_pb2
        methods = {
            "ServerReady": (reply(lambda: pb2.ServerReadyResponse(ready=self.is_ready)), pb2.ServerReadyRequest),
            "ModelReady": (reply(pb2.ModelReadyResponse(ready=True)), pb2.ModelReadyRequest),
            "ServerMetadata": (reply(pb2.ServerMetadataResponse(name="other")), pb2.ServerMetadataRequest),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                method, asks.FromString, lambda answer: answer.SerializeToString()
            )
            for name, (method, asks) in methods.items()
        }
        handlers["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self._infer, request_from_bytes, response_to_bytes)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port(address)}"
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    async def right(self, request: InferenceRequest, _context: Any) -> InferenceResponse:
        _, _, cut = request.model_name.partition(".from_cut_")
        spec = self._runtime.manifest.cuts[int(cut or 0)].tensor
        tensor = np.frombuffer(request.inputs[0].data, np.float32).reshape(spec.shape)
        output = self._runtime.run_tail(int(cut or 0), tensor)
        assert output is not None
        found = NamedTensor("t3", DATATYPES["float32"], output.shape, output.tobytes())
        return InferenceResponse(request.model_name, "1", outputs=(found,))

    async def slowly(self, request: InferenceRequest, context: Any) -> InferenceResponse:
        await asyncio.sleep(self.SLEEPS_S[int(request.model_name.partition(".from_cut_")[2] or 0)])
        return await self.right(request, context)

    async def never(self, _request: InferenceRequest, _context: Any) -> InferenceResponse:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError

    async def unavailable(self, _request: InferenceRequest, context: Any) -> InferenceResponse:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "queue full")
        raise AssertionError

    def refusing(self, error: Exception) -> Infer:
        """By name, as an edge of ours does."""

        async def refuse(_request: InferenceRequest, context: Any) -> InferenceResponse:
            await abort_with(context, error)
            raise AssertionError

        return refuse

    async def invalid(self, _request: InferenceRequest, context: Any) -> InferenceResponse:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a path of the server: /srv/secret")
        raise AssertionError

    async def another_shape(self, request: InferenceRequest, _context: Any) -> InferenceResponse:
        return InferenceResponse(request.model_name, "1", outputs=(NamedTensor("t3", "FP32", (1, 2), bytes(8)),))

    async def _infer(self, request: InferenceRequest, context: Any) -> InferenceResponse:
        self.asked += 1
        self.connections.add(context.peer())
        return await self.answer(request, context)
