"""Random networks: the cuts found are all there are, and segments in a row give what the whole network gives."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.onnx_networks import floats, saved
from twinsplit.model.build import CutSettings, build_model
from twinsplit.model.cuts import find_cuts, resolve_cuts, segment_nodes
from twinsplit.model.graph import Network, load_network, node_inputs
from twinsplit.model.runtime import SegmentRuntime

WIDTH = 4
ONE = ("Relu", "Tanh", "Neg", "Identity")
TWO = ("Add", "Mul", "Max")


@dataclass(frozen=True)
class Step:
    """One node: its operator and how far back its inputs lie."""

    op: str
    first: int
    second: int


steps = st.lists(
    st.builds(
        Step, st.sampled_from((*ONE, *TWO, "MatMul", "Split", "AddConstant")), st.integers(0, 3), st.integers(0, 5)
    ),
    min_size=2,
    max_size=14,
)


def network_of(drawn: list[Step], order: list[int]) -> onnx.ModelProto:
    """A network over vectors (1, 4); its nodes are listed in an order shuffled as far as they still run."""
    tensors = ["x"]
    nodes = [
        helper.make_node("Transpose", ["w"], ["wt"]),  # derived from a constant alone
        helper.make_node("Constant", [], ["half"], value=numpy_helper.from_array(np.full(1, 0.5, np.float32))),
    ]
    for number, step in enumerate(drawn):
        a = tensors[max(0, len(tensors) - 1 - step.first)]
        b = tensors[max(0, len(tensors) - 1 - step.second)]
        name = f"t{number}"
        if step.op in ONE:
            nodes.append(helper.make_node(step.op, [a], [name]))
        elif step.op in TWO:
            nodes.append(helper.make_node(step.op, [a, b], [name]))
        elif step.op == "MatMul":
            nodes.append(helper.make_node("MatMul", [a, "wt" if number % 2 else "w"], [name]))
        elif step.op == "Split":
            nodes.append(helper.make_node("Split", [a], [f"{name}l", f"{name}r"], axis=1))
            nodes.append(helper.make_node("Concat", [f"{name}r", f"{name}l"], [name], axis=1))
        else:
            nodes.append(helper.make_node("Add", [a, "half"], [name]))
        tensors.append(name)
    nodes.append(helper.make_node("Tanh", [tensors[-1]], ["y"]))
    nodes = shuffled(nodes, order)
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDTH]) for name in ("x", "y")]
    weights = [numpy_helper.from_array(floats(WIDTH, WIDTH, seed=1, scale=0.6), "w")]
    graph = helper.make_graph(nodes, "random", [info[0]], [info[1]], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def shuffled(nodes: list[onnx.NodeProto], order: list[int]) -> list[onnx.NodeProto]:
    """Another order that runs: of the nodes that are ready, ``order`` says which comes next."""
    ready = {"x", "w"}
    waiting, result = list(nodes), []
    turn = 0
    while waiting:
        able = [n for n in waiting if all(i in ready for i in n.input)]
        chosen = able[order[turn % len(order)] % len(able)]
        turn += 1
        waiting.remove(chosen)
        ready.update(chosen.output)
        result.append(chosen)
    return result


def alive_after(network: Network, tensor: str) -> set[str]:
    """Tensors that are needed after ``tensor`` is there and everything it depends on has run, by definition."""
    done = {tensor}
    for node in reversed(network.nodes):
        if done.intersection(node.output):
            done.update(node_inputs(node))
    head = [node for node in network.nodes if done.intersection(node.output)]
    made = {name for node in head for name in node.output} | {network.input.name}
    read = {name for node in network.nodes if node not in head for name in node_inputs(node)}
    return made & (read | {network.output.name})


@given(steps, st.lists(st.integers(0, 50), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.slow
def test_the_cuts_found_are_exactly_those_with_one_tensor_alive(drawn: list[Step], order: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        network = load_network(saved(network_of(drawn, order), Path(folder) / "n.onnx"))
    candidates = [name for node in network.nodes for name in node.output if name != "y"]
    expected = {name for name in candidates if alive_after(network, name) == {name}}
    found = find_cuts(network)
    assert {c.tensor.name for c in found} == expected
    assert [c.macs_before for c in found] == sorted(c.macs_before for c in found)
    # The cuts are in running order, and each segment reads its own cut and nothing of the segments before.
    cuts = resolve_cuts(network, found, expected)
    parts = segment_nodes(network, cuts)
    assert sum(len(part) for part in parts) == len(network.nodes)
    entry = network.input.name
    for part, cut in zip(parts, [*(c.tensor.name for c in cuts), "y"], strict=True):
        made = {name for node in part for name in node.output}
        read = {name for node in part for name in node_inputs(node) if not network.is_constant(name)}
        assert read <= made | {entry}
        assert cut in made
        entry = cut


@given(steps, st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 1000))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.slow
def test_segments_in_a_row_give_what_the_whole_gives(drawn: list[Step], order: list[int], seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = saved(network_of(drawn, order), folder / "n.onnx")
        every = [c.tensor.name for c in find_cuts(load_network(whole))]
        build_model(whole, folder / "out", cutting=CutSettings(cuts=every), threads=1)
        runtime = SegmentRuntime.load(folder / "out")
        assert runtime.manifest.segment_count == len(every) + 1
        x = floats(1, WIDTH, seed=seed)
        session = onnxruntime.InferenceSession(str(whole), providers=["CPUExecutionProvider"])
        (expected,) = session.run(["y"], {"x": x})
        found = runtime.run_tail(0, x)
        assert found is not None
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
