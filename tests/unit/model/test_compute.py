import numpy as np
import pytest
from onnx import helper

from twinsplit.model.compute import node_macs
from twinsplit.model.manifest import TensorSpec


def specs(**shapes: tuple[int, ...]) -> dict[str, TensorSpec]:
    return {name: TensorSpec(name=name, shape=shape, dtype="float32") for name, shape in shapes.items()}


def counted_convolution(x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...], groups: int) -> int:
    """MACs by walking over every output element and every weight that it reads."""
    count = 0
    for _ in np.ndindex(*y):
        count += (x[1] // groups) * w[2] * w[3]
    return count


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_counts_what_each_output_element_reads(groups: int) -> None:
    x, w, y = (1, 4, 6, 6), (8, 4 // groups, 3, 3), (1, 8, 4, 4)
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups)
    assert node_macs(node, specs(x=x, w=w, y=y)) == counted_convolution(x, w, y, groups)


def test_a_transposed_convolution_counts_what_each_input_element_writes() -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"])
    assert node_macs(node, specs(x=(1, 4, 5, 5), w=(4, 3, 2, 2), y=(1, 3, 10, 10))) == 4 * 25 * 3 * 4


def test_a_fully_connected_layer_counts_its_weights() -> None:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    assert node_macs(node, specs(x=(1, 30), w=(7, 30), b=(7,), y=(1, 7))) == 210
    turned = helper.make_node("Gemm", ["x", "w"], ["y"], transA=1)
    assert node_macs(turned, specs(x=(30, 2), w=(30, 7), y=(2, 7))) == 420


def test_a_batched_product_counts_every_batch() -> None:
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    assert node_macs(node, specs(a=(2, 3, 4, 5), b=(2, 3, 5, 6), y=(2, 3, 4, 6))) == 2 * 3 * 4 * 5 * 6


def test_a_quantised_convolution_counts_like_its_plain_one() -> None:
    node = helper.make_node("QLinearConv", ["x", "s", "z", "w", "s", "z", "s", "z"], ["y"])
    assert node_macs(node, specs(x=(1, 4, 6, 6), w=(8, 4, 3, 3), y=(1, 8, 4, 4), s=(), z=())) == 8 * 16 * 36


def test_a_recurrent_layer_counts_both_its_weights_at_every_step() -> None:
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=3)
    assert node_macs(node, specs(x=(10, 2, 5), w=(1, 12, 5), r=(1, 12, 3), y=(10, 1, 2, 3))) == 20 * (60 + 36)


def test_operators_that_are_not_counted_or_have_no_known_shape_count_nothing() -> None:
    assert node_macs(helper.make_node("Relu", ["x"], ["y"]), specs(x=(1, 4), y=(1, 4))) == 0
    assert node_macs(helper.make_node("Conv", ["x", "w"], ["y"]), specs(x=(1, 4, 6, 6))) == 0
