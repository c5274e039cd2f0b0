"""What the console refuses, by name: the table of docs/console.md."""

from __future__ import annotations

from enum import Enum

from twinsplit.errors import (
    BadMessageError,
    RuleError,
    StaleWriteError,
    StoppingError,
    TwinsplitError,
    UnknownTwinError,
)


class RequestErrorCode(Enum):
    """Name of a refusal and its HTTP status."""

    BAD_REQUEST = ("bad-request", 400)
    TOKEN_MISSING = ("token-missing", 401)
    TOKEN_WRONG = ("token-wrong", 403)
    HOST_NOT_ALLOWED = ("host-not-allowed", 403)
    CROSS_SITE = ("cross-site", 403)
    NOT_FOUND = ("not-found", 404)
    UNKNOWN_TWIN = ("unknown-twin", 404)
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405)
    STALE_WRITE = ("stale-write", 409)
    NO_PLAN = ("no-plan", 409)
    RULE_FAILED = ("rule-failed", 409)
    OVERSIZE = ("oversize", 413)
    TOO_MANY_REQUESTS = ("too-many-requests", 429)
    TOO_MANY_STREAMS = ("too-many-streams", 503)
    STOPPING = ("stopping", 503)
    INTERNAL = ("internal", 500)

    @property
    def text(self) -> str:
        """The name in answers."""
        return self.value[0]

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.value[1]


class RequestError(Exception):
    """A request that is refused; ``text`` is for the person who reads it, with the cure.

    Args:
        retry_after_s: from when on trying again makes sense; ``None``: that is not a matter of time.
    """

    def __init__(self, code: RequestErrorCode, text: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.retry_after_s = retry_after_s


_BY_ERROR: dict[type[TwinsplitError], RequestErrorCode] = {
    UnknownTwinError: RequestErrorCode.UNKNOWN_TWIN,
    StaleWriteError: RequestErrorCode.STALE_WRITE,
    BadMessageError: RequestErrorCode.BAD_REQUEST,
    RuleError: RequestErrorCode.RULE_FAILED,
    StoppingError: RequestErrorCode.STOPPING,
}


def request_error_of(error: TwinsplitError) -> RequestError | None:
    """An error of the core as a refusal; ``None``: it is none that a request may cause."""
    code = _BY_ERROR.get(type(error))
    if code is None:
        return None
    # Of a rule of one's own the cause may be the text of any exception.
    text = f"{error.place}: it failed; the twin service's log says why" if isinstance(error, RuleError) else str(error)
    return RequestError(code, text)
