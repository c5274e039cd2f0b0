"""The tensor of a request as a payload, and the output of a network as the tensor of an answer."""

from __future__ import annotations

from twinsplit.errors import BadMessageError, TensorError
from twinsplit.model.manifest import TensorSpec
from twinsplit.oip.datatypes import BYTES, DATATYPES, DTYPES, elements_of_bytes
from twinsplit.oip.messages import InferenceRequest, NamedTensor
from twinsplit.oip.parameters import RequestSays
from twinsplit.tensor import EncodedTensor, TensorHeader

FRAME = "frame"
"""Name of the input that holds an encoded picture in place of the tensor."""

_PICTURES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg"}
"""How files of these kinds begin."""


def only_input(request: InferenceRequest, spec: TensorSpec, *, is_picture_taken: bool) -> NamedTensor:
    """The one tensor of a request, for ``spec``, or a picture in its place.

    Raises:
        BadMessageError: there is none, or another one.
    """
    names = (spec.name, FRAME) if is_picture_taken else (spec.name,)
    if len(request.inputs) != 1:
        raise BadMessageError(f"inputs: {len(request.inputs)} tensors; send {' or '.join(names)}, and nothing else")
    tensor = request.inputs[0]
    if tensor.name not in names:
        raise BadMessageError(f"inputs: {tensor.name[:60]!r} is not this model's; send {' or '.join(names)}")
    if tensor.name != spec.name and tensor.datatype != BYTES:
        raise BadMessageError(f"inputs: {FRAME} is a picture, of datatype BYTES; send {spec.name} as a tensor")
    return tensor


def payload_of(tensor: NamedTensor, says: RequestSays, spec: TensorSpec) -> EncodedTensor:
    """What a request sends for the tensor ``spec``, in its representation. ``data`` stays a view of the message.

    Raises:
        TensorError: the datatype cannot hold it, or BYTES hold no picture.
    """
    _, datatype, shape, data, _ = tensor
    if datatype == BYTES:
        data = only_element(tensor)
    if says.representation is None:
        if datatype == BYTES:
            return EncodedTensor(TensorHeader(spec.shape, spec.dtype, _picture_kind(tensor.name, data)), data)
        dtype = DTYPES.get(datatype)
        if dtype is None:
            raise TensorError(f"tensor {tensor.name[:60]!r}: {datatype} cannot hold {spec.dtype}; send {_wanted(spec)}")
        if dtype == "float16" and spec.dtype == "float32":
            return EncodedTensor(TensorHeader(shape, spec.dtype, "float16"), data)
        return EncodedTensor(TensorHeader(shape, dtype, "float32"), data)
    header = TensorHeader(
        says.raw_shape or spec.shape, spec.dtype, says.representation, says.codec, says.scale, says.zero_point
    )
    return EncodedTensor(header, data)


def only_element(tensor: NamedTensor) -> memoryview:
    """The one element of a tensor of BYTES.

    Raises:
        TensorError: there are more, or none.
    """
    elements = elements_of_bytes(tensor.name, tensor.data)
    if len(elements) != 1:
        raise TensorError(f"tensor {tensor.name[:60]!r}: {len(elements)} elements; send one, of shape [1]")
    return elements[0]


def named_output(spec: TensorSpec, output: EncodedTensor) -> NamedTensor:
    """A network's output as ``float32`` without a codec, which is its own elements."""
    return NamedTensor(spec.name, DATATYPES[output.header.dtype], output.header.shape, output.data)


def _picture_kind(name: str, data: bytes | memoryview) -> str:
    for beginning, kind in _PICTURES.items():
        if bytes(data[: len(beginning)]) == beginning:
            return kind
    raise TensorError(f"tensor {name[:60]!r}: its bytes are neither a PNG nor a JPEG file; send one of them")


def _wanted(spec: TensorSpec) -> str:
    return f"{DATATYPES[spec.dtype]} {list(spec.shape)}"
