"""Networks whose tail takes a payload of a given size and computes little with it. Needs onnx."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from twinsplit.model.build import CutSettings, build_model

SIZES = (9_000, 150_000, 600_000, 2_400_000)
"""Bytes of the payload after cut 1."""
ROWS, CLASSES = 25, 10
INPUT, SENT, OUTPUT = "x", "sent", "y"


def shape_of(size: int) -> tuple[int, int, int]:
    """Shape of the float32 tensor of so many bytes."""
    return (1, ROWS, size // (4 * ROWS))


def write_models(root: Path, sizes: Sequence[int] = SIZES) -> list[Path]:
    """One model folder per size, always the same."""
    folders = []
    with tempfile.TemporaryDirectory() as temporary:
        for size in sizes:
            whole = Path(temporary) / f"size-{size}.onnx"
            onnx.save(_network(size), whole)
            cutting = CutSettings(cuts=(SENT,))
            folders.append(build_model(whole, root / f"size-{size}", cutting=cutting, task="raw").folder)
    return folders


def expected(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the tail makes of a payload."""
    found: NDArray[np.float32] = tensor.mean(axis=2, dtype=np.float64).astype(np.float32) @ _weights()
    return found


def _weights() -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((ROWS, CLASSES), dtype=np.float32)


def _network(size: int) -> onnx.ModelProto:
    shape = shape_of(size)
    graph = helper.make_graph(
        [
            helper.make_node("Relu", [INPUT], [SENT]),
            helper.make_node("ReduceMean", [SENT], ["means"], axes=[2], keepdims=0),
            helper.make_node("MatMul", ["means", "weights"], [OUTPUT]),
        ],
        "sized",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, (1, CLASSES))],
        [numpy_helper.from_array(_weights(), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model
