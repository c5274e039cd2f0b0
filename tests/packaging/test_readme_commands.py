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
_FENCED = re.compile(r"^```.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(
    r"(?:^ {4,}(?:\$ )?|`)((?:\.venv/bin/)?(?:python -m (?:device|edge|twin_service)|twinsplit) [^`\n]+)", re.MULTILINE
)


def _commands() -> list[tuple[str, str]]:
    """Every command in a block of code or between backticks, with the document it stands in."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8").replace("\\\n", " ")
        text = _FENCED.sub(lambda block: re.sub("^", "    ", block[1], flags=re.MULTILINE), text)
        found += [(document.name, " ".join(command.split())) for command in _COMMAND.findall(text)]
    return sorted(set(found))


def _words(command: str) -> list[str]:
    """Words of the command line after `twinsplit`."""
    words = shlex.split(command.split(" | ")[0])
    if words[1] == "-m":
        return [*MODULES[words[2]], *words[3:]]
    return words[1:]


@pytest.mark.parametrize(("document", "command"), _commands())
def test_commands_in_the_documents_exist(document: str, command: str) -> None:
    words = _words(command)
    found: click.Command = twinsplit
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        alternatives = words.pop(0).split("|")  # `twinsplit model split|check`
        context = click.Context(found)
        commands = [found.get_command(context, name) for name in alternatives]
        assert None not in commands, f"{document}: {command}"
        found = commands[0] or found
    if isinstance(found, click.Group):
        assert not words, f"{document}: {command}"
    known = {option for parameter in found.params for option in parameter.opts} | {"--help", "--version"}
    flags = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert flags <= known, f"{document}: {command}"


def test_the_documents_hold_commands() -> None:
    assert len(_commands()) > 8
