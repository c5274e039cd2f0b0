"""Requests and answers of ``ModelInfer``, to and from their bytes without the copies of a bytes field.

Written are standard protobuf bytes, the raw elements of the tensors last; read is anything that protobuf reads. Where
the last raw tensor comes last on the wire, as every library writes it, it is a view of the message; whatever repeats
from request to request is remembered by its bytes (:mod:`twinsplit.transport.tail_messages` says why that counts).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from google.protobuf.message import DecodeError

from twinsplit.errors import BadMessageError, RefusedError
from twinsplit.oip.datatypes import bytes_of, check_elements, contents_of_raw, raw_of_contents
from twinsplit.oip.v2 import inference_pb2
from twinsplit.transport.tail_framing import varint

Value: TypeAlias = bool | int | float | str
Parameters: TypeAlias = Mapping[str, Value]

NOTHING: Parameters = MappingProxyType({})

_REQUEST_RAW_TAG = 0x3A
_RESPONSE_RAW_TAG = 0x32
_ID_TAG = b"\x1a"
_HEAD_BYTES = 4096
"""The last tensor's tag is looked for in so many first bytes; with a longer head the ordinary parser does it all."""
_DOUBLE = struct.Struct("<d")
_CHANGES_REPORTED = frozenset({"shared_memory_region", "classification"})
"""Parameters of tensors by which an extension puts elements elsewhere, or makes others of them."""


class NamedTensor(NamedTuple):
    """One tensor of a request or an answer."""

    name: str
    datatype: str
    """The protocol's name of the element type, such as FP32."""
    shape: tuple[int, ...]
    data: bytes | memoryview = b""
    """Raw elements; may be a view of the message, or of the array that is sent."""
    parameters: Parameters = NOTHING


class InferenceRequest(NamedTuple):
    """One inference to do."""

    model_name: str
    model_version: str = ""
    """Empty: any."""
    request_id: str = ""
    """Repeated in the answer."""
    parameters: Parameters = NOTHING
    inputs: tuple[NamedTensor, ...] = ()
    outputs: tuple[str, ...] = ()
    """Names of the tensors that are asked for; empty: all."""
    is_typed: bool = False
    """Its elements came in typed fields, and the answer's go there, too."""
    problem: RefusedError | None = None
    """Set by the reader: why this request must be refused. Never sent."""


class InferenceResponse(NamedTuple):
    """The answer to one request."""

    model_name: str
    model_version: str = ""
    request_id: str = ""
    parameters: Parameters = NOTHING
    outputs: tuple[NamedTensor, ...] = ()
    is_typed: bool = False
    """Write elements into typed fields where all types have one."""
    problem: RefusedError | None = None
    """Set by the reader: this answer cannot be trusted. Never sent."""


def request_to_bytes(request: InferenceRequest) -> bytes:
    """Standard protobuf bytes of a ModelInferRequest, with raw contents."""
    name, version, request_id, parameters, inputs, outputs, _, _ = request
    fields = _request_fields(name, version, _specs(inputs), outputs)
    return b"".join((fields, *_common(request_id, parameters), *_raw(_REQUEST_RAW_TAG, inputs)))


def request_from_bytes(data: bytes) -> InferenceRequest:
    """Read a ModelInferRequest. What contradicts itself is given with ``problem``.

    Raises:
        DecodeError: not protobuf of this message.
    """
    found = _last_field(data, _REQUEST_RAW_TAG)
    if found is not None:
        head_end, start = found
        view = memoryview(data)[start:]
        head = _request_head(data[:head_end])
        if head is not None:
            (model, version, request_id, parameters, (tensor,), outputs, _, _), needed_bytes = head
            name, datatype, shape, _, tensor_parameters = tensor
            inputs = (NamedTensor(name, datatype, shape, view, tensor_parameters),)
            request = InferenceRequest(model, version, request_id, parameters, inputs, outputs)
            return request if needed_bytes in (None, len(view)) else _checked(request)
        message = inference_pb2.ModelInferRequest()
        try:
            message.ParseFromString(data[:head_end])
        except DecodeError:
            pass
        else:
            return _request_of(message, [*message.raw_input_contents, view])
    message = inference_pb2.ModelInferRequest.FromString(data)
    return _request_of(message, list(message.raw_input_contents))


def response_to_bytes(response: InferenceResponse) -> bytes:
    """Standard protobuf bytes of a ModelInferResponse."""
    name, version, request_id, parameters, outputs, is_typed, _ = response
    if is_typed and (contents := _typed(outputs)) is not None:
        message = inference_pb2.ModelInferResponse.FromString(
            b"".join((_response_fields(name, version, _specs(outputs)), *_common(request_id, parameters)))
        )
        for output, content in zip(message.outputs, contents, strict=True):
            output.contents.CopyFrom(content)
        return message.SerializeToString()
    fields = _response_fields(name, version, _specs(outputs))
    return b"".join((fields, *_common(request_id, parameters), *_raw(_RESPONSE_RAW_TAG, outputs)))


def response_from_bytes(data: bytes) -> InferenceResponse:
    """Read a ModelInferResponse; never raises, see ``problem``."""
    try:
        message, raw = _response_parsed(data)
    except DecodeError:
        return InferenceResponse("", problem=BadMessageError("the answer is no ModelInferResponse"))
    name, version, request_id = message.model_name, message.model_version, message.id
    try:
        outputs, is_typed = _tensors(message.outputs, raw, "output")
        for tensor in outputs:
            check_elements(tensor.name, tensor.datatype, tensor.shape, len(tensor.data))
    except RefusedError as problem:
        return InferenceResponse(name, version, request_id, problem=problem)
    return InferenceResponse(name, version, request_id, _values(message.parameters), outputs, is_typed)


def _response_parsed(data: bytes) -> tuple[inference_pb2.ModelInferResponse, list[bytes | memoryview]]:
    """The message, and the raw elements of its tensors.

    Raises:
        DecodeError: not protobuf of this message.
    """
    found = _last_field(data, _RESPONSE_RAW_TAG)
    if found is not None:
        head_end, start = found
        message = inference_pb2.ModelInferResponse()
        try:
            message.ParseFromString(data[:head_end])
        except DecodeError:
            pass
        else:
            return message, [*message.raw_output_contents, memoryview(data)[start:]]
    message = inference_pb2.ModelInferResponse.FromString(data)
    return message, list(message.raw_output_contents)


def _last_field(data: bytes, tag: int) -> tuple[int, int] | None:
    """Where the field begins that seems to come last, with this tag, and where its bytes do; ``None``: none does.

    If the bytes before it are a message by themselves, then that message and that field are what the ordinary parser
    would find, since protobuf messages may be concatenated. Whether they are is for the caller to see.
    """
    size = len(data)
    begin = data.find(tag, 0, _HEAD_BYTES)
    while begin >= 0:
        at, length, shift = begin + 1, 0, 0
        for byte in data[at : at + 5]:
            at += 1
            length |= (byte & 127) << shift
            if byte < 128:
                if at + length == size:
                    return begin, at
                break
            shift += 7
        begin = data.find(tag, begin + 1, _HEAD_BYTES)
    return None


# Name, shape and parameters repeat from request to request.
@lru_cache(maxsize=256)
def _request_head(head: bytes) -> tuple[InferenceRequest, int | None] | None:
    """The request in these bytes, which lacks the elements of its one tensor, and how many bytes they must have
    (``None``: any); ``None``: it is no such request."""
    try:
        message = inference_pb2.ModelInferRequest.FromString(head)
    except DecodeError:
        return None
    if len(message.inputs) != 1 or message.raw_input_contents:
        return None
    request = _request_of(message, [b""], is_checked=False)
    if request.problem is not None:
        return None
    _, datatype, shape, _, _ = request.inputs[0]
    try:
        return request, bytes_of(request.inputs[0].name, datatype, shape)
    except RefusedError:
        return None


def _request_of(
    message: inference_pb2.ModelInferRequest, raw: list[bytes | memoryview], *, is_checked: bool = True
) -> InferenceRequest:
    name, version, request_id = message.model_name, message.model_version, message.id
    try:
        inputs, is_typed = _tensors(message.inputs, raw, "input")
        outputs = tuple(_asked(output) for output in message.outputs)
        request = InferenceRequest(name, version, request_id, _values(message.parameters), inputs, outputs, is_typed)
    except RefusedError as problem:
        return InferenceRequest(name, version, request_id, problem=problem)
    return _checked(request) if is_checked else request


def _checked(request: InferenceRequest) -> InferenceRequest:
    try:
        for tensor in request.inputs:
            check_elements(tensor.name, tensor.datatype, tensor.shape, len(tensor.data))
    except RefusedError as problem:
        return request._replace(problem=problem)
    return request


def _tensors(
    described: Sequence[
        inference_pb2.ModelInferRequest.InferInputTensor | inference_pb2.ModelInferResponse.InferOutputTensor
    ],
    raw: list[bytes | memoryview],
    kind: str,
) -> tuple[tuple[NamedTensor, ...], bool]:
    """The tensors, and whether their elements are in typed fields."""
    is_typed = not raw and len(described) > 0
    if not is_typed and len(raw) != len(described):
        raise BadMessageError(f"raw_{kind}_contents: {len(raw)} for {len(described)} tensors; send one for each")
    tensors = []
    for index, tensor in enumerate(described):
        parameters = _values(tensor.parameters)
        _check_parameters(parameters)
        if is_typed:
            data = raw_of_contents(tensor.name, tensor.datatype, tensor.contents)
        elif tensor.contents.ByteSize():  # MLServer sends empty ones beside raw tensors
            raise BadMessageError(f"{kind}s: contents stand beside raw_{kind}_contents; send one of them")
        else:
            data = raw[index]
        tensors.append(NamedTensor(tensor.name, tensor.datatype, tuple(tensor.shape), data, parameters))
    return tuple(tensors), is_typed


def _asked(output: inference_pb2.ModelInferRequest.InferRequestedOutputTensor) -> str:
    _check_parameters(_values(output.parameters))
    return output.name


def _check_parameters(parameters: Parameters) -> None:
    for name in _CHANGES_REPORTED.intersection(parameters):
        raise BadMessageError(
            f"parameters: {name} is an extension that is not served here; send tensors in the message"
        )


def _values(parameters: Mapping[str, inference_pb2.InferParameter]) -> Parameters:
    if not parameters:
        return NOTHING
    found: dict[str, Value] = {}
    for name, parameter in parameters.items():
        field = parameter.WhichOneof("parameter_choice")
        if field is not None:
            found[name] = getattr(parameter, field)
    return found


# Writing: what repeats is made once.


def _specs(tensors: tuple[NamedTensor, ...]) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    return tuple((name, datatype, shape) for name, datatype, shape, _, _ in tensors)


@lru_cache(maxsize=256)
def _request_fields(
    name: str, version: str, inputs: tuple[tuple[str, str, tuple[int, ...]], ...], outputs: tuple[str, ...]
) -> bytes:
    message = inference_pb2.ModelInferRequest(model_name=name, model_version=version)
    for tensor, datatype, shape in inputs:
        message.inputs.add(name=tensor, datatype=datatype, shape=shape)
    for output in outputs:
        message.outputs.add(name=output)
    return message.SerializeToString()


@lru_cache(maxsize=256)
def _response_fields(name: str, version: str, outputs: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bytes:
    message = inference_pb2.ModelInferResponse(model_name=name, model_version=version)
    for tensor, datatype, shape in outputs:
        message.outputs.add(name=tensor, datatype=datatype, shape=shape)
    return message.SerializeToString()


def _common(request_id: str, parameters: Parameters) -> list[bytes]:
    """Fields 3 and 4, which are the same in both messages."""
    pieces: list[bytes] = []
    if request_id:
        text = request_id.encode()
        pieces += (_ID_TAG, varint(len(text)), text)
    for name, value in parameters.items():
        if isinstance(value, float):
            pieces += (_before_double(name), _DOUBLE.pack(value))
        else:
            pieces.append(_parameter(name, value))
    return pieces


@lru_cache(maxsize=64)
def _before_double(name: str) -> bytes:
    """Field 4 with one parameter of floating point, but for its eight bytes at the end."""
    choice = inference_pb2.InferParameter(double_param=1.0)
    return inference_pb2.ModelInferRequest(parameters={name: choice}).SerializeToString()[: -_DOUBLE.size]


@lru_cache(maxsize=256, typed=True)
def _parameter(name: str, value: bool | int | str) -> bytes:
    """Field 4 with one parameter."""
    if isinstance(value, bool):
        choice = inference_pb2.InferParameter(bool_param=value)
    elif isinstance(value, int):
        choice = inference_pb2.InferParameter(int64_param=value)
    else:
        choice = inference_pb2.InferParameter(string_param=value)
    return inference_pb2.ModelInferRequest(parameters={name: choice}).SerializeToString()


def _typed(tensors: tuple[NamedTensor, ...]) -> list[inference_pb2.InferTensorContents] | None:
    """Elements in typed fields; ``None``: a tensor's type has none."""
    found = []
    for tensor in tensors:
        contents = contents_of_raw(tensor.name, tensor.datatype, tensor.data)
        if contents is None:
            return None
        found.append(contents)
    return found


def _raw(tag: int, tensors: tuple[NamedTensor, ...]) -> list[bytes | memoryview]:
    pieces: list[bytes | memoryview] = []
    for tensor in tensors:
        pieces += (bytes((tag,)), varint(len(tensor.data)), tensor.data)
    return pieces
