"""The networks that ship inside the onnx wheel, with random weights: split, and compared with the whole."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.onnx_networks import LIGHT_NAMES, centred, light
from twinsplit.model.build import build_model
from twinsplit.model.check import compare, open_whole, random_inputs
from twinsplit.model.cuts import choose_cuts, find_cuts
from twinsplit.model.frames import LabelledFrames
from twinsplit.model.graph import load_network
from twinsplit.model.manifest import Manifest, Preprocessing
from twinsplit.model.payload import decode_payload, encode_payload
from twinsplit.model.preprocessing import prepare
from twinsplit.model.runtime import SegmentRuntime

pytestmark = pytest.mark.slow

IMAGENET = Preprocessing(kind="image", fit="crop", resize_to=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
DECIDED = 0.08  # lead of the best class over the second, as a share of the largest output
# MACs of one picture of 224x224, in millions, as published for these networks or counted from their tables.
MEGA_MACS = {
    "bvlc_alexnet": 655,
    "vgg19": 19_632,
    "resnet50": 4_089,
    "densenet121": 2_834,
    "squeezenet": 349,
    "inception_v1": 1_432,
    "shufflenet": 125,
}


def camera_frame(seed: int, height: int = 720, width: int = 1280) -> bytes:
    """A JPEG of soft coloured shapes, different for every seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (int(rng.integers(2, 12)), int(rng.integers(2, 12)), 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.mark.parametrize("name", LIGHT_NAMES)
def test_a_network_of_the_wheel_is_split_into_parts_that_add_up(name: str, tmp_path: Path) -> None:
    whole = light(name, tmp_path)
    report = build_model(whole, tmp_path / "out", preprocessing=IMAGENET, threads=2)
    manifest = report.manifest
    assert manifest.task == "classification"
    assert 3 < manifest.segment_count <= 8
    assert sum(s.macs for s in manifest.segments) / 1e6 == pytest.approx(MEGA_MACS[name], rel=0.01)
    # No segment is more than half of the network: where it is cut, compute is shared out.
    assert max(s.macs for s in manifest.segments) < 0.5 * sum(s.macs for s in manifest.segments)
    (comparison,) = compare(
        open_whole(whole, manifest, threads=2),
        SegmentRuntime.load(tmp_path / "out", threads=2),
        random_inputs(manifest, 1, seed=5),
    )
    assert comparison.is_within, comparison
    assert comparison.is_same_label


def test_no_segment_of_a_residual_network_begins_with_a_skip(tmp_path: Path) -> None:
    network = load_network(light("resnet50", tmp_path))
    candidates = find_cuts(network)
    assert any(cut.starts_skip for cut in candidates)
    chosen = choose_cuts(network, candidates)
    assert [cut.tensor.shape for cut in chosen] == [(1, 256, 56, 56), (1, 512, 28, 28), (1, 1024, 14, 14)]
    assert not any(cut.starts_skip for cut in chosen), "the ends of the stages"


def test_dense_blocks_are_cut_between_and_never_inside(tmp_path: Path) -> None:
    network = load_network(light("densenet121", tmp_path))
    macs = [c.macs_before for c in find_cuts(network)]
    by_type = [n.op_type for n in network.nodes]
    assert by_type.count("Concat") == 58
    # Inside a layer of a dense block the features of all layers before are alive beside its own.
    assert all(a <= b for a, b in pairwise(macs))
    assert len(macs) < len(network.nodes) / 5


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of ResNet-50 whose answer depends on the picture."""
    root = tmp_path_factory.mktemp("resnet50")
    whole = light("resnet50", root, seed=3)
    pictures = [np.asarray(Image.open(io.BytesIO(camera_frame(100 + s, 224, 224)))) for s in range(6)]
    centred(
        whole, [(((p / 255 - IMAGENET.mean) / IMAGENET.std).transpose(2, 0, 1)[None]).astype("f4") for p in pictures]
    )
    frames = LabelledFrames([camera_frame(200), camera_frame(201)])
    build_model(whole, root / "out", preprocessing=IMAGENET, test=frames, threads=2)
    return root / "out"


def answer(runtime: SegmentRuntime, output: NDArray[np.float32] | None) -> tuple[int, NDArray[np.float32]]:
    assert output is not None
    index = runtime.answer(output).label_index
    assert index is not None
    return index, output


def position(manifest: Manifest, cut: int, name: str) -> int:
    return [r.name for r in manifest.cuts[cut].representations].index(name)


def test_a_large_picture_gets_the_same_answer_on_the_device_by_an_inner_cut_and_by_jpeg(resnet50: Path) -> None:
    device, edge = SegmentRuntime.load(resnet50, threads=2), SegmentRuntime.load(resnet50, threads=2)
    manifest = device.manifest
    labels = set()
    for seed in range(6):
        prepared = prepare(camera_frame(seed), manifest)
        label, exact = answer(device, device.run_tail(0, prepared.tensor))
        spread = float(np.abs(exact).max())
        second, first = np.sort(exact.reshape(-1))[-2:]
        if first - second < DECIDED * spread:
            continue  # two of 1,000 classes made up at random are as good as equal: any rounding may swap them
        labels.add(label)
        boundary = device.run_segment(1, device.run_segment(0, prepared.tensor))
        for cut, name, tensor, tolerance in (
            (2, "float32", boundary, 1e-4),
            (2, "float16", boundary, 0.02),
            (2, "uint8", boundary, DECIDED),
            (0, "png", prepared.tensor, 1e-4),
            (0, "jpeg90", prepared.tensor, DECIDED),
        ):
            sent = encode_payload(manifest, cut, position(manifest, cut, name), tensor, prepared.picture)
            received = decode_payload(manifest, cut, sent.header, bytes(sent.data))
            there, output = answer(edge, edge.run_tail(cut, received))
            assert there == label, name
            assert np.abs(output - exact).max() <= tolerance * spread, name
    # The answer is not the same whatever the picture shows.
    assert len(labels) >= 3
