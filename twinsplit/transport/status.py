"""The one table error <-> ``ErrorCode`` <-> gRPC status, and errors across the wire in both directions.

Only the code and the text that was written for people cross; nothing of an exception's internals does. In a stream a
refusal is an ``Error`` message and the stream goes on; a unary call ends with the status and carries the code in its
trailing metadata.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from twinsplit import errors
from twinsplit.errors import ErrorCode, FrameError, PeerError, RefusedError, TwinsplitError
from twinsplit.rpc.v1 import errors_pb2

CODE_METADATA_KEY = "twinsplit-error-code"
INTERNAL_TEXT = "the service failed on this message; its log says why"
MAX_TEXT_CHARACTERS = 1000


class InternalError(RefusedError):
    """The other side failed on a message; its log says why."""

    code = ErrorCode.INTERNAL


@dataclass(frozen=True, slots=True)
class _Row:
    error: type[TwinsplitError]
    wire: errors_pb2.ErrorCode
    status: grpc.StatusCode


TABLE: dict[ErrorCode, _Row] = {
    ErrorCode.BAD_MESSAGE: _Row(
        errors.BadMessageError, errors_pb2.ERROR_CODE_BAD_MESSAGE, grpc.StatusCode.INVALID_ARGUMENT
    ),
    ErrorCode.WRONG_DIGEST: _Row(
        errors.WrongDigestError, errors_pb2.ERROR_CODE_WRONG_DIGEST, grpc.StatusCode.FAILED_PRECONDITION
    ),
    ErrorCode.BAD_TENSOR: _Row(errors.TensorError, errors_pb2.ERROR_CODE_BAD_TENSOR, grpc.StatusCode.INVALID_ARGUMENT),
    ErrorCode.OVERSIZE: _Row(errors.OversizeError, errors_pb2.ERROR_CODE_OVERSIZE, grpc.StatusCode.OUT_OF_RANGE),
    ErrorCode.UNKNOWN_MODEL: _Row(
        errors.UnknownModelError, errors_pb2.ERROR_CODE_UNKNOWN_MODEL, grpc.StatusCode.NOT_FOUND
    ),
    ErrorCode.UNKNOWN_TWIN: _Row(
        errors.UnknownTwinError, errors_pb2.ERROR_CODE_UNKNOWN_TWIN, grpc.StatusCode.NOT_FOUND
    ),
    ErrorCode.STALE_WRITE: _Row(errors.StaleWriteError, errors_pb2.ERROR_CODE_STALE_WRITE, grpc.StatusCode.ABORTED),
    ErrorCode.EDGE_FULL: _Row(
        errors.EdgeFullError, errors_pb2.ERROR_CODE_EDGE_FULL, grpc.StatusCode.RESOURCE_EXHAUSTED
    ),
    ErrorCode.DEADLINE: _Row(errors.DeadlineError, errors_pb2.ERROR_CODE_DEADLINE, grpc.StatusCode.DEADLINE_EXCEEDED),
    ErrorCode.STOPPING: _Row(errors.StoppingError, errors_pb2.ERROR_CODE_STOPPING, grpc.StatusCode.UNAVAILABLE),
    ErrorCode.BAD_FRAME: _Row(FrameError, errors_pb2.ERROR_CODE_BAD_FRAME, grpc.StatusCode.INVALID_ARGUMENT),
    ErrorCode.NOT_ALLOWED: _Row(
        errors.NotAllowedError, errors_pb2.ERROR_CODE_NOT_ALLOWED, grpc.StatusCode.PERMISSION_DENIED
    ),
    ErrorCode.PEER_LIMIT: _Row(
        errors.PeerLimitError, errors_pb2.ERROR_CODE_PEER_LIMIT, grpc.StatusCode.RESOURCE_EXHAUSTED
    ),
    ErrorCode.NO_ANSWER: _Row(errors.NoAnswerError, errors_pb2.ERROR_CODE_NO_ANSWER, grpc.StatusCode.UNAVAILABLE),
    ErrorCode.INTERNAL: _Row(InternalError, errors_pb2.ERROR_CODE_INTERNAL, grpc.StatusCode.INTERNAL),
}

_CODE_BY_WIRE = {row.wire: code for code, row in TABLE.items()}


def code_of(error: BaseException) -> ErrorCode:
    """The name under which ``error`` crosses the wire; everything that is not meant for the peer is INTERNAL."""
    if isinstance(error, RefusedError):
        return error.code
    if isinstance(error, FrameError):
        return ErrorCode.BAD_FRAME
    return ErrorCode.INTERNAL


def status_of(error: BaseException) -> grpc.StatusCode:
    """The gRPC status of ``error``."""
    return TABLE[code_of(error)].status


def text_of(error: BaseException) -> str:
    """What the peer may read of ``error``."""
    if code_of(error) is ErrorCode.INTERNAL:
        return INTERNAL_TEXT
    return str(error)[:MAX_TEXT_CHARACTERS]


def error_to_wire(error: BaseException) -> errors_pb2.Error:
    """``error`` as a message of a stream."""
    return errors_pb2.Error(code=TABLE[code_of(error)].wire, text=text_of(error))


def error_from_wire(message: errors_pb2.Error) -> TwinsplitError:
    """The error that the peer named; an unknown code becomes :class:`InternalError`."""
    code = _CODE_BY_WIRE.get(message.code, ErrorCode.INTERNAL)
    return TABLE[code].error(message.text[:MAX_TEXT_CHARACTERS] or INTERNAL_TEXT)


def error_from_rpc(failure: grpc.RpcError, address: str) -> TwinsplitError:
    """The error behind a failed call: the peer's refusal, or :class:`PeerError` where the peer did not name one."""
    if not isinstance(failure, grpc.aio.AioRpcError):
        return PeerError(f"{address}: the call failed; see that the service runs there")
    if is_refusal(failure):
        return TABLE[ErrorCode(_named_code(failure))].error((failure.details() or INTERNAL_TEXT)[:MAX_TEXT_CHARACTERS])
    if failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return PeerError(
            f"{address} takes no message of that size, or has no room left ({failure.code().name}); send less at once"
        )
    if failure.code() is grpc.StatusCode.UNIMPLEMENTED:
        return PeerError(
            f"{address} answers, but is another service ({failure.code().name}); name the address of the right one"
        )
    return PeerError(
        f"{address} does not answer ({failure.code().name}); see that the service runs there and that both sides use "
        "TLS or neither does"
    )


def is_refusal(failure: grpc.aio.AioRpcError) -> bool:
    """Whether the peer refused the call by name, and did not just end or never answer."""
    return _named_code(failure) in ErrorCode.__members__


def _named_code(failure: grpc.aio.AioRpcError) -> str:
    trailing: Any = failure.trailing_metadata() or ()
    return next((str(value) for key, value in trailing if key == CODE_METADATA_KEY), "")


async def abort_with(context: grpc.aio.ServicerContext[Any, Any], error: BaseException) -> None:
    """End a call with ``error``'s status, code and public text (never returns normally)."""
    await context.abort(status_of(error), text_of(error), ((CODE_METADATA_KEY, code_of(error).value),))
