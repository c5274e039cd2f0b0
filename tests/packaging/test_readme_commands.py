"""Every twinsplit command in the documents is one that the command line takes."""

import re
import shlex
from pathlib import Path

import click
import pytest

from twinsplit.cli import twinsplit

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MODULES = {"device": ["device", "run"], "edge": ["edge", "serve"], "twin_service": ["twin", "serve"]}
_PROGRAM = r"((?:\.venv/bin/)?(?:python -m (?:device|edge|twin_service)|twinsplit) [^`\n]+)"
_FENCED = re.compile(r"^```(.*?)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_IN_BLOCK = re.compile(r"^ {4,}(?:\$ )?(?:[^`\n]+ \| )?" + _PROGRAM, re.MULTILINE)
_INLINE = re.compile("`" + _PROGRAM)


def _commands() -> list[tuple[str, str, bool]]:
    """Document and command; whether it stands in a block, to be typed as it is, or is only mentioned."""
    found = set()
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8").replace("\\\n", " ")
        text = _FENCED.sub(_indented, text)
        for pattern, is_block in ((_IN_BLOCK, True), (_INLINE, False)):
            found |= {(document.name, " ".join(line.split()), is_block) for line in pattern.findall(text)}
    return sorted(found)


def _indented(block: re.Match[str]) -> str:
    """A fenced block as an indented one; of a transcript only what is typed."""
    lines = block[2].splitlines()
    if block[1] == "console":
        lines = [line for line in lines if line.startswith("$ ")]
    return "".join(f"    {line}\n" for line in lines)


def _words(line: str) -> list[str]:
    """Words of the command line after `twinsplit`."""
    words = shlex.split(re.split(r" (?:[|#>&]|2>) ", f"{line} ")[0])
    if words[1] == "-m":
        return [*MODULES[words[2]], *words[3:]]
    return words[1:]


def _flags(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}


@pytest.mark.parametrize(("document", "line", "is_block"), _commands())
def test_commands_in_the_documents_exist(document: str, line: str, is_block: bool) -> None:
    words = _words(line)
    command: click.Command = twinsplit
    context = click.Context(command)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        alternatives = words.pop(0).split("|")  # `twinsplit model split|check`
        found = [command.get_command(context, name) for name in alternatives]
        assert found[0], f"{document}: {line}"
        assert None not in found, f"{document}: {line}"
        command = found[0]
        context = click.Context(command, parent=context)
    assert not (isinstance(command, click.Group) and words), f"{document}: {line}"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
    assert _flags(words) <= known, f"{document}: {line}"
    if is_block:
        values, rest, _ = command.make_parser(context).parse_args(words)
        arguments = [each for each in command.params if isinstance(each, click.Argument)]
        assert not rest, f"{document}: {line}"
        assert [each.name for each in arguments if each.required and not values.get(each.name or "")] == [], line


def test_the_documents_hold_commands() -> None:
    assert len(_commands()) > 8
