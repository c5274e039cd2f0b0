"""Guides of docs/deploy as what they make a reader do: blocks of shell, each for one machine, under a heading.

A block is a fenced ``sh`` block whose first line is ``# on the MACHINE``. A command that ends with
``# not tested: REASON`` is not run. Standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

GUIDES = Path(__file__).resolve().parents[2] / "docs/deploy"
_MACHINE = re.compile(r"# on the (.+)")
_UNTESTED = re.compile(r"\s+# not tested: (.+)")


@dataclass(frozen=True)
class Block:
    """Commands typed one after the other on one machine."""

    heading: str
    machine: str
    script: str
    """What the test runs."""
    untested: tuple[tuple[str, str], ...]
    """(Command, reason) of what it does not."""


def blocks_of(guide: Path) -> list[Block]:
    """All blocks of a guide, in order.

    Raises:
        ValueError: one that names no machine.
    """
    heading, found = "", []
    lines = iter(guide.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line == "```sh":
            body = list(iter(lambda: next(lines), "```"))
            found.append(_block(heading, body, guide))
    return found


def _block(heading: str, body: list[str], guide: Path) -> Block:
    machine = _MACHINE.fullmatch(body[0]) if body else None
    if machine is None:
        raise ValueError(f"{guide.name}, {heading!r}: the first line of a block says for which machine it is")
    run, untested = [], []
    for command in _commands(body[1:]):
        mark = _UNTESTED.search(command)
        if mark is None:
            run.append(command)
        else:
            untested.append((command[: mark.start()], mark[1]))
    return Block(heading, machine[1], "\n".join(run), tuple(untested))


def _commands(lines: list[str]) -> list[str]:
    """Lines joined where one goes on in the next."""
    text = "\n".join(lines)
    return re.split(r"(?<!\\)\n", text)
