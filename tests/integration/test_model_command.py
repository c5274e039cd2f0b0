"""The command as a person types it: exit codes, one line for an error, and nothing left behind."""

import shlex
from pathlib import Path

import pytest

from tests.onnx_networks import parsed, saved, small_classifier
from twinsplit.cli import run

pytestmark = pytest.mark.slow


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return saved(small_classifier(), tmp_path / "small.onnx")


def test_split_check_inspect_profile_in_a_row(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "my model"
    assert run(["model", "split", str(whole), "--out", str(out)]) == 0
    following = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("next: twinsplit "))
    # The command that split prints runs as it stands.
    assert run(shlex.split(following.removeprefix("next: twinsplit "))) == 0
    assert run(["model", "inspect", str(out), "--png", str(tmp_path / "cuts.png")]) == 0
    assert run(["model", "profile", str(out), "--repeats", "2"]) == 0
    assert (tmp_path / "cuts.png").read_bytes().startswith(b"\x89PNG")
    assert "whole:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["split", "WHOLE", "--out", "OUT", "--cut", "r2"], 3, "'a1' would have to be sent along"),
        (["split", "TEXT", "--out", "OUT"], 3, "not an ONNX model"),
        (["split", "TWO", "--out", "OUT"], 3, "2 inputs (x, mask)"),
        (["split", "WHOLE", "--out", "OUT", "--frames", "OUT"], 4, "no such folder"),
        (["split", "WHOLE", "--out", "OUT", "--shape", "image=2"], 3, "contradicts the file"),
        (["split", "WHOLE", "--out", "."], 2, "--force"),
        (["check", "OUT"], 3, "manifest.json"),
        (["profile", "OUT", "--provider", "cuda"], 3, "manifest.json"),
        (["split", "WHOLE"], 2, "--out"),
        (["split", "WHOLE", "--out", "OUT", "--name", "a/b c"], 2, "is no name"),
        (["split", "WHOLE", "--out", "OUT", "--model-version", "-1"], 2, "--model-version"),
        (["split", "WHOLE", "--out", "OUT", "--tolerance", "nan"], 2, "--tolerance"),
        (["split", "WHOLE", "--out", "OUT", "--max-frames", "0"], 2, "--max-frames"),
        (["split", "WHOLE", "--out", "OUT", "--cut", ""], 2, "inspect lists them"),
        (["split", "WHOLE", "--out", "OUT", "--calibration-frames", "frames"], 2, "is for exits"),
        (["split", "NOTHING", "--out", "OUT"], 3, "no output"),
        (["check", "OUT", "--runs", "0"], 2, "--runs"),
        (["profile", "OUT", "--repeats", "0"], 2, "--repeats"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.onnx").write_text("no network")
    two = parsed("g (float[1,4] x, float[1,4] mask) => (float[1,4] y) { a = Relu(x) y = Mul(a, mask) }")
    saved(two, tmp_path / "two.onnx")
    nothing = parsed("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }")
    del nothing.graph.output[:]
    saved(nothing, tmp_path / "nothing.onnx")
    places = {"NOTHING": "nothing.onnx", "WHOLE": str(whole), "TEXT": "text.onnx", "TWO": "two.onnx", "OUT": "out"}
    before = sorted(p.name for p in tmp_path.iterdir())
    assert run(["model", *(places.get(a, a) for a in arguments)]) == code
    error = capsys.readouterr().err
    assert words in error
    assert error.strip().splitlines()[-1].startswith(("twinsplit: ", "Error: "))
    assert "Traceback" not in error
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_picture_that_is_none_is_named(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, frames = tmp_path / "out", tmp_path / "frames"
    assert run(["model", "split", str(whole), "--out", str(out)]) == 0
    frames.mkdir()
    (frames / "broken.npy").write_bytes(b"none")
    assert run(["model", "check", str(out), "--frames", str(frames)]) == 4
    assert "broken.npy: " in capsys.readouterr().err


def test_an_export_is_not_written_among_the_models_own_files(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["model", "split", str(whole), "--out", str(out)]) == 0
    for place in (out, out / "below"):
        assert run(["model", "export", str(out), "--to", "triton", str(place)]) == 2
        assert "in the model folder itself" in capsys.readouterr().err
    assert run(["model", "export", str(out), "--to", "tails", str(tmp_path / "tails"), "--instances", "3"]) == 2
    assert "--instances: not for --to tails" in capsys.readouterr().err
    assert run(["model", "export", str(out), "--to", "triton", str(tmp_path / "one"), "--max-batch", "8"]) == 0
    assert "its segments take no more" in capsys.readouterr().out
