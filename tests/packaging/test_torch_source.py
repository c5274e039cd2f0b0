"""Where torch is taken from; a recorded pip stands for the real one."""

import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

_PYTHON = """#!/bin/sh
# Passes everything on but pip, which succeeds only for the source that the test offers.
case "$*" in
  *"-m pip install"*"torch"*) echo "$*" >> pip.log; case "$*" in {offered}) exit 0;; *) exit 1;; esac;;
  *"-m pip install"*) exit 0;;
  *) exec {python} "$@";;
esac
"""


@pytest.fixture
def cpu_index() -> Iterator[str]:
    """An index that answers, on this machine's loopback."""
    handler = type("Answering", (http.server.BaseHTTPRequestHandler,), {"do_GET": _answer, "log_message": _say_nothing})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/whl/cpu"
    server.shutdown()
    thread.join()
    server.server_close()


def _answer(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()


def _say_nothing(*_: object) -> None: ...


def _make_model(tmp_path: Path, root: Path, index: str, offered: str) -> "subprocess.CompletedProcess[str]":
    shutil.copy(root / "Makefile", tmp_path)
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".venv/.created").touch()
    (programs / "python").write_text(_PYTHON.format(offered=offered, python=sys.executable))
    (programs / "python").chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    environment["no_proxy"] = "127.0.0.1"
    command = ["make", ".venv/.torch", f"TORCH_INDEX={index}"]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


def test_pytorchs_cpu_index_comes_first(tmp_path: Path, root: Path, cpu_index: str) -> None:
    made = _make_model(tmp_path, root, cpu_index, offered="*")
    assert made.returncode == 0, made.stderr
    assert f"torch comes from PyTorch's CPU index, {cpu_index}" in made.stdout
    assert f"--index-url {cpu_index}" in (tmp_path / "pip.log").read_text()


def test_the_configured_index_serves_when_the_cpu_index_does_not_answer(tmp_path: Path, root: Path) -> None:
    made = _make_model(tmp_path, root, "http://127.0.0.1:1", offered="*")
    assert made.returncode == 0, made.stderr
    assert "torch comes from pip's configured index" in made.stdout
    assert "--index-url" not in (tmp_path / "pip.log").read_text()


def test_the_configured_index_serves_when_the_cpu_index_lacks_the_version(
    tmp_path: Path, root: Path, cpu_index: str
) -> None:
    made = _make_model(tmp_path, root, cpu_index, offered="*--no-deps?torch")
    assert made.returncode == 0, made.stderr
    assert "torch comes from pip's configured index" in made.stdout


def test_wheels_at_hand_serve_when_no_index_does(tmp_path: Path, root: Path) -> None:
    made = _make_model(tmp_path, root, "http://127.0.0.1:1", offered="*wheelhouse*")
    assert made.returncode == 0, made.stderr
    assert "torch comes from wheelhouse/" in made.stdout


def test_without_any_source_the_cure_is_named(tmp_path: Path, root: Path) -> None:
    made = _make_model(tmp_path, root, "http://127.0.0.1:1", offered="none")
    assert made.returncode == 2
    assert "Put its wheel into wheelhouse/" in made.stderr
    assert not (tmp_path / ".venv/.model").exists()
