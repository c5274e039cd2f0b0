"""Nothing that turns bytes of others into code: neither in what is imported nor in what is called."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SHIPPED = ("twinsplit", "device", "edge", "twin_service", "models", "benchmarks", "deploy", "docs")
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
NEEDS_KEYWORD = {
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "torch.load": ("weights_only", True),
}
FORBIDDEN_NAMES = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen", "tempfile.mktemp"}
ARCHIVES = {"extractall", "extract", "unpack_archive"}
"""Whoever unpacks an archive must see to the paths in it; nobody here does, so nobody may."""


def problems(source: str) -> Iterator[str]:
    """What a module does that it should not."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.partition(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in FORBIDDEN_MODULES:
            yield f"from {node.module}"
        elif isinstance(node, ast.Call):
            yield from _of_call(node)


def _of_call(call: ast.Call) -> Iterator[str]:
    name = _dotted(call.func)
    keywords = {each.arg: each.value for each in call.keywords}
    if name in FORBIDDEN_CALLS | FORBIDDEN_NAMES or name.rpartition(".")[2] in ARCHIVES:
        yield name
    if name in NEEDS_KEYWORD:
        wanted, value = NEEDS_KEYWORD[name]
        given = keywords.get(wanted)
        if not (isinstance(given, ast.Constant) and given.value is value):
            yield f"{name} without {wanted}={value}"
    shell = keywords.get("shell")
    if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
        yield f"{name} with a shell"


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return f"{_dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else "?"


def shipped(root: Path) -> list[Path]:
    return [path for name in SHIPPED for path in sorted((root / name).rglob("*.py")) if "_pb2" not in path.name]


def test_nothing_shipped_makes_code_of_bytes(root: Path) -> None:
    files = shipped(root)
    assert len(files) > 250
    found = {str(file.relative_to(root)): list(problems(file.read_text(encoding="utf-8"))) for file in files}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import numpy, shelve",
        "from cloudpickle import loads",
        "def f():\n    import marshal",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=is_trusted)",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "yaml.load(text)",
        "eval(text)",
        "exec(text)",
        "tar.extractall(folder)",
        "shutil.unpack_archive(file)",
        "subprocess.run(line, shell=True)",
        "subprocess.run(line, shell=is_shell)",
    ],
)
def test_each_of_them_would_be_found(source: str) -> None:
    assert list(problems(source)) != []


@pytest.mark.parametrize(
    "source",
    ["np.load(f, allow_pickle=False)", "torch.load(f, weights_only=True)", "network.eval()", "re.compile(text)"],
)
def test_what_is_safe_is_let_pass(source: str) -> None:
    assert list(problems(source)) == []
