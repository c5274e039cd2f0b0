"""Multiply-accumulates (MACs) of ONNX operators from the shapes of what they read and write.

Counted are convolutions, matrix products and recurrent layers, which make up nearly all of a network's time; the rest
counts nothing. Bodies of If, Loop and Scan are not looked into.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from twinsplit.model.manifest import TensorSpec

_Specs = Mapping[str, TensorSpec]


def node_macs(node: Any, specs: _Specs) -> int:
    """MACs of one ``onnx.NodeProto``; 0 for operators that are not counted or where a shape is unknown."""
    count = _COUNTS.get(node.op_type)
    if count is None:
        return 0
    try:
        return count(node, specs)
    except KeyError:
        return 0


def _convolution(weight_position: int) -> Callable[[Any, _Specs], int]:
    def count(node: Any, specs: _Specs) -> int:
        # (M, C/group, k1, ...): the second dimension already is what one output element of its group reads.
        weight = specs[node.input[weight_position]].shape
        return math.prod(specs[node.output[0]].shape) * math.prod(weight[1:])

    return count


def _transposed_convolution(node: Any, specs: _Specs) -> int:
    weight = specs[node.input[1]].shape  # (C, M/group, k1, ...)
    return math.prod(specs[node.input[0]].shape) * math.prod(weight[1:])


def _gemm(node: Any, specs: _Specs) -> int:
    is_transposed = any(a.name == "transA" and a.i for a in node.attribute)
    inner = specs[node.input[0]].shape[0 if is_transposed else 1]
    return math.prod(specs[node.output[0]].shape) * inner


def _product(node: Any, specs: _Specs) -> int:
    return math.prod(specs[node.output[0]].shape) * specs[node.input[0]].shape[-1]


def _recurrent(node: Any, specs: _Specs) -> int:
    length, batch = specs[node.input[0]].shape[:2]
    return length * batch * (math.prod(specs[node.input[1]].shape) + math.prod(specs[node.input[2]].shape))


_COUNTS: dict[str, Callable[[Any, _Specs], int]] = {
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "FusedConv": _convolution(1),
    "ConvTranspose": _transposed_convolution,
    "Gemm": _gemm,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}
