"""A model folder small enough for tests: three segments, four cuts, a picture as input, four classes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from twinsplit.model.profile import made_up_input
from twinsplit.model.runtime import SegmentRuntime

CLASSES = ("boot", "bag", "coat", "shirt")
SIDE = 16
SHAPES = ((1, 3, SIDE, SIDE), (1, 4, 8, 8), (1, 8, 4, 4), (1, 4))
TENSOR_KINDS = (("float32", "none"), ("float16", "none"), ("uint8", "zstd"))


def write_tiny_model(folder: Path, *, name: str = "tiny", version: int = 1, seed: int = 0) -> Path:
    """Write the folder and give it back; another ``seed`` gives other weights and so another digest."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    segments = []
    for index, model in enumerate((_convolution(0, rng), _convolution(1, rng), _classifier(rng))):
        data = model.SerializeToString()
        file = f"segment-{index}.onnx"
        (folder / file).write_bytes(data)
        segments.append({"index": index, "file": file, "sha256": hashlib.sha256(data).hexdigest(), "macs": 1000})
    manifest = {
        "schema_version": 1,
        "name": name,
        "version": version,
        "task": "classification",
        "classes": CLASSES,
        "preprocessing": {"kind": "image", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        "segments": segments,
        "cuts": [_cut(index) for index in range(len(SHAPES))],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def boundary_tensors(runtime: SegmentRuntime) -> list[NDArray[Any]]:
    """A made-up input and what each segment makes of it, by cut."""
    found = [made_up_input(runtime.manifest).tensor]
    for index in range(runtime.manifest.segment_count):
        found.append(runtime.run_segment(index, found[-1]))
    return found


def _cut(index: int) -> dict[str, object]:
    kinds = [{"kind": kind, "codec": codec} for kind, codec in TENSOR_KINDS] if index < len(SHAPES) - 1 else []
    pictures = [{"kind": "png"}, {"kind": "jpeg", "quality": 90}] if index == 0 else []
    return {
        "index": index,
        "tensor": {"name": f"t{index}", "shape": SHAPES[index], "dtype": "float32"},
        "representations": [entry | {"mean_bytes": 500.0, "encode_s": 1e-5} for entry in kinds + pictures],
    }


def _convolution(index: int, rng: np.random.Generator) -> onnx.ModelProto:
    channels_in, channels_out = SHAPES[index][1], SHAPES[index + 1][1]
    weight = numpy_helper.from_array(rng.normal(0, 0.3, (channels_out, channels_in, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", [f"t{index}", "w"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], [f"t{index + 1}"]),
    ]
    return _model(index, nodes, [weight])


def _classifier(rng: np.random.Generator) -> onnx.ModelProto:
    weight = numpy_helper.from_array(rng.normal(0, 0.3, (8 * 4 * 4, len(CLASSES))).astype(np.float32), "w")
    nodes = [helper.make_node("Flatten", ["t2"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["t3"])]
    return _model(2, nodes, [weight])


def _model(index: int, nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        f"segment{index}",
        [helper.make_tensor_value_info(f"t{index}", TensorProto.FLOAT, SHAPES[index])],
        [helper.make_tensor_value_info(f"t{index + 1}", TensorProto.FLOAT, SHAPES[index + 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model
