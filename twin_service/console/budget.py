"""How much of the core something that readers ask for may take: a budget of time that refills. Sans-IO."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from twin_service.console.request_errors import RequestError, RequestErrorCode


class Budget:
    """Time on the event loop: ``share`` of it in the long run, and ``most_s`` at once."""

    def __init__(self, now_s: Callable[[], float], share: float = 0.1, most_s: float = 0.2) -> None:
        self._now_s = now_s
        self._share = share
        self._most_s = most_s
        self._left_s = most_s
        self._seen_s = now_s()

    @contextlib.contextmanager
    def spent(self) -> Iterator[None]:
        """What is done within is paid for; it may overdraw.

        Raises:
            RequestError: nothing is left.
        """
        began_s = self._now_s()
        self._left_s = min(self._most_s, self._left_s + (began_s - self._seen_s) * self._share)
        self._seen_s = began_s
        if self._left_s <= 0.0:
            raise RequestError(
                RequestErrorCode.TOO_MANY_REQUESTS,
                f"planning comes first, and this may take {self._share:.0%} of a core; try again in a moment",
                retry_after_s=-self._left_s / self._share,
            )
        try:
            yield
        finally:
            self._left_s -= self._now_s() - began_s
