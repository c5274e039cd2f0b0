"""Element types by the protocol's names, and elements as the protocol writes them: raw, or in typed fields.

Raw elements are little-endian and row-major; before each element of BYTES stands its length in four bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np

from twinsplit.errors import TensorError
from twinsplit.oip.v2 import inference_pb2
from twinsplit.transport.tail_framing import varint

DATATYPES: dict[str, str] = {
    "float32": "FP32",
    "float16": "FP16",
    "float64": "FP64",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "int8": "INT8",
    "bool": "BOOL",
}
"""Our element types and their names in the protocol."""
DTYPES: dict[str, str] = {datatype: dtype for dtype, datatype in DATATYPES.items()}
BYTES = "BYTES"

_ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "INT8", "UINT8"), 1),
    **dict.fromkeys(("INT16", "UINT16", "FP16", "BF16"), 2),
    **dict.fromkeys(("INT32", "UINT32", "FP32"), 4),
    **dict.fromkeys(("INT64", "UINT64", "FP64"), 8),
}
_PACKED = {"BOOL": "bool_contents", "FP32": "fp32_contents", "FP64": "fp64_contents"}
"""Types whose typed field, packed, holds just the raw elements."""
_NUMBERS = {
    "INT8": ("int_contents", "i1"),
    "INT16": ("int_contents", "<i2"),
    "INT32": ("int_contents", "<i4"),
    "INT64": ("int64_contents", "<i8"),
    "UINT8": ("uint_contents", "u1"),
    "UINT16": ("uint_contents", "<u2"),
    "UINT32": ("uint_contents", "<u4"),
    "UINT64": ("uint64_contents", "<u8"),
}
_TYPED_FIELDS = {BYTES: "bytes_contents", **_PACKED, **{datatype: field for datatype, (field, _) in _NUMBERS.items()}}
_LENGTH = struct.Struct("<I")
_LENGTH_DELIMITED = 2


def check_elements(name: str, datatype: str, shape: Sequence[int], byte_count: int) -> None:
    """See that so many bytes are the raw elements of a tensor of this type and shape; of BYTES only the shape is seen.

    Raises:
        TensorError: they are not, or there is no such type or shape.
    """
    needed = bytes_of(name, datatype, shape)
    if needed is not None and byte_count != needed:
        raise TensorError(f"{_named(name)}: {byte_count} bytes, but its datatype and shape need {needed}")


def bytes_of(name: str, datatype: str, shape: Sequence[int]) -> int | None:
    """Bytes of the raw elements of a tensor of this type and shape; ``None``: of BYTES, which may have any.

    Raises:
        TensorError: there is no such type or shape.
    """
    if datatype != BYTES and datatype not in _ITEM_BYTES:
        raise TensorError(f"{_named(name)}: datatype {datatype[:20]!r} is unknown; use one of {', '.join(_ITEM_BYTES)}")
    if min(shape, default=1) < 0:
        raise TensorError(f"{_named(name)}: a shape with a size below 0 is that of no tensor; send its own")
    return None if datatype == BYTES else math.prod(shape) * _ITEM_BYTES[datatype]


def elements_of_bytes(name: str, data: bytes | memoryview) -> list[memoryview]:
    """The elements of a tensor of BYTES.

    Raises:
        TensorError: the lengths in it do not fit.
    """
    view, at, elements = memoryview(data), 0, []
    while at < len(view):
        start = at + _LENGTH.size
        end = start + _LENGTH.unpack_from(view, at)[0] if start <= len(view) else math.inf
        if end > len(view):
            raise TensorError(f"{_named(name)}: before each element its length must stand in four bytes, little-endian")
        at = int(end)
        elements.append(view[start:at])
    return elements


def bytes_of_elements(elements: Sequence[bytes | memoryview]) -> bytes:
    """A tensor of BYTES, raw."""
    return b"".join(piece for element in elements for piece in (_LENGTH.pack(len(element)), element))


def raw_of_contents(name: str, datatype: str, contents: inference_pb2.InferTensorContents) -> bytes | memoryview:
    """Raw elements of what stands in typed fields.

    Raises:
        TensorError: it stands in another field than the type's, the type has none, or a number is out of its range.
    """
    field = _TYPED_FIELDS.get(datatype)
    if field is None:
        raise TensorError(f"{_named(name)}: {datatype[:20]} has no typed contents; send raw_input_contents")
    if any(found.name != field for found, _ in contents.ListFields()):
        raise TensorError(f"{_named(name)}: contents of {datatype} stand in {field} and nowhere else")
    elements = getattr(contents, field)
    if datatype == BYTES:
        return bytes_of_elements(elements)
    if datatype in _PACKED:
        # Fields of a later version would be written behind the elements.
        contents.DiscardUnknownFields()
        message = contents.SerializeToString()
        return memoryview(message)[len(message) - len(elements) * _ITEM_BYTES[datatype] :]
    try:
        return np.array(list(elements), _NUMBERS[datatype][1]).tobytes()
    except OverflowError:
        raise TensorError(f"{_named(name)}: contents hold a number that {datatype} cannot") from None


def contents_of_raw(name: str, datatype: str, data: bytes | memoryview) -> inference_pb2.InferTensorContents | None:
    """Raw elements in the type's field; ``None``: it has none."""
    if datatype == BYTES:
        return inference_pb2.InferTensorContents(bytes_contents=[bytes(e) for e in elements_of_bytes(name, data)])
    if datatype in _PACKED:
        number = inference_pb2.InferTensorContents.DESCRIPTOR.fields_by_name[_PACKED[datatype]].number
        head = varint(number << 3 | _LENGTH_DELIMITED) + varint(len(data))
        return inference_pb2.InferTensorContents.FromString(b"".join((head, data)))
    if datatype not in _NUMBERS:
        return None
    field, dtype = _NUMBERS[datatype]
    contents = inference_pb2.InferTensorContents()
    getattr(contents, field).extend(np.frombuffer(data, dtype).tolist())
    return contents


def _named(name: str) -> str:
    return f"tensor {name[:60]!r}"
