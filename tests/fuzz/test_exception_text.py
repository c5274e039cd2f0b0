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
        names = _names_of_it(node, node.name)
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and _called(call.func) in CROSSING:
                arguments = (*call.args, *(keyword.value for keyword in call.keywords))
                if any(_uses(argument, names) for argument in arguments):
                    yield call.lineno


def _names_of_it(handler: ast.ExceptHandler, name: str) -> set[str]:
    """Names that something of the exception ``name`` is assigned to within its handler, and its own."""
    names, count = {name}, 0
    while count < len(names):  # until no assignment adds one, whatever their order
        count = len(names)
        for node in ast.walk(handler):
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and _uses(
                node.value, names
            ):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
            elif isinstance(node, ast.For | ast.comprehension) and _uses(node.iter, names):
                names |= {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)}
    return names


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _uses(node: ast.expr | None, names: set[str]) -> bool:
    return node is not None and any(isinstance(n, ast.Name) and n.id in names for n in ast.walk(node))


def test_no_error_for_the_wire_repeats_what_a_library_says() -> None:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(paths) > 200
    found = [f"{p.relative_to(ROOT)}:{line}" for p in paths for line in told_by_others(p.read_text(encoding="utf-8"))]
    assert found == []


def test_the_sources_are_read_for_what_is_looked_for() -> None:
    frame = "try:\n  pass\nexcept {} as error:\n  raise {}(f'no: {{{}}}') from None\n"
    assert list(told_by_others(frame.format("OSError", "TensorError", "error"))) == [4]
    assert list(told_by_others(frame.format("(OSError, ValueError)", "FrameError", "str(error)"))) == [4]
    assert list(told_by_others(frame.format("OSError", "errors.TensorError", "error"))) == [4]
    assert list(told_by_others(frame.format("TensorError", "BadMessageError", "error"))) == []
    assert list(told_by_others(frame.format("OSError", "StorageError", "error"))) == []
    assert list(told_by_others(frame.format("OSError", "TensorError", "size"))) == []
    kept = "try:\n  pass\nexcept OSError as error:\n  {}\n  raise TensorError(f'no: {{text}}') from None\n"
    for line in ("text = str(error)", "text: str = error.args[0]", "if text := str(error): pass", "text += str(error)"):
        assert list(told_by_others(kept.format(line))) == [5], line
    assert list(told_by_others(kept.format("first = error.args; text, _ = first"))) == [5]
    assert list(told_by_others(kept.format("for text in error.args: pass"))) == [5]
    assert list(told_by_others(kept.format("text = str(size)"))) == []
