"""ONNX networks for tests: hand-made ones from text, and those that ship inside the onnx wheel with random weights.

The wheel's networks have weights that are all the same number; then every picture gives the same answer and comparing
answers proves nothing. So the weights are made random (seeded), inside the graph where they are large, by tiling one
block of random numbers: the files stay small and the weights are constants that have to be derived.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper, parser

LIGHT_FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LIGHT_NAMES = ("bvlc_alexnet", "vgg19", "resnet50", "densenet121", "squeezenet", "inception_v1", "shufflenet")
_BLOCK = 65_537  # prime, so that rows of a weight matrix do not repeat
_LARGEST_RANDOM = 5_000_000  # elements; above stand fully connected layers whose constants take seconds to derive


def parsed(text: str, weights: Mapping[str, NDArray[np.generic]] | None = None, *, opset: int = 17) -> onnx.ModelProto:
    """A model from the text of its graph, such as ``g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }``."""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]> {text}')
    for name, values in (weights or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def saved(model: onnx.ModelProto, path: Path) -> Path:
    """Write ``model`` to ``path``."""
    onnx.save(model, path)
    return path


def floats(*shape: int, seed: int = 0, scale: float = 1.0) -> NDArray[np.float32]:
    """Seeded normal deviates."""
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def he(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Weights that keep the size of activations (He et al.), output channels first."""
    return floats(*shape, seed=seed, scale=math.sqrt(2.0 / math.prod(shape[1:])))


SMALL_TEXT = """
small (float[1,3,16,16] image) => (float[1,5] logits) {
    c1 = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1)
    a1 = Relu(c1)
    c2 = Conv<pads=[1,1,1,1]>(a1, w2)
    r2 = Relu(c2)
    a2 = Add(r2, a1)
    c3 = Conv<pads=[1,1,1,1], group=2>(a2, w3)
    r3 = Relu(c3)
    a3 = GlobalAveragePool(r3)
    flat = Flatten(a3)
    logits = Gemm<transB=1>(flat, w4, b4)
}
"""


def small_classifier(seed: int = 0) -> onnx.ModelProto:
    """Pictures of 16x16 into 5 classes; a residual block in the middle; inner cuts at a1, a2, a3."""
    weights = {
        "w1": he(8, 3, 3, 3, seed=seed + 1),
        "w2": he(8, 8, 3, 3, seed=seed + 2),
        "w3": he(12, 4, 3, 3, seed=seed + 3),
        "w4": floats(5, 12, seed=seed + 4, scale=3.0),
        "b4": floats(5, seed=seed + 5, scale=0.1),
    }
    return parsed(SMALL_TEXT, weights)


def small_exit(channels: int = 8, side: int = 8, seed: int = 0) -> onnx.ModelProto:
    """An exit into 5 classes on a tensor (1, channels, side, side)."""
    text = f"""
    exit (float[1,{channels},{side},{side}] tensor) => (float[1,5] logits) {{
        pooled = AveragePool<kernel_shape=[4,4], strides=[4,4]>(tensor)
        flat = Flatten(pooled)
        logits = Gemm<transB=1>(flat, w)
    }}
    """
    return parsed(text, {"w": floats(5, channels * (side // 4) ** 2, seed=seed, scale=2.0)})


def light(name: str, folder: Path, seed: int = 0) -> Path:
    """The wheel's network ``name`` with random weights, written to ``folder``."""
    model = onnx.load(LIGHT_FOLDER / f"light_{name}.onnx")
    graph = model.graph
    rng = np.random.default_rng(seed)
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    new: list[onnx.NodeProto] = []
    added = {"block": rng.standard_normal(_BLOCK).astype(np.float32)}
    for node in graph.node:
        dims = [int(d) for d in shapes.get(node.input[0], ())] if node.op_type == "ConstantOfShape" else []
        count = math.prod(dims)
        if len(dims) == 1:
            # Scales, shifts, means and variances alike: around 1, and above 0 as a variance must be.
            added[node.output[0]] = rng.uniform(0.6, 1.4, dims).astype(np.float32)
        elif len(dims) > 1 and count <= _LARGEST_RANDOM:
            new.extend(_tiled(node.output[0], dims, int(rng.integers(_BLOCK)), added))
        else:
            new.append(node)
    last = graph.node[-1]
    if last.op_type == "Softmax":
        # Saturated probabilities would hide differences.
        new.remove(last)
        graph.output[0].name = last.input[0]
    del graph.node[:]
    graph.node.extend(new)
    read = {name for node in new for name in node.input}
    for field in (graph.initializer, graph.input):
        used = [entry for entry in field if entry.name in read]
        del field[:]
        field.extend(used)
    graph.initializer.extend(numpy_helper.from_array(values, key) for key, values in added.items())
    return saved(model, folder / f"{name}.onnx")


def _tiled(name: str, dims: Sequence[int], offset: int, added: dict[str, NDArray[np.generic]]) -> list[onnx.NodeProto]:
    count = math.prod(dims)
    copies = (offset + count) // _BLOCK + 1
    added[f"{name}/copies"] = np.asarray([copies, _BLOCK], dtype=np.int64)
    added[f"{name}/flat"] = np.asarray([-1], dtype=np.int64)
    added[f"{name}/dims"] = np.asarray(dims, dtype=np.int64)
    added[f"{name}/scale"] = np.asarray(math.sqrt(2.0 / math.prod(dims[1:])), dtype=np.float32)
    return [
        helper.make_node("Expand", ["block", f"{name}/copies"], [f"{name}/1"]),
        helper.make_node("Reshape", [f"{name}/1", f"{name}/flat"], [f"{name}/2"]),
        helper.make_node("Slice", [f"{name}/2"], [f"{name}/3"], axes=[0], starts=[offset], ends=[offset + count]),
        helper.make_node("Reshape", [f"{name}/3", f"{name}/dims"], [f"{name}/4"]),
        helper.make_node("Mul", [f"{name}/4", f"{name}/scale"], [name]),
    ]


def centred(path: Path, entries: Sequence[NDArray[np.float32]]) -> Path:
    """Subtract from the outputs of the network at ``path`` their mean over ``entries``, in place.

    A deep network of random weights gives nearly the same output whatever it sees; centred, the difference that the
    picture makes decides the answer.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name
    mean = np.mean([session.run(None, {entry: values})[0] for values in entries], axis=0)
    model = onnx.load(path)
    output = model.graph.output[0].name
    model.graph.initializer.append(numpy_helper.from_array(mean, "mean_output"))
    model.graph.node.append(helper.make_node("Sub", [output, "mean_output"], ["centred"]))
    model.graph.output[0].name = "centred"
    return saved(model, path)
