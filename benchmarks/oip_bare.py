"""A server that does nothing: ``grpc.aio`` as it is, which answers every ModelInfer with the same ready bytes.

No server on ``grpc.aio`` takes less: ``python -m benchmarks.oip_bare``, until standard input ends.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import grpc.aio

from benchmarks.oip_program import MESSAGE_BYTES
from twinsplit.oip.messages import InferenceResponse, NamedTensor, response_to_bytes
from twinsplit.oip.service import SERVICE
from twinsplit.transport.allocation import keep_freed_memory
from twinsplit.transport.limits import server_options

_ANSWER = response_to_bytes(InferenceResponse("bare", outputs=(NamedTensor("y", "FP32", (1, 10), bytes(40)),)))


async def serve() -> None:
    """Listen on a free port, and say at which."""

    async def infer(_request: bytes, _context: Any) -> bytes:
        return _ANSWER

    server = grpc.aio.server(options=server_options(MESSAGE_BYTES))
    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    keep_freed_memory()
    asyncio.run(serve())
