"""MLServer with a small runtime of its own that runs tails by ONNX Runtime."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.engines.server import EngineServer, engines_python, running_server
from benchmarks.testbed.process import free_ports

_RUNTIME = Path(__file__).with_name("mlserver_runtime.py")
_MOST_BYTES = 64 << 20


@contextmanager
def running_mlserver(
    tails: Path, workspace: Path, *, python: Path | None = None, workers: int = 0
) -> Iterator[EngineServer]:
    """MLServer with the models of an export as ``NAME/VERSION/model.onnx``.

    Args:
        workspace: a folder for its settings and its log.
        python: interpreter of the servers' environment; ``None``: see :func:`engines_python`.
        workers: processes for inference; 0: in the server's own, which has the lowest latency.

    Raises:
        PeerError: it is not installed, or does not start.
    """
    python = python or engines_python()
    http, grpc_port, metrics = free_ports(3)
    folder = workspace / f"mlserver-{grpc_port}"
    for file in sorted(tails.glob("*/*/model.onnx")):
        name, version = file.parts[-3], file.parts[-2]
        place = folder / name
        place.mkdir(parents=True)
        settings = {
            "name": name,
            "implementation": "mlserver_runtime.OnnxTail",
            "parameters": {"uri": str(file.resolve()), "version": version},
        }
        (place / "model-settings.json").write_text(json.dumps(settings), encoding="utf-8")
    server = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc_port,
        "metrics_port": metrics,
        "grpc_max_message_length": _MOST_BYTES,
        "parallel_workers": workers,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(server), encoding="utf-8")
    shutil.copy(_RUNTIME, folder / _RUNTIME.name)
    command = [str(python), "-m", "mlserver.cli.main", "start", str(folder)]
    with running_server(
        "mlserver",
        command,
        grpc_port=grpc_port,
        metrics_url=f"http://127.0.0.1:{metrics}/metrics",
        log=workspace / f"mlserver-{grpc_port}.log",
        environment={"PYTHONPATH": str(folder)},
    ) as running:
        yield running
