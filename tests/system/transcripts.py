"""Console transcripts in documents: what is typed after ``$`` and what comes back, run again and compared.

A block fenced as ``console`` holds commands and their output. Numbers may differ from run to run, and so may white
space; ``...`` stands for anything in its line, and a line of it for any lines. All blocks of a document share one
shell, in the order in which they stand.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"[-+]?\d+(?:[.,:]\d+)*(?:e[-+]\d+)?")
_ANY = "..."
_MARK = "__end_of_output__"


@dataclass(frozen=True)
class Step:
    """One command and what the document says that it prints."""

    command: str
    output: tuple[str, ...]


def steps_of(document: str) -> list[Step]:
    """All steps of a document, in order.

    Raises:
        ValueError: a block begins with output.
    """
    steps: list[Step] = []
    for block in _BLOCK.findall(document):
        is_continued, command, output = False, "", []
        for line in [*block.splitlines(), "$ "]:
            if is_continued:
                command += "\n" + line
            elif line.startswith("$ "):
                if command:
                    steps.append(Step(command, tuple(output)))
                command, output = line[2:], []
            elif command:
                output.append(line)
            else:
                raise ValueError(f"a console block begins with output: {line}")
            is_continued = (is_continued or line.startswith("$ ")) and line.endswith("\\")
    return steps


def differences(shown: Sequence[str], printed: Sequence[str]) -> str | None:
    """In words what ``printed`` lacks of ``shown``; ``None``: it is the same but for numbers and white space."""
    if _matches([_normal(line) for line in shown], [_normal(line) for line in printed]):
        return None
    said = "\n".join(printed) or "(nothing)"
    return "the document shows:\n" + "\n".join(shown) + "\nthe command prints:\n" + said


class Shell:
    """One bash in which a document's commands run one after the other."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> tuple[int, list[str]]:
        """Exit code and printed lines of one command, standard error among them."""
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{command}\necho {_MARK} $?\n")
        self._bash.stdin.flush()
        lines = list(self._until_mark())
        return int(lines.pop().split()[1]), lines

    def close(self) -> None:
        """End the shell and all that it left running, also in the middle of a command."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._bash.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._bash.wait(10)
        with suppress(BrokenPipeError):
            self._bash.stdin.close()
        self._bash.stdout.close()

    def _until_mark(self) -> Iterator[str]:
        assert self._bash.stdout is not None
        for line in self._bash.stdout:
            said, mark, code = line.rstrip("\n").partition(_MARK)
            if said or not mark:
                yield said  # also a last line that does not end
            if mark:
                yield mark + code
                return
        raise AssertionError("the shell has ended")


def _normal(line: str) -> str:
    return " ".join(_NUMBER.sub("#", line).split())


def _matches(shown: Sequence[str], printed: Sequence[str]) -> bool:
    if not shown:
        return not printed
    if shown[0] == _ANY:
        return any(_matches(shown[1:], printed[skipped:]) for skipped in range(len(printed) + 1))
    return bool(printed) and _is_like(shown[0], printed[0]) and _matches(shown[1:], printed[1:])


def _is_like(shown: str, printed: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, shown.split(_ANY))), printed) is not None
