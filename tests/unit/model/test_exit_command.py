import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.unit.model.conftest import CLASSES, encoded, picture
from twinsplit.errors import ConfigurationError, SettingsError
from twinsplit.model.cli import model
from twinsplit.model.manifest import read_manifest

PREPROCESSING = '{"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}'
QUICK = ["--hidden", 16, "--views", 1, "--epochs", 1, "--threads", 1]


@pytest.fixture
def run() -> Callable[..., Result]:
    """Runs ``twinsplit model``; errors of ours are left to the test."""

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(model, [str(a) for a in arguments], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result

    return invoke


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(200):
        (folder / f"{number:03}.png").write_bytes(encoded(picture(number, 20, 30)))
    return folder


def table(file: Path, *labels: object, count: int = 200) -> Path:
    """A table that gives frames these labels, in turn."""
    rows = [f"{number:03}.png,{labels[number % len(labels)]}" for number in range(count)]
    file.write_text("\n".join(["file,label", *rows]))
    return file


@pytest.mark.slow
def test_from_a_split_to_exits_to_a_check(
    run: Callable[..., Result], whole: Path, frames: Path, tmp_path: Path
) -> None:
    (tmp_path / "preprocess.json").write_text(PREPROCESSING)
    first, second = tmp_path / "net" / "1", tmp_path / "net" / "2"
    options = ["--preprocess", tmp_path / "preprocess.json", "--cut", "a1", "--cut", "a2", "--cut", "a3"]
    run("split", whole, "--out", first, *options, "--threads", 1)
    before = (first / "manifest.json").read_bytes()

    result = run("add-exits", first, "--frames", frames, "--seed", 7, *QUICK)

    assert f"wrote {second}; {first} is as it was" in result.output
    assert f"next: twinsplit model check {second}" in result.output
    assert "by agreement over 40 frames" in result.output
    assert "exit after cut 1: says what the whole network says on" in result.output
    assert (first / "manifest.json").read_bytes() == before
    manifest, _ = read_manifest(second)
    assert [e.after_segment for e in manifest.exits] == [1, 2]
    checked = run("check", second, "--whole", whole).output
    assert "manifest, 6 files and their digests: right" in checked
    assert "whole and segments agree on 5 inputs" in checked
    assert "P(right | bin)" in run("inspect", second).output
    # The manifest says how to make it again, to the byte.
    command = shlex.split(manifest.provenance["exits_command"])
    assert command[:3] == ["twinsplit", "model", "add-exits"]
    run(*command[2:], "--out", tmp_path / "again")
    assert read_manifest(tmp_path / "again")[0].exits == manifest.exits


@pytest.mark.slow
def test_labels_and_held_out_frames_may_lie_elsewhere(
    run: Callable[..., Result], folder: Path, frames: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for number in range(40):
        (other / f"{number:03}.png").write_bytes(encoded(picture(500 + number)))
    table(other / "labels.csv", *CLASSES, count=40)
    held_out = ["--calibration-frames", other, "--test-frames", other]
    labels = table(tmp_path / "labels.csv", *range(5))
    out = tmp_path / "out"
    options = ["--out", out, "--replace", "--after", "a2", "--max-frames", 120, "--labels", labels]
    result = run("add-exits", folder, "--frames", frames, *options, *held_out, *QUICK)
    manifest, _ = read_manifest(out)
    assert manifest.provenance["exits_frames"] == "120 to train, 40 to calibrate, 40 to test"
    assert manifest.provenance["exits_taught_by"] == "the network's answers and labels"
    assert manifest.accuracy_basis == "labels"
    assert "exit after cut 2: right on" in result.output


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--after", "nowhere", "--replace"], "--after nowhere: .* 1 .a1., 2 .a2., 3 .a3."),
        (["--after", "a1"], "already; --replace"),
        ([], "after cut 1 and 2 already"),
        (["--max-frames", 100], "100 frames are too few: 180"),
        (["--labels", "classes.txt"], r"not a table of frames, .* `file,label`"),
        (["--labels", "zebra.csv"], "'zebra' is neither a class index nor a class name"),
        (["--labels", "seven.csv"], "'7' is neither a class index nor a class name"),
        (["--out", "."], "no model is overwritten"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    run: Callable[..., Result],
    folder: Path,
    frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: Sequence[object],
    match: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    table(tmp_path / "zebra.csv", "zebra")
    table(tmp_path / "seven.csv", 7)
    kept = sorted(tmp_path.iterdir())
    with pytest.raises(SettingsError, match=match):
        run("add-exits", folder, "--frames", frames, "--out", tmp_path / "out", *QUICK, *options)
    assert sorted(tmp_path.iterdir()) == kept


def test_help_teaches(run: Callable[..., Result]) -> None:
    output = run("add-exits", "--help").output
    for words in ("distillation", "70 % train, 15 %", "agreement with the whole", "--replace", "[default: 128"):
        assert words in output


@pytest.mark.parametrize("package", ["onnx", "torch"])
def test_packages_that_are_missing_are_named(
    run: Callable[..., Result], folder: Path, frames: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=rf"needs {package}; pip install 'twinsplit\[model\]'"):
        run("add-exits", folder, "--frames", frames)
