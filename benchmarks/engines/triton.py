"""Triton, from the package nvidia-pytriton: the real server, with its Python backend and no other.

Its stub is built for the Python of Debian and Ubuntu; other builds of the same version crash it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.engines.server import EngineServer, engines_python, running_server
from benchmarks.testbed.process import free_ports
from twinsplit.errors import PeerError
from twinsplit.model.export.tails import export_tails
from twinsplit.model.export.triton import TritonSettings, write_model
from twinsplit.model.manifest import read_manifest

_WHERE = """
import importlib.util, sys
print(importlib.util.find_spec("pytriton").submodule_search_locations[0])
print("%d.%d" % sys.version_info[:2])
"""


def tails_repository(model: Path, out: Path, settings: TritonSettings | None = None) -> Path:
    """Every tail of the model folder as one model of the Python backend, without ensembles: the shortest way through
    this build of Triton.

    Raises:
        ModelError, StorageError: see :func:`twinsplit.model.export.tails.export_tails`.
    """
    settings = settings or TritonSettings(backend="python", kind="cpu")
    manifest, _ = read_manifest(model)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
        tails = export_tails(model, Path(temporary) / "tails", weights="inside")
        for cut, (name, file) in enumerate(zip(tails.models, tails.files, strict=True)):
            ends = manifest.cuts[cut].tensor, manifest.cuts[-1].tensor
            write_model(out / name, manifest.version, file, *ends, settings, 0)
    return out


@contextmanager
def running_triton(repository: Path, workspace: Path, *, python: Path | None = None) -> Iterator[EngineServer]:
    """Triton with the models in ``repository``.

    Args:
        workspace: a folder for its log, and for its backend beside the right stub.
        python: interpreter of the servers' environment; ``None``: see :func:`engines_python`.

    Raises:
        PeerError: it is not installed, or does not start.
    """
    python = python or engines_python()
    package, version = _package(python)
    workspace.mkdir(parents=True, exist_ok=True)
    backends = workspace / "backends"
    if not backends.exists():
        shutil.copytree(package / "tritonserver" / "backends", backends)
        stub = package / "tritonserver" / "python_backend_stubs" / version / "triton_python_backend_stub"
        shutil.copy(stub, backends / "python" / stub.name)
    http, grpc_port, metrics = free_ports(3)
    memory = f"twinsplit-{grpc_port}-"
    command = [
        str(package / "tritonserver" / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--http-port={http}",
        f"--grpc-port={grpc_port}",
        f"--metrics-port={metrics}",
        *(f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")),
        # Several servers on one machine must not share their stubs' memory.
        f"--backend-config=python,shm-region-prefix-name={memory}",
    ]
    environment = {
        "LD_LIBRARY_PATH": str(package.parent / "nvidia_pytriton.libs"),
        "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(package.parent),
    }
    try:
        with running_server(
            "triton",
            command,
            grpc_port=grpc_port,
            metrics_url=f"http://127.0.0.1:{metrics}/metrics",
            log=workspace / f"triton-{grpc_port}.log",
            environment=environment,
        ) as server:
            yield server
    finally:
        # One that was killed leaves its memory behind.
        for region in Path("/dev/shm").glob(f"{memory}*"):  # nosec B108 # only shared memory of this name is removed
            region.unlink()


def _package(python: Path) -> tuple[Path, str]:
    """Folder of pytriton in the servers' environment, and the version of its Python."""
    found = subprocess.run([python, "-c", _WHERE], capture_output=True, text=True, check=False)
    if found.returncode:
        raise PeerError(f"{python} has no Triton (nvidia-pytriton); make engines installs it, on x86-64 Linux")
    folder, version = found.stdout.split()
    return Path(folder), version
