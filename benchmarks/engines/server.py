"""One server process: started, waited for, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from twinsplit.errors import PeerError
from twinsplit.oip.v2 import inference_pb2

ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv-engines"
"""What ``make engines`` makes."""
START_S = 120.0
_READY_METHOD = "/inference.GRPCInferenceService/ServerReady"
_STOP_S = 20.0
_SHOWN_LINES = 30


def engines_python() -> Path:
    """Interpreter of the servers' environment: the variable TWINSPLIT_ENGINES_PYTHON, or that of ``make engines``.

    Raises:
        PeerError: there is none.
    """
    python = Path(os.environ.get("TWINSPLIT_ENGINES_PYTHON", ENVIRONMENT / "bin" / "python"))
    if not python.exists():
        raise PeerError(f"{python} is missing; make engines installs Triton and MLServer there")
    return python


@dataclass(slots=True)
class EngineServer:
    """A server that runs."""

    name: str
    address: str
    """HOST:PORT of its gRPC."""
    metrics_url: str | None
    """Its Prometheus page."""
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """End it and all its processes at once, as a crash or a power cut would."""
        # Its group is its own, so that stubs and workers end with it.
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running_server(
    name: str,
    command: Sequence[str],
    *,
    grpc_port: int,
    metrics_url: str | None,
    log: Path,
    environment: Mapping[str, str],
    is_ready: Callable[[str], bool] | None = None,
) -> Iterator[EngineServer]:
    """Start a server, wait until it is ready, and stop it in the end.

    Raises:
        PeerError: it ends or is not ready in time; the text has the end of its log.
    """
    address = f"127.0.0.1:{grpc_port}"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        until_s = time.monotonic() + START_S
        while not (is_ready or _says_ready)(address):
            if process.poll() is not None or time.monotonic() > until_s:
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN_LINES:]
                raise PeerError(f"{name} did not start; its log ends:\n" + "\n".join(lines))
            time.sleep(0.2)
        yield EngineServer(name, address, metrics_url, process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
        _end_group(process.pid)
        process.wait()


def _says_ready(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary(
            _READY_METHOD,
            request_serializer=inference_pb2.ServerReadyRequest.SerializeToString,
            response_deserializer=inference_pb2.ServerReadyResponse.FromString,
        )
        try:
            return bool(ask(inference_pb2.ServerReadyRequest(), timeout=1.0).ready)
        except grpc.RpcError:
            return False


def _end_group(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
