from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.onnx_networks import floats, parsed, saved, small_classifier
from twinsplit.errors import ModelFileError, UnsupportedModelError
from twinsplit.model.cuts import find_cuts
from twinsplit.model.graph import load_network

CHAIN = "g (float[1,4] x) => (float[1,4] y) { a = Relu(x) b = MatMul(a, w) y = Neg(b) }"


def chain() -> onnx.ModelProto:
    return parsed(CHAIN, {"w": floats(4, 4)})


def test_an_old_file_that_lists_its_weights_as_inputs_is_read(tmp_path: Path) -> None:
    model = chain()
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 4]))
    network = load_network(saved(model, tmp_path / "n.onnx"))
    assert network.input.name == "x"
    assert network.ir_version >= 8
    assert [c.tensor.name for c in find_cuts(network)] == ["a", "b"]


def test_symbolic_dimensions_get_a_stated_default(tmp_path: Path) -> None:
    text = "g (float[N,C,H,W] x) => (float[N,C,H,W] y) { y = Relu(x) }"
    network = load_network(saved(parsed(text), tmp_path / "n.onnx"))
    assert network.input.shape == (1, 3, 224, 224)
    assert "tried 1,3,224,224" in network.notes[0]
    assert "--shape x=" in network.notes[0]


@pytest.mark.parametrize(
    ("declared", "tried"),
    [("N,3,32,32", (1, 3, 32, 32)), ("N,H,W,3", (1, 224, 224, 3)), ("N,T", (1, 128)), ("1,T,16", (1, 128, 16))],
)
def test_defaults_fit_the_kind_of_input(tmp_path: Path, declared: str, tried: tuple[int, ...]) -> None:
    text = f"g (float[{declared}] x) => (float[{declared}] y) {{ y = Relu(x) }}"
    assert load_network(saved(parsed(text), tmp_path / "n.onnx")).input.shape == tried


def test_a_shape_given_takes_the_place_of_symbols(tmp_path: Path) -> None:
    text = "g (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }"
    network = load_network(saved(parsed(text), tmp_path / "n.onnx"), shapes={"x": (1, 3, 64, 48)})
    assert network.output.shape == (1, 3, 64, 48)
    assert not network.notes


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"x": (1, 5)}, "contradicts the file"),
        ({"x": (1, 4, 1)}, "contradicts"),
        ({"z": (1, 4)}, "the input is called 'x'"),
    ],
)
def test_a_shape_that_contradicts_the_file_is_refused(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], reason: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        load_network(saved(chain(), tmp_path / "n.onnx"), shapes=shapes)


def test_a_default_that_does_not_fit_the_weights_is_refused_with_the_cure(tmp_path: Path) -> None:
    text = "g (float[N,T] x) => (float[N,4] y) { y = MatMul(x, w) }"
    path = saved(parsed(text, {"w": floats(7, 4)}), tmp_path / "n.onnx")
    with pytest.raises(UnsupportedModelError, match="--shape"):
        load_network(path)
    assert load_network(path, shapes={"x": (1, 7)}).output.shape == (1, 4)


def test_an_input_without_any_shape_needs_one(tmp_path: Path) -> None:
    model = chain()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    path = saved(model, tmp_path / "n.onnx")
    with pytest.raises(UnsupportedModelError, match="has no shape; give one with --shape x="):
        load_network(path)
    assert load_network(path, shapes={"x": (1, 4)}).output.shape == (1, 4)


def test_several_outputs_are_refused_until_one_is_named(tmp_path: Path) -> None:
    text = "g (float[1,4] x) => (float[1,4] y, float[1,4] z) { a = Relu(x) y = Neg(a) z = Exp(a) }"
    path = saved(parsed(text), tmp_path / "n.onnx")
    with pytest.raises(UnsupportedModelError, match=r"2 outputs \(y, z\).*--output"):
        load_network(path)
    network = load_network(path, output="z")
    assert [n.output[0] for n in network.nodes] == ["a", "z"]
    assert "left out y" in network.notes[0]
    with pytest.raises(UnsupportedModelError, match="there is no output 'q'; the outputs are y, z"):
        load_network(path, output="q")


def test_two_inputs_are_refused_by_name(tmp_path: Path) -> None:
    text = "g (float[1,4] x, float[1,4] mask) => (float[1,4] y) { a = Relu(x) y = Mul(a, mask) }"
    with pytest.raises(UnsupportedModelError, match=r"2 inputs \(x, mask\)"):
        load_network(saved(parsed(text), tmp_path / "n.onnx"))


def test_a_second_input_that_the_output_does_not_need_is_left_out(tmp_path: Path) -> None:
    text = "g (float[1,4] x, float[1,2] info) => (float[1,4] y) { a = Relu(x) z = Exp(info) y = Neg(a) }"
    network = load_network(saved(parsed(text), tmp_path / "n.onnx"))
    assert network.input.name == "x"
    assert network.notes == ("left out unused inputs: info",)


def test_a_second_input_with_a_default_keeps_it(tmp_path: Path) -> None:
    text = "g (float[1,4] x, float[1,4] mask) => (float[1,4] y) { a = Relu(x) y = Mul(a, mask) }"
    network = load_network(saved(parsed(text, {"mask": floats(1, 4)}), tmp_path / "n.onnx"))
    assert network.input.name == "x"


@pytest.mark.parametrize("body", ["y = Relu(w)", "k = Shape(x) y = ConstantOfShape(k)"])
def test_an_output_that_does_not_depend_on_the_input_is_refused(tmp_path: Path, body: str) -> None:
    text = f"g (float[1,4] x) => (float[1,4] y) {{ {body} }}"
    with pytest.raises(UnsupportedModelError, match="does not depend on any input"):
        load_network(saved(parsed(text, {"w": floats(1, 4)}), tmp_path / "n.onnx"))


def test_an_output_whose_shape_depends_on_the_data_is_refused(tmp_path: Path) -> None:
    text = "g (float[1,4] x) => (int64[2,N] y) { a = Relu(x) y = NonZero(a) }"
    with pytest.raises(UnsupportedModelError, match="depends on the data"):
        load_network(saved(parsed(text), tmp_path / "n.onnx"))


def test_an_input_of_text_is_refused(tmp_path: Path) -> None:
    text = "g (string[1,4] x) => (string[1,4] y) { y = Identity(x) }"
    with pytest.raises(UnsupportedModelError, match="no tensor of float32"):
        load_network(saved(parsed(text), tmp_path / "n.onnx"))


def test_integers_halves_and_doubles_pass(tmp_path: Path) -> None:
    for kind, dtype in (("int64", "int64"), ("float16", "float16"), ("double", "float64"), ("uint8", "uint8")):
        text = f"g ({kind}[1,4] x) => ({kind}[1,4] y) {{ a = Add(x, x) y = Mul(a, x) }}"
        assert load_network(saved(parsed(text), tmp_path / "n.onnx")).output.dtype == dtype


def test_operators_that_shape_inference_does_not_know_are_run_to_see(tmp_path: Path) -> None:
    text = """g (float[1,4] x) => (float[1,4] y) {
        a = Relu(x)
        b = com.microsoft.FastGelu(a)
        y = Neg(b)
    }"""
    network = load_network(saved(parsed(text), tmp_path / "n.onnx"))
    assert network.specs["b"].shape == (1, 4)
    assert [c.tensor.name for c in find_cuts(network)] == ["a", "b"]


def test_bodies_of_branches_keep_what_they_read_alive(tmp_path: Path) -> None:
    then = helper.make_graph([helper.make_node("Add", ["a", "b"], ["t"])], "then", [], [onnx.ValueInfoProto(name="t")])
    otherwise = helper.make_graph(
        [helper.make_node("Sub", ["b", "c"], ["e"])], "else", [], [onnx.ValueInfoProto(name="e")]
    )
    model = parsed(
        """g (float[1,4] x) => (float[1,4] y) {
            a = Relu(x) b = Neg(a) s = ReduceSum<keepdims=0>(b) k = Cast<to=9>(s) y = Exp(b)
        }""",
        {"c": floats(1, 4)},
    )
    model.graph.node.pop()
    model.graph.node.append(helper.make_node("If", ["k"], ["z"], then_branch=then, else_branch=otherwise))
    model.graph.node.append(helper.make_node("Exp", ["z"], ["y"]))
    network = load_network(saved(model, tmp_path / "n.onnx"))
    assert [c.tensor.name for c in find_cuts(network)] == ["a", "z"]


def test_functions_inside_the_file_are_inlined(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[1,4] x) => (float[1,4] y) { a = Relu(x) b = local.twice(a) y = Neg(b) }
        <domain: "local", opset_import: ["" : 17]> twice (u) => (v) { w = Add(u, u) v = Abs(w) }
    """)
    network = load_network(saved(model, tmp_path / "n.onnx"))
    assert [n.op_type for n in network.nodes] == ["Relu", "Add", "Abs", "Neg"]


def test_nodes_in_a_wrong_order_are_sorted_and_loops_refused(tmp_path: Path) -> None:
    model = chain()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert [n.output[0] for n in load_network(saved(model, tmp_path / "n.onnx")).nodes] == ["a", "b", "y"]
    model.graph.node[-1].input[0] = "b"
    with pytest.raises(UnsupportedModelError, match="loop"):
        load_network(saved(model, tmp_path / "n.onnx"))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x07"])
def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "n.onnx"
    path.write_bytes(content)
    with pytest.raises(UnsupportedModelError, match="not an ONNX model"):
        load_network(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="name an ONNX file"):
        load_network(tmp_path / "n.onnx")


def test_sparse_weights_are_refused(tmp_path: Path) -> None:
    model = chain()
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    with pytest.raises(UnsupportedModelError, match="sparse"):
        load_network(saved(model, tmp_path / "n.onnx"))


class TestExternalData:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        model = small_classifier()
        path = tmp_path / "n.onnx"
        onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        return path

    def test_small_tensors_are_read_at_once(self, path: Path) -> None:
        network = load_network(path)
        assert all(t.data_location != TensorProto.EXTERNAL for t in network.initializers.values())

    def test_large_ones_stay_where_they_are(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("twinsplit.model.graph.INLINE_BYTES", 500)
        network = load_network(path)
        assert {t.name for t in network.initializers.values() if t.data_location == TensorProto.EXTERNAL} == {
            "w1",
            "w2",
            "w3",
        }

    def test_missing_data_is_named(self, path: Path) -> None:
        (path.parent / "weights.bin").unlink()
        with pytest.raises(ModelFileError, match=r"weights\.bin: external data of 'w1' is missing"):
            load_network(path)

    def test_data_that_is_too_short_is_named(self, path: Path) -> None:
        (path.parent / "weights.bin").write_bytes(b"short")
        with pytest.raises(ModelFileError, match=r"weights\.bin: external data of"):
            load_network(path)

    def test_links_are_followed_as_the_cache_of_hugging_face_has_them(self, path: Path, tmp_path: Path) -> None:
        blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
        blobs.mkdir()
        snapshot.mkdir(parents=True)
        for file in (path, path.parent / "weights.bin"):
            file.rename(blobs / f"of-{file.name}")
            (snapshot / file.name).symlink_to(f"../../blobs/of-{file.name}")
        network = load_network(snapshot / path.name)
        assert all(t.data_location != TensorProto.EXTERNAL for t in network.initializers.values())

    def test_a_link_that_leads_elsewhere_than_the_file_itself_is_not_followed(
        self, path: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        data = path.parent / "weights.bin"
        data.rename(elsewhere / "weights.bin")
        data.symlink_to(elsewhere / "weights.bin")
        with pytest.raises(UnsupportedModelError, match=r"outside of the ONNX file's folder: 'weights\.bin' is a link"):
            load_network(path)

    @pytest.mark.parametrize("location", ["../weights.bin", "sub/../weights.bin", "/etc/passwd", ""])
    def test_data_outside_of_the_folder_is_never_read(self, path: Path, location: str) -> None:
        model = onnx.load(path, load_external_data=False)
        for entry in model.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = location
        with pytest.raises(UnsupportedModelError, match="outside of the ONNX file's folder"):
            load_network(saved(model, path))
