"""Every call of a server is counted, and its failure is named, logged and kept from the peer.

So are bytes that are no message: gRPC itself would answer a single one by the exception's class and text, and end a
stream of them.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import grpc
import grpc.aio

from twinsplit.errors import BadMessageError, ErrorCode
from twinsplit.telemetry.histogram import Histogram
from twinsplit.telemetry.logs import EventLog
from twinsplit.transport.status import abort_with, code_of, status_of

_log = EventLog("transport")


class CallCount:
    """Calls by method: started, handled by status, and how long they took. A long-lived stream counts when it ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: Counter[str] = Counter()
        self._handled: Counter[tuple[str, str]] = Counter()
        self._durations: dict[str, Histogram] = {}

    def note_start(self, method: str) -> None:
        """A call of ``method`` begins."""
        with self._lock:
            self._started[method] += 1

    def note_end(self, method: str, status: str, seconds: float) -> None:
        """A call of ``method`` ended with ``status`` after ``seconds``."""
        with self._lock:
            self._handled[method, status] += 1
            duration = self._durations.get(method)
            if duration is None:
                duration = self._durations[method] = Histogram.of("twinsplit_rpc_duration_seconds")
        duration.observe(seconds)

    def started(self) -> dict[str, int]:
        """Method to calls begun."""
        with self._lock:
            return dict(self._started)

    def handled(self) -> dict[tuple[str, str], int]:
        """(Method, status) to calls ended."""
        with self._lock:
            return dict(self._handled)

    def samples(self) -> Iterator[tuple[str, Mapping[str, str], float | Histogram]]:
        """The metrics ``twinsplit_rpc_*`` of the catalogue."""
        for method, count in self.started().items():
            yield "twinsplit_rpc_started_total", {"method": method}, count
        for (method, status), count in self.handled().items():
            yield "twinsplit_rpc_handled_total", {"method": method, "status": status}, count
        with self._lock:
            durations = dict(self._durations)
        for method, duration in durations.items():
            yield "twinsplit_rpc_duration_seconds", {"method": method}, duration


class CallWatch:
    """Counts calls and turns what a handler raises into its status, so that handlers simply raise.

    Bytes that are no message are refused as BAD_MESSAGE. In a stream they reach the handler as an empty message, which
    it refuses as it does any other that says nothing; the stream goes on.
    """

    def __init__(self, calls: CallCount) -> None:
        self._calls = calls

    def around(self, method: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """``handler`` of ``method`` (``/package.Service/Method``), watched."""
        method = method.rsplit("/", 1)[-1]
        if handler.response_streaming:
            kind = "stream_stream" if handler.request_streaming else "unary_stream"
        else:
            kind = "stream_unary" if handler.request_streaming else "unary_unary"
        inner = getattr(handler, kind)
        wrapped = (
            self._generator(method, inner) if inspect.isasyncgenfunction(inner) else self._coroutine(method, inner)
        )
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        read = _or_empty if handler.request_streaming else _or_unreadable
        watched: grpc.RpcMethodHandler[Any, Any] = make(
            wrapped, read(handler.request_deserializer), handler.response_serializer
        )
        return watched

    def _coroutine(self, method: str, inner: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def watched(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            began_s = self._begin(method)
            status = "CANCELLED"
            try:
                _check_readable(request)
                answer = await inner(request, context)
                status = "OK"
                return answer
            except grpc.aio.AbortError:
                status = _status_name(context)
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the peer must get a status and no internals
                status = status_of(error).name
                await self._refuse(method, context, error)
            finally:
                self._calls.note_end(method, status, time.monotonic() - began_s)

        return watched

    def _generator(self, method: str, inner: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def watched(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            began_s = self._begin(method)
            status = "CANCELLED"
            try:
                _check_readable(request)
                async for answer in inner(request, context):
                    yield answer
                status = "OK"
            except grpc.aio.AbortError:
                status = _status_name(context)
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the peer must get a status and no internals
                status = status_of(error).name
                await self._refuse(method, context, error)
            finally:
                self._calls.note_end(method, status, time.monotonic() - began_s)

        return watched

    def _begin(self, method: str) -> float:
        self._calls.note_start(method)
        return time.monotonic()

    @staticmethod
    async def _refuse(method: str, context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> None:
        if code_of(error) is ErrorCode.INTERNAL:
            _log.exception("call-failed", error, method=method)
        await abort_with(context, error)


class _Unreadable:
    """Stands for the request of a unary call whose bytes are no message."""


def _or_unreadable(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except Exception:  # noqa: BLE001 - DecodeError, or what a version of protobuf makes of bad text
            return _Unreadable()

    return read


def _or_empty(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except Exception:  # noqa: BLE001 - DecodeError, or what a version of protobuf makes of bad text
            return deserialize(b"")

    return read


def _check_readable(request: Any) -> None:
    if isinstance(request, _Unreadable):
        raise BadMessageError("the message cannot be read; use the .proto files of v1")


def _status_name(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    # Before anyone sets a status, gRPC gives the number 0 instead.
    code: Any = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"
