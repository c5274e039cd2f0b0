"""One span as twinsplit makes it: what happened from when to when, as part of what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from twinsplit.tracing.context import SpanContext

AttributeValue = str | int | float | bool


class SpanKind(str, Enum):
    """Which side of a call a span is."""

    INTERNAL = "internal"
    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Span:
    """Ended, and complete: it is made after the fact."""

    name: str
    context: SpanContext
    parent: SpanContext | None
    """``None``: the root of its trace."""
    start_unix_ns: int
    end_unix_ns: int
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    kind: SpanKind = SpanKind.INTERNAL
    is_parent_remote: bool = False
    """Its parent was made by another service."""
    error: str | None = None
    """Why what happened did not succeed; ``None``: it did."""
