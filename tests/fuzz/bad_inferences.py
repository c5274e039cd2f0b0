"""Bad requests of the Open Inference Protocol to an edge that holds the tiny model, or to a device that has it."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

import zstandard

from tests.fuzz.mutations import Bad, unreadable
from tests.unit.edge.tiny_model import SHAPES
from twinsplit.errors import ErrorCode
from twinsplit.oip.v2 import inference_pb2 as pb2

FLOATS = math.prod(SHAPES[1])
BAD_MESSAGE, BAD_TENSOR, OVERSIZE = ErrorCode.BAD_MESSAGE, ErrorCode.BAD_TENSOR, ErrorCode.OVERSIZE
BAD_FRAME, UNKNOWN = ErrorCode.BAD_FRAME, ErrorCode.UNKNOWN_MODEL


def good(cut: int = 1) -> pb2.ModelInferRequest:
    """A tail after ``cut``, or after cut 0 the whole network."""
    request = pb2.ModelInferRequest(
        model_name=f"tiny.from_cut_{cut}" if cut else "tiny",
        model_version="1",
        id="seven",
        raw_input_contents=[bytes(4 * math.prod(SHAPES[cut]))],
    )
    request.inputs.add(name=f"t{cut}", datatype="FP32", shape=SHAPES[cut])
    request.outputs.add(name="t3")
    return request


def bad_inferences() -> Iterator[Bad]:
    """To an edge; what they are refused by is the contract."""
    yield from unreadable("inference", good())
    for name, (code, changes) in _changed().items():
        yield Bad(f"inference: {name}", changed(good(), changes).SerializeToString(), code)
    for name, (code, changes) in _of_the_network().items():
        yield Bad(f"inference: {name}", changed(good(0), changes).SerializeToString(), code)


def bad_frames() -> Iterator[Bad]:
    """To a device."""
    request = good(0)
    del request.outputs[:]
    yield from unreadable("frame", request)
    for name, (code, changes) in _of_frames().items():
        yield Bad(f"frame: {name}", changed(request, changes).SerializeToString(), code)


def changed(request: pb2.ModelInferRequest, changes: dict[str, Any]) -> pb2.ModelInferRequest:
    """A copy; ``inputs`` are changes of the one input, ``parameters`` values by name."""
    copy = pb2.ModelInferRequest()
    copy.CopyFrom(request)
    for field, value in changes.items():
        if field == "input":
            _change_input(copy.inputs[0], value)
        elif field == "parameters":
            _set(copy.parameters, value)
        elif isinstance(value, list):
            copy.ClearField(field)
            getattr(copy, field).extend(value)
        else:
            setattr(copy, field, value)
    return copy


def _change_input(tensor: pb2.ModelInferRequest.InferInputTensor, changes: dict[str, Any]) -> None:
    for field, value in changes.items():
        if field == "shape":
            tensor.shape[:] = value
        elif field == "parameters":
            _set(tensor.parameters, value)
        elif field == "contents":
            tensor.contents.CopyFrom(pb2.InferTensorContents(**value))
        else:
            setattr(tensor, field, value)


def _set(parameters: Any, values: dict[str, Any]) -> None:
    fields = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    for name, value in values.items():
        setattr(parameters[name], fields[type(value)], value)


def _changed() -> dict[str, tuple[ErrorCode, dict[str, Any]]]:
    packed = zstandard.compress(bytes(FLOATS))
    says = {"twinsplit_representation": "uint8", "twinsplit_codec": "zstd", "twinsplit_scale": 1.0}
    return {
        "no model": (UNKNOWN, {"model_name": ""}),
        "another model": (UNKNOWN, {"model_name": "none"}),
        "the last cut": (UNKNOWN, {"model_name": "tiny.from_cut_3"}),
        "a cut far off": (UNKNOWN, {"model_name": "tiny.from_cut_99999999999999999999"}),
        "a cut below 0": (UNKNOWN, {"model_name": "tiny.from_cut_-1"}),
        "another version": (UNKNOWN, {"model_version": "2"}),
        "a version that is none": (UNKNOWN, {"model_version": "latest"}),
        "another digest": (ErrorCode.WRONG_DIGEST, {"parameters": {"twinsplit_model_digest": "00" * 32}}),
        "a digest that is a number": (BAD_MESSAGE, {"parameters": {"twinsplit_model_digest": 7}}),
        **{
            f"budget = {value}": (BAD_MESSAGE, {"parameters": {"twinsplit_budget_s": value}})
            for value in (math.nan, math.inf, -1.0, "soon", True)
        },
        **{
            f"{name} = {value}": (BAD_MESSAGE, {"parameters": {f"twinsplit_{name}": value}})
            for name in ("scale", "plan_id", "task_id", "zero_point")
            for value in (math.nan, math.inf, -1.0)
        },
        "a plan between two": (BAD_MESSAGE, {"parameters": {"twinsplit_plan_id": 1.5}}),
        "a device without a name": (BAD_MESSAGE, {"parameters": {"twinsplit_device_id": "../x"}}),
        "a parameter of answers": (BAD_MESSAGE, {"parameters": {"twinsplit_backlog_s": 1.0}}),
        "a parameter misspelt": (BAD_MESSAGE, {"parameters": {"twinsplit_budget": 1.0}}),
        "a parameter of the tensor misspelt": (BAD_MESSAGE, {"input": {"parameters": {"twinsplit_scales": 1.0}}}),
        "no input": (BAD_MESSAGE, {"inputs": [], "raw_input_contents": []}),
        "no bytes at all": (BAD_TENSOR, {"raw_input_contents": []}),
        "two inputs": (BAD_MESSAGE, {"inputs": list(good().inputs) * 2, "raw_input_contents": [bytes(4 * FLOATS)] * 2}),
        "bytes for two inputs": (BAD_MESSAGE, {"raw_input_contents": [bytes(4 * FLOATS)] * 2}),
        "bytes in both places": (BAD_MESSAGE, {"input": {"contents": {"fp32_contents": [1.0]}}}),
        "an input of another name": (BAD_MESSAGE, {"input": {"name": "t2"}}),
        "a picture where no input is": (BAD_MESSAGE, {"input": {"name": "frame"}}),
        "an output of another name": (BAD_MESSAGE, {"outputs": [_output("t1")]}),
        "an output by classes": (BAD_MESSAGE, {"outputs": [_output("t3", "classification")]}),
        "memory that is shared": (BAD_MESSAGE, {"input": {"parameters": {"shared_memory_region": "region"}}}),
        "no type": (BAD_TENSOR, {"input": {"datatype": ""}}),
        "an unknown type": (BAD_TENSOR, {"input": {"datatype": "FP128"}}),
        "another type of the same size": (BAD_TENSOR, {"input": {"datatype": "INT32"}}),
        "a type that is not ours": (BAD_TENSOR, {"input": {"datatype": "UINT32"}}),
        "no shape": (BAD_TENSOR, {"input": {"shape": []}}),
        "an axis below 0": (BAD_TENSOR, {"input": {"shape": [-1, 4, 8, 8]}}),
        "an axis of 0": (BAD_TENSOR, {"input": {"shape": [0, 4, 8, 8]}, "raw_input_contents": [b""]}),
        "a shape without end": (BAD_TENSOR, {"input": {"shape": [(1 << 62)] * 8}}),
        "a thousand axes": (BAD_TENSOR, {"input": {"shape": [1] * 1000}, "raw_input_contents": [bytes(4)]}),
        "axes in another order": (BAD_TENSOR, {"input": {"shape": [8, 8, 4, 1]}}),
        "a batch of two": (
            BAD_TENSOR, {"input": {"shape": [2, *SHAPES[1][1:]]}, "raw_input_contents": [bytes(8 * FLOATS)]}
        ),
        "a byte too few": (BAD_TENSOR, {"raw_input_contents": [bytes(4 * FLOATS - 1)]}),
        "a byte too many": (BAD_TENSOR, {"raw_input_contents": [bytes(4 * FLOATS + 1)]}),
        "typed: too few": (BAD_TENSOR, {"raw_input_contents": [], "input": {"contents": {"fp32_contents": [1.0]}}}),
        "typed: another field": (BAD_TENSOR, {"raw_input_contents": [], "input": {"contents": {"int_contents": [1]}}}),
        "typed: halves": (
            BAD_TENSOR, {"raw_input_contents": [], "input": {"datatype": "FP16", "contents": {"fp32_contents": [1.0]}}}
        ),
        "typed: out of range": (
            BAD_TENSOR, {"raw_input_contents": [], "input": {"datatype": "INT8", "contents": {"int_contents": [300]}}}
        ),
        "compressed: is not": (
            BAD_TENSOR,
            {"parameters": says, "input": {"datatype": "UINT8", "shape": [8]}, "raw_input_contents": [b"no frame"]},
        ),
        "compressed: a bomb": (OVERSIZE, _compressed(says, zstandard.compress(bytes(64 << 20)))),
        "compressed: cut off": (BAD_TENSOR, _compressed(says, packed[:-3])),
        "compressed: a size that lies": (
            OVERSIZE, _compressed(says, b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 62) + b"\1\0\0")
        ),
        "affine: no scale": (
            BAD_TENSOR, _compressed(says | {"twinsplit_scale": 0.0}, packed)
        ),
        "affine: zero point beyond": (
            BAD_TENSOR, _compressed(says | {"twinsplit_zero_point": 256}, packed)
        ),
        "an unknown representation": (BAD_TENSOR, {"parameters": {"twinsplit_representation": "uint2"}}),
        "an unknown codec": (BAD_TENSOR, {"parameters": says | {"twinsplit_codec": "gzip"}}),
        "a shape of another tensor": (BAD_TENSOR, _compressed(says | {"twinsplit_raw_shape": "1,8,4,4"}, packed)),
        "a shape that is none": (BAD_MESSAGE, _compressed(says | {"twinsplit_raw_shape": "1x8"}, packed)),
        "a picture of a tensor": (BAD_TENSOR, {"input": {"datatype": "BYTES", "shape": [1]}}),
    }  # fmt: skip


def _of_the_network() -> dict[str, tuple[ErrorCode, dict[str, Any]]]:
    return {
        "picture: no element": (BAD_TENSOR, _picture(b"")),
        "picture: two elements": (BAD_TENSOR, _picture(b"\0\0\0\0\0\0\0\0")),
        "picture: a length beyond the end": (BAD_TENSOR, _picture(b"\xff\xff\xff\xffabc")),
        "picture: half a length": (BAD_TENSOR, _picture(b"\x01\0")),
        "picture: is none": (BAD_TENSOR, _picture(b"\x0a\0\0\0no picture")),
        "picture: a head alone": (BAD_TENSOR, _picture(b"\x08\0\0\0\x89PNG\r\n\x1a\n")),
        "picture: numbers": (BAD_MESSAGE, {"input": {"name": "frame"}}),
    }


def _of_frames() -> dict[str, tuple[ErrorCode, dict[str, Any]]]:
    return {
        "another model": (UNKNOWN, {"model_name": "none"}),
        "a tail": (UNKNOWN, {"model_name": "tiny.from_cut_1"}),
        "another version": (UNKNOWN, {"model_version": "9"}),
        "no input": (BAD_MESSAGE, {"inputs": [], "raw_input_contents": []}),
        "an input of another name": (BAD_MESSAGE, {"input": {"name": "t1"}}),
        "an output of another name": (BAD_MESSAGE, {"outputs": [_output("t3")]}),
        "budget = nan": (BAD_MESSAGE, {"parameters": {"twinsplit_budget_s": math.nan}}),
        "a parameter misspelt": (BAD_MESSAGE, {"parameters": {"twinsplit_plan": 1}}),
        "another type": (BAD_TENSOR, {"input": {"datatype": "INT32"}}),
        "axes in another order": (BAD_TENSOR, {"input": {"shape": [16, 16, 3, 1]}}),
        "a byte too few": (BAD_TENSOR, {"raw_input_contents": [bytes(4 * math.prod(SHAPES[0]) - 1)]}),
        "not a number": (BAD_FRAME, {"raw_input_contents": [b"\xff" * (4 * math.prod(SHAPES[0]))]}),
        "picture: is none": (BAD_FRAME, _picture(b"\x0a\0\0\0no picture")),
        "picture: nothing": (BAD_FRAME, _picture(b"\0\0\0\0")),
        "picture: no element": (BAD_TENSOR, _picture(b"")),
        "picture: two elements": (BAD_TENSOR, _picture(b"\0\0\0\0\0\0\0\0")),
    }


def _compressed(says: dict[str, Any], data: bytes) -> dict[str, Any]:
    return {
        "parameters": says,
        "input": {"datatype": "UINT8", "shape": [len(data)]},
        "raw_input_contents": [data],
    }


def _picture(raw: bytes) -> dict[str, Any]:
    return {"input": {"name": "frame", "datatype": "BYTES", "shape": [1]}, "raw_input_contents": [raw]}


def _output(name: str, parameter: str = "") -> pb2.ModelInferRequest.InferRequestedOutputTensor:
    output = pb2.ModelInferRequest.InferRequestedOutputTensor(name=name)
    if parameter:
        output.parameters[parameter].int64_param = 1
    return output
