"""Networks to measure with: the shipped one put together again, and those of the onnx wheel with random weights.

Needs onnx (the extra ``dev`` or ``model``); nothing of it is imported by the demo.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import compose, numpy_helper

from twinsplit.model.manifest import read_manifest

LIGHT_FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def light_network(name: str, folder: Path, seed: int = 0) -> Path:
    """The onnx wheel's network ``name``, such as ``bvlc_alexnet`` or ``resnet50``, written with random weights.

    The wheel's own weights are one number each, and made while the network is loaded.
    """
    model = onnx.load(LIGHT_FOLDER / f"light_{name}.onnx")
    graph = model.graph
    rng = np.random.default_rng(seed)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kept: list[Any] = []
    for node in graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in shapes:
            dims = [int(size) for size in shapes[node.input[0]]]
            graph.initializer.append(numpy_helper.from_array(_weights(dims, rng), node.output[0]))
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


def whole_network(model_folder: Path, folder: Path) -> Path:
    """The uncut network of a model folder, joined from its segments."""
    manifest, _ = read_manifest(model_folder)
    joined: Any = None
    exit_name = ""
    for segment in manifest.segments:
        entry, output = manifest.cuts[segment.index].tensor.name, manifest.cuts[segment.index + 1].tensor.name
        prefix = f"s{segment.index}/"
        part = compose.add_prefix(onnx.load(model_folder / segment.file), prefix)
        link = [(exit_name, prefix + entry)]
        joined = part if joined is None else compose.merge_models(joined, part, io_map=link)
        exit_name = prefix + output
    path = folder / f"{manifest.name}.onnx"
    onnx.save(joined, path)
    return path


def _weights(dims: list[int], rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float32]]:
    if len(dims) == 1:
        # Scales, shifts, means and variances alike: above 0, as a variance must be.
        return rng.uniform(0.6, 1.4, dims).astype(np.float32)
    scale = math.sqrt(2.0 / math.prod(dims[1:]))
    weights: np.ndarray[Any, np.dtype[np.float32]] = rng.standard_normal(dims, dtype=np.float32) * np.float32(scale)
    return weights
