"""One table: every error has a wire name and a status, and only public text crosses."""

import grpc
import grpc.aio
import pytest

from twinsplit import errors
from twinsplit.errors import ErrorCode, FrameError, PeerError, RefusedError, TwinsplitError
from twinsplit.rpc.v1 import errors_pb2
from twinsplit.transport.status import (
    CODE_METADATA_KEY,
    INTERNAL_TEXT,
    MAX_TEXT_CHARACTERS,
    TABLE,
    InternalError,
    code_of,
    error_from_rpc,
    error_from_wire,
    error_to_wire,
    status_of,
    text_of,
)


def _subclasses(base: type) -> set[type]:
    return {base, *(found for child in base.__subclasses__() for found in _subclasses(child))}


def test_every_code_has_a_row_and_every_row_a_wire_value_of_its_own() -> None:
    assert set(TABLE) == set(ErrorCode)
    wire = [int(row.wire) for row in TABLE.values()]
    assert sorted(wire) == sorted(number for number in errors_pb2.ErrorCode.values() if number != 0)


@pytest.mark.parametrize("code", ErrorCode)
def test_wire_names_match(code: ErrorCode) -> None:
    assert errors_pb2.ErrorCode.Name(TABLE[code].wire) == f"ERROR_CODE_{code.value}"


def test_every_refusal_is_the_error_of_its_code() -> None:
    refusals = {error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, RefusedError)}
    for error in refusals - {RefusedError}:
        assert TABLE[error.code].error is error


@pytest.mark.parametrize("code", ErrorCode)
def test_an_error_crosses_with_its_class_and_text(code: ErrorCode) -> None:
    sent = TABLE[code].error("the cause; the cure")
    arrived = error_from_wire(error_to_wire(sent))
    assert type(arrived) is TABLE[code].error
    assert str(arrived) == (INTERNAL_TEXT if code is ErrorCode.INTERNAL else "the cause; the cure")


@pytest.mark.parametrize(
    "error", [ValueError("secret"), KeyError("secret"), PeerError("secret"), RefusedError("secret"), OSError("secret")]
)
def test_nothing_of_other_errors_crosses(error: Exception) -> None:
    assert code_of(error) is ErrorCode.INTERNAL
    assert status_of(error) is grpc.StatusCode.INTERNAL
    assert text_of(error) == INTERNAL_TEXT
    assert "secret" not in error_to_wire(error).text


def test_a_frame_is_refused_by_its_own_name() -> None:
    assert code_of(FrameError("x")) is ErrorCode.BAD_FRAME


def test_text_is_bounded_in_both_directions() -> None:
    assert len(error_to_wire(errors.TensorError("x" * 5000)).text) == MAX_TEXT_CHARACTERS
    long = errors_pb2.Error(code=errors_pb2.ERROR_CODE_BAD_TENSOR, text="x" * 5000)
    assert len(str(error_from_wire(long))) == MAX_TEXT_CHARACTERS


@pytest.mark.parametrize("code", [0, 99])
def test_a_code_of_a_later_version_is_an_internal_error(code: int) -> None:
    arrived = error_from_wire(errors_pb2.Error(code=code))
    assert type(arrived) is InternalError
    assert str(arrived) == INTERNAL_TEXT


def _failure(code: grpc.StatusCode, details: str | None, *trailing: tuple[str, str]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details)


@pytest.mark.parametrize("code", ErrorCode)
def test_a_failed_call_names_the_peers_refusal(code: ErrorCode) -> None:
    failure = _failure(TABLE[code].status, "cause; cure", (CODE_METADATA_KEY, code.value))
    arrived = error_from_rpc(failure, "edge:7000")
    assert type(arrived) is TABLE[code].error
    assert str(arrived) == "cause; cure"


@pytest.mark.parametrize("trailing", [(), (("other", "x"),), ((CODE_METADATA_KEY, "NO_SUCH_CODE"),)])
def test_a_failed_call_without_a_name_is_an_unreachable_peer(trailing: tuple[tuple[str, str], ...]) -> None:
    arrived = error_from_rpc(_failure(grpc.StatusCode.UNAVAILABLE, "internals", *trailing), "edge:7000")
    assert type(arrived) is PeerError
    assert "edge:7000" in str(arrived)
    assert "UNAVAILABLE" in str(arrived)
    assert "internals" not in str(arrived)


def test_a_failure_without_a_status_is_an_unreachable_peer() -> None:
    assert type(error_from_rpc(grpc.RpcError(), "edge:7000")) is PeerError


def test_exit_codes_are_documented_numbers() -> None:
    by_code: dict[int, set[str]] = {}
    for error in _subclasses(TwinsplitError):
        by_code.setdefault(error.exit_code, set()).add(error.__name__)
    assert set(by_code) == set(range(1, 10))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "no message of that size"),
        (grpc.StatusCode.UNIMPLEMENTED, "another service"),
    ],
)
def test_a_peer_that_did_answer_is_not_said_to_be_silent(status: grpc.StatusCode, words: str) -> None:
    arrived = error_from_rpc(_failure(status, "internals"), "edge:7000")
    assert type(arrived) is PeerError
    assert words in str(arrived)
    assert "does not answer" not in str(arrived)
