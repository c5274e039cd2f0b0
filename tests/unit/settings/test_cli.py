"""The command: lazy nouns, one line per error, documented exit codes."""

import errno
import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

import click
import pytest

from twinsplit import __version__, cli, errors
from twinsplit.errors import TwinsplitError

ALL_ERRORS = sorted(
    (error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, TwinsplitError)),
    key=lambda error: error.__name__,
)


class _Point:
    """An entry point whose loading is told to the test."""

    value = "made.up:command"
    module = "made.up"

    def __init__(self, command: Any) -> None:
        self.command = command
        self.loads = 0

    def load(self) -> Any:
        self.loads += 1
        if isinstance(self.command, Exception):
            raise self.command
        return self.command


def _raising(error: BaseException) -> click.Command:
    @click.command()
    def noun() -> None:
        """Never shown in the list."""
        raise error

    return noun


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Any:
    def offer_one(command: Any, name: str = "device") -> _Point:
        point = _Point(command)
        monkeypatch.setattr(cli, "_nouns", lambda: {name: point})
        return point

    return offer_one


@pytest.mark.parametrize("error", ALL_ERRORS)
def test_an_error_is_one_line_and_its_exit_code(
    offer: Any, capsys: pytest.CaptureFixture[str], error: type[TwinsplitError]
) -> None:
    offer(_raising(error("the cause\nover two lines; the cure")))
    assert cli.run(["device"]) == error.exit_code
    assert capsys.readouterr() == ("", "twinsplit: the cause over two lines; the cure\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_a_storage_error_wherever_it_shows(
    offer: Any, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    offer(_raising(OSError(number, "No space left on device", "results.jsonl")))
    assert cli.run(["device"]) == errors.StorageError.exit_code
    assert capsys.readouterr().err.startswith("twinsplit: results.jsonl: No space left on device; ")


def test_any_other_error_of_the_system_is_a_defect_and_shows(offer: Any) -> None:
    offer(_raising(PermissionError(errno.EPERM, "not permitted")))
    with pytest.raises(PermissionError):
        cli.run(["device"])


def test_an_interrupt_ends_with_130(offer: Any) -> None:
    offer(_raising(KeyboardInterrupt()))
    assert cli.run(["device"]) == 130


def test_a_command_may_give_its_exit_code(offer: Any) -> None:
    @click.command()
    def noun() -> int:
        return 5

    offer(noun)
    assert cli.run(["device"]) == 5


@pytest.mark.parametrize("arguments", [["no-such-noun"], ["--no-such-option"], ["config", "no-such-verb"]])
def test_a_wrong_command_line_ends_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert cli.run(arguments) == 2
    assert "No such" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_lists_nouns_without_importing_them(offer: Any, capsys: pytest.CaptureFixture[str], word: str) -> None:
    point = offer(_raising(ValueError()))
    assert cli.run([word]) == 0
    assert "Run a device" in capsys.readouterr().out
    assert point.loads == 0


def test_every_noun_of_the_distribution_has_a_summary() -> None:
    assert {*cli._nouns(), "config"} == set(cli._SUMMARIES)


@pytest.mark.parametrize("moment", ["loaded", "run"])
@pytest.mark.parametrize(
    ("package", "cure"),
    [
        ("onnxruntime", "pip install 'twinsplit[device-cpu]', or the ONNX Runtime wheel made for this machine"),
        ("heavy.part", "pip install 'twinsplit[device-cpu]'"),
    ],
)
def test_a_missing_package_is_named_with_the_extra(
    offer: Any, capsys: pytest.CaptureFixture[str], moment: str, package: str, cure: str
) -> None:
    missing = ModuleNotFoundError(f"No module named {package!r}", name=package)
    offer(missing if moment == "loaded" else _raising(missing))
    assert cli.run(["device"]) == 2
    assert capsys.readouterr().err == (
        f"twinsplit: `twinsplit device` needs the package {package}, which is not installed; {cure}\n"
    )


def test_a_missing_module_of_our_own_is_a_defect_and_shows(offer: Any) -> None:
    offer(_raising(ModuleNotFoundError("No module named 'made.part'", name="made.part")))
    with pytest.raises(ModuleNotFoundError):
        cli.run(["device"])


def test_a_noun_that_the_wheel_leaves_out_is_named(offer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    offer(ModuleNotFoundError("No module named 'made'", name="made"))
    assert cli.run(["device"]) == 2
    assert "checkout" in capsys.readouterr().err


def test_an_entry_point_that_is_no_command_is_named(offer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    offer("not a command")
    assert cli.run(["device"]) == 2
    assert "made.up:command" in capsys.readouterr().err


def test_main_runs_a_service_with_its_noun_and_verb(offer: Any) -> None:
    seen: list[str] = []

    @click.group()
    def device() -> None:
        pass

    @device.command()
    @click.option("--id")
    def run(id: str) -> None:
        seen.append(id)

    offer(device)
    with pytest.raises(SystemExit) as ended:
        cli.main(["device", "run"], ["--id", "d1"])
    assert (ended.value.code, seen) == (0, ["d1"])


def test_nouns_come_from_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint(name="thing", value="a:b", group=cli.COMMAND_GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [point] if group == cli.COMMAND_GROUP else [])
    assert cli._nouns() == {"thing": point}


@pytest.mark.slow
def test_help_imports_neither_a_service_nor_a_heavy_library() -> None:
    code = (
        "import sys, twinsplit.cli as cli; cli.run(['--help']);"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'numpy', 'grpc', 'onnxruntime', 'pydantic', 'device',"
        " 'edge', 'twin_service', 'benchmarks', 'torch', 'onnx'}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
