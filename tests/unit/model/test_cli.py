import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tests.onnx_networks import parsed, saved, small_classifier, small_exit
from tests.unit.model.conftest import CLASSES, encoded, picture
from twinsplit.errors import ConfigurationError, ModelError, SettingsError, TwinsplitError
from twinsplit.model.cli import model
from twinsplit.model.manifest import DTypeName, TensorSpec, read_manifest
from twinsplit.model.preprocessing import levels_left
from twinsplit.model.profile import load_profile
from twinsplit.model.split_options import preprocessing_of


@pytest.fixture
def run() -> Callable[..., Result]:
    """Runs ``twinsplit model``; errors of ours are left to the test."""

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(model, [str(a) for a in arguments], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result

    return invoke


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Twenty frames with labels by name, and one that is broken."""
    folder = tmp_path / "frames"
    folder.mkdir()
    rows = ["file,label"]
    for number in range(20):
        (folder / f"{number:02}.png").write_bytes(encoded(picture(number, 20, 30)))
        rows.append(f"{number:02}.png,{CLASSES[number % 5]}")
    (folder / "broken.png").write_bytes(b"broken")
    (folder / "labels.csv").write_text("\n".join([*rows, "broken.png,0"]))
    return folder


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    file = tmp_path / "classes.txt"
    file.write_text("\n".join(CLASSES))
    return file


def test_split_prints_what_it_did_and_the_next_command(run: Callable[..., Result], whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("split", whole, "--out", out, "--threads", 1)
    assert f"next: twinsplit model check {out} --whole {whole}" in result.output
    assert "only float32 is offered" in result.output
    assert run(*f"check {out} --whole {whole}".split()).output.endswith("agree on 5 inputs\n")


def test_split_with_frames_labels_and_exits(
    run: Callable[..., Result], whole: Path, frames: Path, classes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    exit_file = saved(small_exit(), tmp_path / "exit.onnx")
    settings = tmp_path / "preprocess.json"
    settings.write_text(json.dumps({"fit": "crop", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}))
    options = ["--frames", frames, "--labels", classes, "--preprocess", settings, "--threads", 1]
    result = run("split", whole, "--out", out, "--cut", "a1", "--cut", "a2", "--exit", f"a1={exit_file}", *options)
    manifest, _ = read_manifest(out)
    assert manifest.accuracy_basis == "labels"
    assert manifest.classes == CLASSES
    assert manifest.preprocessing.fit == "crop"
    assert manifest.preprocessing.mean == (0.5, 0.5, 0.5)
    assert len(manifest.exits) == 1
    # Half of the frames measure, the other half calibrates.
    assert int(manifest.provenance["accuracy_frames"]) in (10, 11)
    assert "frame left out: broken.png" in result.output or manifest.provenance["accuracy_frames"] == "10"
    assert "P(right | bin)" in result.output


def test_calibration_frames_may_lie_elsewhere(
    run: Callable[..., Result], whole: Path, frames: Path, classes: Path, tmp_path: Path
) -> None:
    exit_file = saved(small_exit(), tmp_path / "exit.onnx")
    options = ["--frames", frames, "--calibration-frames", frames, "--labels", classes, "--preprocess", "imagenet"]
    run("split", whole, "--out", tmp_path / "out", "--cut", "a1", "--exit", f"a1={exit_file}", *options)
    manifest, _ = read_manifest(tmp_path / "out")
    assert manifest.provenance["accuracy_frames"] == "20"
    assert manifest.preprocessing.resize_to == round(16 * 256 / 224)


def test_a_toml_file_says_how_to_preprocess(run: Callable[..., Result], whole: Path, tmp_path: Path) -> None:
    settings = tmp_path / "p.toml"
    settings.write_text('colour = "bgr"\nscale = 1.0\n')
    run("split", whole, "--out", tmp_path / "out", "--preprocess", settings)
    manifest, _ = read_manifest(tmp_path / "out")
    assert (manifest.preprocessing.kind, manifest.preprocessing.colour) == ("image", "bgr")


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        (["--shape", "image"], SettingsError, "write it as INPUT=1,3,224,224"),
        (["--shape", "image=1,3,a,16"], SettingsError, "whole numbers"),
        (["--shape", "image=1,3,0,16"], SettingsError, "whole numbers"),
        (["--exit", "a1"], SettingsError, "write it as NAME=FILE"),
        (["--exit", "a1=x.onnx"], SettingsError, "--frames"),
        (["--preprocess", "nowhere.json"], SettingsError, "say imagenet, none or name a file"),
        (["--max-segments", "0"], SettingsError, "at least 1"),
        (["--labels", "nowhere.txt"], SettingsError, "No such file"),
    ],
)
def test_split_refuses_what_means_nothing(
    run: Callable[..., Result], whole: Path, tmp_path: Path, options: Sequence[str], kind: type[Exception], match: str
) -> None:
    with pytest.raises(kind, match=match):
        run("split", whole, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"colour": "pink"}', '{"hue": 1}', '{"std": [0, 0, 0]}'])
def test_preprocessing_that_means_nothing_is_refused(
    run: Callable[..., Result], whole: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(SettingsError, match=r"p\.json"):
        run("split", whole, "--out", tmp_path / "out", "--preprocess", tmp_path / "p.json")


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64"])
@pytest.mark.parametrize("choice", ["imagenet", '{"fit": "crop"}', '{"scale": 1, "std": [1.0, 1.0, 50.0]}'])
def test_an_input_of_whole_numbers_is_not_fed_a_handful_of_them(tmp_path: Path, dtype: DTypeName, choice: str) -> None:
    entry = TensorSpec(name="x", shape=(1, 3, 16, 16), dtype=dtype)
    if choice != "imagenet":
        (tmp_path / "p.json").write_text(choice)
        choice = str(tmp_path / "p.json")
    with pytest.raises(SettingsError, match=rf"the input is {dtype}, .* scale = 1\.0"):
        preprocessing_of(choice, entry)


@pytest.mark.parametrize(("dtype", "settings"), [("uint8", {"scale": 1}), ("int8", {"scale": 1, "mean": [128]})])
def test_an_input_of_whole_numbers_may_be_fed_pixels(tmp_path: Path, dtype: DTypeName, settings: object) -> None:
    (tmp_path / "p.json").write_text(json.dumps(settings))
    entry = TensorSpec(name="x", shape=(1, 16, 16, 3), dtype=dtype)
    preprocessing = preprocessing_of(str(tmp_path / "p.json"), entry)
    assert (preprocessing.layout, levels_left(preprocessing, entry)) == ("nhwc", 256)


def test_check_without_the_whole_network_says_so(run: Callable[..., Result], folder: Path) -> None:
    output = run("check", folder).output
    assert "files and their digests: right" in output
    assert "name --whole to compare" in output


def test_check_takes_given_frames_too(run: Callable[..., Result], folder: Path, whole: Path, frames: Path) -> None:
    (frames / "broken.png").unlink()
    output = run("check", folder, "--whole", whole, "--frames", frames, "--max-frames", 3, "--runs", 1).output
    assert "whole and segments agree on 4 inputs" in output
    assert "same label" in output


def test_check_of_segments_that_differ_fails(run: Callable[..., Result], whole: Path, tmp_path: Path) -> None:
    run("split", whole, "--out", tmp_path / "out")
    manifest, data = read_manifest(tmp_path / "out")
    other = saved(small_classifier(seed=5), tmp_path / "small.onnx")
    with pytest.raises(ModelError, match="not the file"):
        run("check", tmp_path / "out", "--whole", other)
    # With its digest forged the outputs tell.
    forged = data.replace(manifest.provenance["source_sha256"].encode(), b"0" * 64)
    document = json.loads(forged)
    del document["provenance"]["source_sha256"]
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(ModelError, match="5 of 5 inputs give other outputs"):
        run("check", tmp_path / "out", "--whole", other)


def test_check_of_a_damaged_folder_fails(run: Callable[..., Result], copied: Callable[[], Path]) -> None:
    target = copied()
    (target / "exit-1.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match=r"exit-1\.onnx: its digest differs"):
        run("check", target)


@pytest.mark.slow
def test_inspect_shows_a_model_folder(run: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    png = tmp_path / "cuts.png"
    output = run("inspect", folder, "--png", png).output
    for word in ("small version 1", "cut 2", "1x8x8x8", "uint4", "jpeg75", "exit", "by labels over 40 frames"):
        assert word in output
    with Image.open(png) as drawn:
        assert drawn.size[0] > 500
        assert len(drawn.convert("RGB").getcolors(1_000_000)) > 20


@pytest.mark.slow
def test_inspect_lists_the_cuts_that_a_file_could_have(run: Callable[..., Result], whole: Path, tmp_path: Path) -> None:
    output = run("inspect", whole, "--max-segments", 3, "--png", tmp_path / "cuts.png").output
    lines = {line.removeprefix("*").split()[1]: line for line in output.splitlines() if "float32" in line}
    assert set(lines) == {"image", "c1", "a1", "a2", "c3", "r3", "a3", "flat", "logits"}
    assert sum(line.startswith("*") for line in lines.values()) <= 2
    assert (tmp_path / "cuts.png").stat().st_size > 1000


def test_inspect_speaks_json(run: Callable[..., Result], folder: Path) -> None:
    document = json.loads(run("inspect", folder, "--json").output)
    assert [c["name"] for c in document["cuts"]] == ["image", "a1", "a2", "a3", "logits"]
    assert document["cuts"][1]["size_bytes"] == 2048
    assert document["cuts"][-1]["compute_share"] == 1.0


def test_inspect_names_what_it_assumed(run: Callable[..., Result], tmp_path: Path) -> None:
    file = saved(parsed("g (float[N,4] x) => (float[N,4] y) { a = Relu(x) y = Neg(a) }"), tmp_path / "n.onnx")
    assert "note: input 'x' has symbolic dimensions (?,4): tried 1,4" in run("inspect", file).output


def test_profile_prints_and_keeps_the_times(run: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    output = run("profile", folder, "--repeats", 3, "--out", tmp_path / "p.json").output
    for word in ("segment 3:", "whole:", "exit 1:", "cut 1 as float32", "CPUExecutionProvider, 1 threads"):
        assert word in output
    assert len(load_profile(tmp_path / "p.json").segment_s) == 4


def test_commands_that_need_onnx_say_so_where_it_is_missing(
    run: Callable[..., Result], whole: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'twinsplit\[model\]'"):
        run("split", whole, "--out", tmp_path / "out")
    with pytest.raises(ConfigurationError, match=r"pip install 'twinsplit\[model\]'"):
        run("inspect", whole)
    assert "whole:" in run("profile", folder, "--repeats", 1).output
    assert "segments run on" in run("check", folder).output


@pytest.mark.slow
def test_a_model_folder_is_shown_without_onnx_and_onnx_runtime(folder: Path) -> None:
    code = (
        "import sys, twinsplit.cli as cli\n"
        "sys.modules.update(dict.fromkeys(('onnx', 'onnxruntime', 'torch', 'matplotlib')))\n"
        f"sys.exit(cli.run(['model', 'inspect', {str(folder)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "small version 1: classification" in done.stdout


def test_errors_are_ours(run: Callable[..., Result], tmp_path: Path) -> None:
    for command in (
        ["check", tmp_path],
        ["inspect", tmp_path],
        ["profile", tmp_path],
        ["inspect", tmp_path / "x.onnx"],
    ):
        with pytest.raises(TwinsplitError):
            run(*command)
