from itertools import pairwise
from pathlib import Path

import pytest

from tests.onnx_networks import floats, he, parsed, saved, small_classifier
from twinsplit.errors import SettingsError, UnsupportedModelError
from twinsplit.model.build import CutSettings, chosen_cuts
from twinsplit.model.cuts import choose_cuts, find_cuts, resolve_cuts, segment_nodes, total_macs
from twinsplit.model.graph import Network, load_network


def network_of(folder: Path, text: str, **weights: object) -> Network:
    return load_network(saved(parsed(text, weights), folder / "n.onnx"))


def names(network: Network) -> list[str]:
    return [c.tensor.name for c in find_cuts(network)]


def test_a_chain_can_be_cut_everywhere(tmp_path: Path) -> None:
    text = "g (float[1,4] x) => (float[1,4] y) { a = Relu(x) b = Neg(a) c = Abs(b) y = Exp(c) }"
    assert names(network_of(tmp_path, text)) == ["a", "b", "c"]


def test_a_skip_forbids_the_cuts_that_it_spans(tmp_path: Path) -> None:
    text = "g (float[1,4] x) => (float[1,4] y) { a = Relu(x) b = Neg(a) c = Abs(b) d = Add(c, a) y = Exp(d) }"
    assert names(network_of(tmp_path, text)) == ["a", "d"]


def test_a_skip_from_the_input_leaves_only_what_comes_after_it(tmp_path: Path) -> None:
    text = "g (float[1,4] x) => (float[1,4] y) { a = Relu(x) b = Neg(a) c = Add(b, x) y = Exp(c) }"
    assert names(network_of(tmp_path, text)) == ["c"]


def test_branches_interleaved_in_the_file_hide_no_cut(tmp_path: Path) -> None:
    # The second branch of the late fork is listed before the first fork has joined.
    text = """g (float[1,4] x) => (float[1,4] y) {
        a = Relu(x)
        b1 = Neg(a)
        b2 = Abs(a)
        j = Add(b1, b2)
        c1 = Exp(j)
        c2 = Tanh(j)
        k = Mul(c1, c2)
        y = Neg(k)
    }"""
    model = parsed(text)
    order = ["a", "b2", "b1", "j", "c2", "c1", "k", "y"]
    by_output = {n.output[0]: n for n in model.graph.node}
    nodes = [by_output[name] for name in order]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert names(load_network(saved(model, tmp_path / "n.onnx"))) == ["a", "j", "k"]


def test_an_input_read_twice_by_one_node_is_alive_once(tmp_path: Path) -> None:
    text = "g (float[1,4] x) => (float[1,4] y) { a = Relu(x) b = Mul(a, a) y = Exp(b) }"
    assert names(network_of(tmp_path, text)) == ["a", "b"]


def test_weights_shared_across_a_cut_do_not_count_as_alive(tmp_path: Path) -> None:
    text = "g (float[1,4] x) => (float[1,4] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }"
    network = network_of(tmp_path, text, w=floats(4, 4))
    assert names(network) == ["a", "b"]


def test_constants_that_are_computed_do_not_count_as_alive(tmp_path: Path) -> None:
    text = """g (float[1,4] x) => (float[1,4] y) {
        t = Transpose(w)
        k = Constant<value_float = 2.0>()
        s = Mul(t, k)
        a = MatMul(x, s)
        b = Relu(a)
        y = MatMul(b, s)
    }"""
    network = network_of(tmp_path, text, w=floats(4, 4))
    assert names(network) == ["a", "b"]
    assert set(network.constant_nodes) == {"t", "k", "s"}


def test_the_shape_of_a_tensor_does_not_keep_it_alive(tmp_path: Path) -> None:
    # As exporters write `x.view(x.shape)` at the end of a network.
    text = """g (float[1,4,2] x) => (float[1,4,2] y) {
        s = Shape(x)
        a = Relu(x)
        f = Flatten(a)
        b = Neg(f)
        y = Reshape(b, s)
    }"""
    assert names(network_of(tmp_path, text)) == ["a", "f", "b"]


def test_an_output_nobody_reads_does_not_count(tmp_path: Path) -> None:
    text = "g (float[1,4] x) => (float[1,2] y) { a = Relu(x) v, i = TopK(a, k) y = Neg(v) }"
    network = network_of(tmp_path, text, k=floats(1).astype("int64") * 0 + 2)
    assert names(network) == ["a", "v"]


def test_branches_that_lead_nowhere_are_dropped(tmp_path: Path) -> None:
    text = "g (float[1,4] x) => (float[1,4] y) { a = Relu(x) z = Exp(x) b = Neg(a) zz = Abs(z) y = Exp(b) }"
    network = network_of(tmp_path, text)
    assert names(network) == ["a", "b"]
    assert [n.output[0] for n in network.nodes] == ["a", "b", "y"]


def test_every_node_lands_in_one_segment(tmp_path: Path) -> None:
    network = load_network(saved(small_classifier(), tmp_path / "n.onnx"))
    candidates = find_cuts(network)
    cuts = resolve_cuts(network, candidates, ["a2", "a1"])
    assert [c.tensor.name for c in cuts] == ["a1", "a2"]
    parts = segment_nodes(network, cuts)
    assert [[n.output[0] for n in part] for part in parts] == [
        ["c1", "a1"],
        ["c2", "r2", "a2"],
        ["c3", "r3", "a3", "flat", "logits"],
    ]
    macs = [c.macs_before for c in cuts]
    assert macs == [8 * 64 * 27, 8 * 64 * 27 + 8 * 64 * 72]
    assert total_macs(network) == macs[-1] + 12 * 64 * 36 + 60


def test_a_node_stands_for_its_tensor(tmp_path: Path) -> None:
    model = small_classifier()
    model.graph.node[1].name = "first/relu"
    network = load_network(saved(model, tmp_path / "n.onnx"))
    assert [c.tensor.name for c in resolve_cuts(network, find_cuts(network), ["first/relu"])] == ["a1"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("r2", "'a1' would have to be sent along"),
        ("nowhere", "there is no tensor or node"),
        ("image", "cut 0"),
        ("logits", "it is the output"),
        ("w1", "it is a constant"),
    ],
)
def test_a_cut_that_is_not_possible_is_refused_with_the_reason(tmp_path: Path, name: str, reason: str) -> None:
    network = load_network(saved(small_classifier(), tmp_path / "n.onnx"))
    with pytest.raises(UnsupportedModelError, match=reason):
        resolve_cuts(network, find_cuts(network), [name])


class TestChoice:
    @pytest.fixture
    def deep(self, tmp_path: Path) -> Network:
        """Ten equal convolutions with activations; the third and seventh are followed by a pooling."""
        lines, weights, last = [], {}, "x"
        for i in range(10):
            lines.append(f"c{i} = Conv<pads=[1,1,1,1]>({last}, w{i})")
            lines.append(f"r{i} = Relu(c{i})")
            last = f"r{i}"
            if i in (3, 7):
                lines.append(f"p{i} = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r{i})")
                last = f"p{i}"
            weights[f"w{i}"] = he(8, 8, 3, 3, seed=i)
        lines.append(f"y = Sigmoid({last})")
        text = "g (float[1,8,16,16] x) => (float[1,8,4,4] y) {" + "\n".join(lines) + "}"
        return network_of(tmp_path, text, **weights)

    def test_no_more_segments_than_asked_for(self, deep: Network) -> None:
        for limit in range(1, 9):
            assert len(choose_cuts(deep, find_cuts(deep), max_segments=limit)) <= limit - 1

    def test_a_convolution_keeps_its_activation_and_pooling(self, deep: Network) -> None:
        chosen = {c.tensor.name for c in choose_cuts(deep, find_cuts(deep))}
        assert not any(name.startswith("c") for name in chosen)
        assert not chosen & {"r3", "r7"}

    def test_compute_is_shared_out(self, deep: Network) -> None:
        chosen = choose_cuts(deep, find_cuts(deep), max_segments=4)
        marks = [0, *(c.macs_before for c in chosen), total_macs(deep)]
        assert max(b - a for a, b in pairwise(marks)) < 0.5 * total_macs(deep)

    def test_a_small_tensor_is_preferred_to_a_large_one_nearby(self, deep: Network) -> None:
        assert "p3" in {c.tensor.name for c in choose_cuts(deep, find_cuts(deep), max_segments=3)}

    def test_nothing_is_cut_before_the_first_or_after_the_last_operator_that_computes(self, deep: Network) -> None:
        chosen = choose_cuts(deep, find_cuts(deep), max_segments=50)
        assert all(0 < c.macs_before < total_macs(deep) for c in chosen)

    def test_a_forbidden_place_is_left_out(self, deep: Network) -> None:
        first = choose_cuts(deep, find_cuts(deep), max_segments=3)
        never = [c.tensor.name for c in first]
        second = choose_cuts(deep, find_cuts(deep), max_segments=3, never=never)
        assert second
        assert not {c.tensor.name for c in second} & set(never)

    def test_named_cuts_are_all_the_cuts(self, deep: Network) -> None:
        chosen = chosen_cuts(deep, find_cuts(deep), CutSettings(cuts=["c5"], max_segments=8))
        assert [c.tensor.name for c in chosen] == ["c5"]

    def test_more_segments_than_there_are_places_take_no_longer(self, deep: Network) -> None:
        candidates = find_cuts(deep)
        assert choose_cuts(deep, candidates, max_segments=10**12) == choose_cuts(deep, candidates, max_segments=50)

    def test_more_named_cuts_than_segments_are_refused(self, deep: Network) -> None:
        candidates, names = find_cuts(deep), [f"c{i}" for i in range(9)]
        with pytest.raises(SettingsError, match="make 10 segments, but --max-segments is 9"):
            chosen_cuts(deep, candidates, CutSettings(cuts=names, max_segments=9))
        assert len(chosen_cuts(deep, candidates, CutSettings(cuts=names, max_segments=10))) == 9
        assert len(chosen_cuts(deep, candidates, CutSettings(cuts=names))) == 9

    def test_asking_for_and_forbidding_the_same_cut_is_refused(self, deep: Network) -> None:
        with pytest.raises(SettingsError, match="forbidden"):
            chosen_cuts(deep, find_cuts(deep), CutSettings(cuts=["r5"], never=["r5"]))

    def test_no_segment_at_all_is_refused(self, deep: Network) -> None:
        with pytest.raises(SettingsError, match="at least 1"):
            chosen_cuts(deep, find_cuts(deep), CutSettings(max_segments=0))

    def test_a_network_that_counts_no_compute_is_cut_by_depth(self, tmp_path: Path) -> None:
        text = "g (float[1,4] x) => (float[1,4] y) { a = Relu(x) b = Neg(a) c = Abs(b) y = Exp(c) }"
        network = network_of(tmp_path, text)
        assert [c.tensor.name for c in choose_cuts(network, find_cuts(network), max_segments=2)] == ["b"]
