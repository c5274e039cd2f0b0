"""``inference.GRPCInferenceService`` over gRPC: served for whoever has models, and called."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import grpc
import grpc.aio

from twinsplit import __version__
from twinsplit.errors import UnknownModelError
from twinsplit.oip.messages import (
    InferenceRequest,
    InferenceResponse,
    request_from_bytes,
    request_to_bytes,
    response_from_bytes,
    response_to_bytes,
)
from twinsplit.oip.v2 import inference_pb2

SERVICE = "inference.GRPCInferenceService"
INFER_METHOD = f"/{SERVICE}/ModelInfer"
PLATFORM = "onnxruntime_onnx"
"""What runs the models, by the name that others use for it."""


class TensorDescription(NamedTuple):
    """An input or output of a model."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelDescription(NamedTuple):
    """A model as the protocol shows it."""

    name: str
    versions: tuple[str, ...]
    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]


class InferenceHost(Protocol):
    """What the service needs of an edge or a device."""

    @property
    def server_name(self) -> str:
        """What it calls itself."""

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests now."""

    def model(self, name: str, version: str) -> ModelDescription:
        """The model of that name; ``version`` empty: any.

        Raises:
            UnknownModelError: it does not have it.
            NotAllowedError: the caller is not served here.
        """

    async def infer(self, request: InferenceRequest, left_s: float | None) -> InferenceResponse:
        """Answer a request, which may have a ``problem``, within ``left_s`` seconds (``None``: no limit). Cancelled:
        nobody waits any more.

        Raises:
            TwinsplitError: there is no answer.
        """


def infer_call(channel: grpc.aio.Channel) -> grpc.aio.UnaryUnaryMultiCallable[InferenceRequest, InferenceResponse]:
    """Call ModelInfer of any server of the protocol: ``await infer_call(channel)(request, timeout=seconds)``."""
    method: grpc.aio.UnaryUnaryMultiCallable[InferenceRequest, InferenceResponse] = channel.unary_unary(
        INFER_METHOD, request_serializer=request_to_bytes, response_deserializer=response_from_bytes
    )
    return method


def register_inference_service(server: grpc.aio.Server, host: InferenceHost) -> None:
    """Serve the protocol for ``host`` at ``server``."""
    pb2 = inference_pb2

    async def infer(request: InferenceRequest, context: grpc.aio.ServicerContext[Any, Any]) -> InferenceResponse:
        return await host.infer(request, context.time_remaining())

    async def server_live(_request: object, _context: object) -> inference_pb2.ServerLiveResponse:
        return pb2.ServerLiveResponse(live=True)

    async def server_ready(_request: object, _context: object) -> inference_pb2.ServerReadyResponse:
        return pb2.ServerReadyResponse(ready=host.is_ready)

    async def server_metadata(_request: object, _context: object) -> inference_pb2.ServerMetadataResponse:
        return pb2.ServerMetadataResponse(name=host.server_name, version=__version__)

    async def model_ready(
        request: inference_pb2.ModelReadyRequest, _context: object
    ) -> inference_pb2.ModelReadyResponse:
        try:
            host.model(request.name, request.version)
        except UnknownModelError:
            return pb2.ModelReadyResponse(ready=False)
        return pb2.ModelReadyResponse(ready=host.is_ready)

    async def model_metadata(
        request: inference_pb2.ModelMetadataRequest, _context: object
    ) -> inference_pb2.ModelMetadataResponse:
        return _metadata(host.model(request.name, request.version))

    handlers = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(infer, request_from_bytes, response_to_bytes),
        "ServerLive": _handler(server_live, pb2.ServerLiveRequest),
        "ServerReady": _handler(server_ready, pb2.ServerReadyRequest),
        "ServerMetadata": _handler(server_metadata, pb2.ServerMetadataRequest),
        "ModelReady": _handler(model_ready, pb2.ModelReadyRequest),
        "ModelMetadata": _handler(model_metadata, pb2.ModelMetadataRequest),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def _handler(method: Any, asks: Any) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_unary_rpc_method_handler(method, asks.FromString, lambda answer: answer.SerializeToString())


def _metadata(model: ModelDescription) -> inference_pb2.ModelMetadataResponse:
    message = inference_pb2.ModelMetadataResponse(name=model.name, versions=model.versions, platform=PLATFORM)
    for tensor in model.inputs:
        message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    for tensor in model.outputs:
        message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    return message
