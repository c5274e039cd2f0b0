"""An OTLP receiver in a process of its own: what a collector takes by OTLP over HTTP, written down span by span.

It reads requests by OpenTelemetry's published proto and answers as the OTLP specification says (1.5, OTLP/HTTP):

    python tests/integration/otlp_receiver.py FILE.jsonl      prints its port, serves until its standard input ends
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

PATIENCE_S = 30.0


class Received:
    """What a receiver has written down so far."""

    def __init__(self, file: Path, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self._file = file

    @property
    def spans(self) -> list[dict[str, Any]]:
        """All spans, as they came."""
        if not self._file.exists():
            return []
        return [json.loads(line) for line in self._file.read_text().splitlines()]

    def traces(self, is_enough: Callable[[dict[str, list[dict[str, Any]]]], bool]) -> dict[str, list[dict[str, Any]]]:
        """Spans by trace, once there are enough of them."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            found: dict[str, list[dict[str, Any]]] = {}
            for span in self.spans:
                found.setdefault(span["trace_id"], []).append(span)
            if is_enough(found):
                return found
            assert time.monotonic() < deadline_s, found
            time.sleep(0.02)


@contextmanager
def receiving(folder: Path) -> Iterator[Received]:
    """A receiver for as long as the block lasts."""
    file = folder / "spans.jsonl"
    with subprocess.Popen(
        [sys.executable, __file__, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield Received(file, int(process.stdout.readline()))
        finally:
            process.stdin.close()
            assert process.wait(PATIENCE_S) == 0


def serve(file: Path) -> None:
    """Write spans to ``file`` until standard input ends."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            status = self._take(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def _take(self, body: bytes) -> int:
            if self.path != "/v1/traces":
                return 404
            if self.headers["Content-Type"] != "application/x-protobuf":
                return 415
            try:
                request = ExportTraceServiceRequest.FromString(body)
            except DecodeError:
                return 400
            with lock, file.open("a") as out:
                out.writelines(json.dumps(span) + "\n" for span in _plain(request))
            return 200

        def log_message(self, *_arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


def _plain(request: ExportTraceServiceRequest) -> Iterator[dict[str, Any]]:
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield {
                    "trace_id": span.trace_id.hex(),
                    "span_id": span.span_id.hex(),
                    "parent_id": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": Span.SpanKind.Name(span.kind),
                    "start_ns": span.start_time_unix_nano,
                    "end_ns": span.end_time_unix_nano,
                    "attributes": _attributes(span.attributes),
                    "status": Status.StatusCode.Name(span.status.code),
                    "message": span.status.message,
                    "resource": resource,
                    "scope": scope_spans.scope.name,
                }


def _attributes(pairs: Any) -> dict[str, Any]:
    def value(pair: KeyValue) -> Any:
        return getattr(pair.value, str(pair.value.WhichOneof("value")))

    return {pair.key: value(pair) for pair in pairs}


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
