"""Commands that documents tell a reader to type, and a desk at which a test types them as they stand.

A command stands in a block: fenced as ``sh``, or any block that begins with a program known here; where lines begin
with ``$`` only those are commands. A line that ends with a backslash or a pipe goes on in the next one.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.transcripts import Shell

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w*)\n((?:(?!```).*\n)*)```|((?:^ {4}.*\n)+)", re.MULTILINE)
_PROGRAM = re.compile(r"(?:twinsplit|python|pip|make|docker|curl|scp|sudo|export|echo|promtool|tritonserver|grpcurl) ")
_REMARK = re.compile(r"\s+# .*$", re.MULTILINE)
_PATIENCE_S = 90.0
_LOOKING = (
    "twinsplit device status",
    "twinsplit twin list",
    "twinsplit twin tune",
    "twinsplit twin weights",
    "twinsplit top",
    "curl",
)
"""Typed again until the services are so far."""


def commands_of(text: str) -> list[str]:
    """All commands of a document, in order, without remarks."""
    found = []
    for language, fenced, indented in _BLOCK.findall(text):
        block = fenced or re.sub(r"^ {4}", "", indented, flags=re.MULTILINE)
        if "\n$ " in f"\n{block}":
            block = "".join(f"{line[2:]}\n" for line in block.splitlines() if line.startswith("$ "))
        if language == "sh" or (language in ("", "console") and _PROGRAM.match(block)):
            lines = re.sub(r"\\\n\s*|(?<=\|)\n\s*", " ", _REMARK.sub("", block)).splitlines()
            found += [re.sub(" +", " ", line.strip()) for line in lines if line.strip()]
    return found


def named(begins: str, commands: Iterable[str]) -> set[str]:
    """Those of ``commands`` that begin so; where one is just that, it alone."""
    found = {each for each in commands if each.startswith(begins)}
    return {begins} if begins in found else found


@dataclass(frozen=True)
class Typed:
    """A command of a page, named by how it begins there, and what shows that it does what the page says."""

    page: str
    begins: str
    shows: str
    """Regular expression that is found in what it prints, or logs where it ``stays``."""
    more: str = ""
    """Options put behind it, of those that the page names, so that it takes less long."""
    settings: str = ""
    """Variables of the environment, for what the page leaves to the reader's settings."""
    stands_for: Mapping[str, str] = field(default_factory=dict)
    """What the page says, and what it is here; comes before the desk's."""
    look: str = ""
    """A command whose output must hold ``shows`` instead."""
    given: str = ""
    """What is typed when it asks."""
    stays: bool = False
    """It is a service: it goes on until the desk is left."""
    codes: tuple[int, ...] = (0,)

    @property
    def text(self) -> str:
        """The whole page."""
        return (DOCS / self.page).read_text(encoding="utf-8")

    @property
    def command(self) -> str:
        """As the page has it."""
        (found,) = named(self.begins, commands_of(self.text))
        return found


class Desk:
    """One shell; what a page calls a host, a folder or a file of the reader's is replaced by what it is here."""

    def __init__(self, folder: Path, environment: Mapping[str, str], stands_for: Mapping[str, str]) -> None:
        self._folder = folder
        self.stands_for = dict(stands_for)
        self._services = 0
        self.shell = Shell(folder, environment)

    def type(self, typed: Typed) -> None:
        """One command, until it shows what it should.

        Raises:
            AssertionError: it does not, or its exit code is another one.
        """
        line, look = f"{typed.command} {typed.more}".strip(), typed.look
        for name, here in [*typed.stands_for.items(), *self.stands_for.items()]:
            line = line.replace(name, here)
        if typed.stays:
            self._services += 1
            log = f"service-{self._services}.log"
            line, look = f"{line} > {log} 2>&1 &", look or f"cat {log}"
        elif typed.given:
            line = f"{line} <<< {shlex.quote(typed.given)}"
        if typed.settings:
            self.shell.run(f"export {typed.settings}")
        self._until_shown(typed, line, look)
        if typed.settings:
            self.shell.run("unset " + " ".join(word.partition("=")[0] for word in typed.settings.split()))

    def end_services(self) -> None:
        """As Ctrl-C in their terminals does."""
        self.shell.run("kill $(jobs -p) 2>/dev/null; wait")

    def _until_shown(self, typed: Typed, line: str, look: str) -> None:
        until_s = time.monotonic() + _PATIENCE_S
        code, printed = self.shell.run(line)
        while True:
            said = "\n".join(self.shell.run(look)[1] if look else printed)
            if code in typed.codes and re.search(typed.shows, said):
                return
            is_worth_waiting = typed.stays or typed.begins.startswith(_LOOKING)
            if not is_worth_waiting or time.monotonic() > until_s:
                logs = [f"{log.name}:\n{log.read_text()}" for log in sorted(self._folder.glob("service-*.log"))]
                raise AssertionError("\n".join([f"$ {line}", *printed, f"exit code {code}; shows:", said, *logs]))
            time.sleep(0.3)
            if not typed.stays:
                code, printed = self.shell.run(line)
