"""How often something may be asked for: a bucket that refills. Sans-IO."""

from __future__ import annotations

from collections.abc import Callable

from twin_service.console.request_errors import RequestError, RequestErrorCode


class Pace:
    """At most ``per_second`` in the long run, and ``burst`` at once."""

    def __init__(self, now_s: Callable[[], float], per_second: float = 10.0, burst: float = 20.0) -> None:
        self._now_s = now_s
        self._per_second = per_second
        self._burst = burst
        self._left = burst
        self._seen_s = now_s()

    def take(self) -> None:
        """One more.

        Raises:
            RequestError: it is too many.
        """
        now_s = self._now_s()
        self._left = min(self._burst, self._left + (now_s - self._seen_s) * self._per_second)
        self._seen_s = now_s
        if self._left < 1.0:
            raise RequestError(
                RequestErrorCode.TOO_MANY_REQUESTS,
                f"at most {self._per_second:g} are answered a second; try again in a moment",
                retry_after_s=(1.0 - self._left) / self._per_second,
            )
        self._left -= 1.0
