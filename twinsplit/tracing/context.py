"""W3C trace context: which trace a span belongs to and who its parent is (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_FIRST_VERSION = "00"
_SAMPLED = 1


class SpanContext(NamedTuple):
    """One span by its two numbers, neither of them 0."""

    trace_id: int
    """128 bits."""
    span_id: int
    """64 bits."""

    @classmethod
    def new(cls) -> SpanContext:
        """The root of a new trace."""
        return cls(_random_id(16), _random_id(8))

    def sibling(self) -> SpanContext:
        """Another span of the same trace."""
        return SpanContext(self.trace_id, _random_id(8))

    def traceparent(self) -> str:
        """As a header carries it, 55 characters."""
        return f"{_FIRST_VERSION}-{self.trace_id:032x}-{self.span_id:016x}-{_SAMPLED:02x}"


def parse_traceparent(text: str) -> SpanContext | None:
    """The sender's span; ``None``: no traceparent, or one that asks not to be recorded."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None or (found[1] == _FIRST_VERSION and found[5] is not None):
        return None
    context = SpanContext(int(found[2], 16), int(found[3], 16))
    is_valid = context.trace_id != 0 and context.span_id != 0
    return context if is_valid and int(found[4], 16) & _SAMPLED else None


def _random_id(size_bytes: int) -> int:
    return int.from_bytes(os.urandom(size_bytes), "big") or _random_id(size_bytes)
