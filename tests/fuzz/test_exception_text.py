"""No error that can cross the wire is built from the text of an exception that is not ours: read off the sources.

What a library says may hold addresses, paths, class names and bytes; the person at the other side can use none of it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twinsplit import errors
from twinsplit.errors import FrameError, RefusedError, TwinsplitError

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("twinsplit", "device", "edge", "twin_service")


def _names(base: tuple[type[TwinsplitError], ...]) -> frozenset[str]:
    return frozenset(n for n, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, base))


OURS = _names((TwinsplitError,))
CROSSING = _names((RefusedError, FrameError))


def told_by_others(source: str) -> Iterator[int]:
    """Lines that raise an error which may cross the wire with something of a caught exception that is not ours."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ExceptHandler) or node.name is None:
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        if all(isinstance(kind, ast.Name) and kind.id in OURS for kind in caught):
            continue
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in CROSSING:
                told = (n for argument in call.args for n in ast.walk(argument))
                if any(isinstance(n, ast.Name) and n.id == node.name for n in told):
                    yield call.lineno


def test_no_error_for_the_wire_repeats_what_a_library_says() -> None:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(paths) > 200
    found = [f"{p.relative_to(ROOT)}:{line}" for p in paths for line in told_by_others(p.read_text(encoding="utf-8"))]
    assert found == []


def test_the_sources_are_read_for_what_is_looked_for() -> None:
    frame = "try:\n  pass\nexcept {} as error:\n  raise {}(f'no: {{{}}}') from None\n"
    assert list(told_by_others(frame.format("OSError", "TensorError", "error"))) == [4]
    assert list(told_by_others(frame.format("(OSError, ValueError)", "FrameError", "str(error)"))) == [4]
    assert list(told_by_others(frame.format("TensorError", "BadMessageError", "error"))) == []
    assert list(told_by_others(frame.format("OSError", "StorageError", "error"))) == []
    assert list(told_by_others(frame.format("OSError", "TensorError", "size"))) == []
