"""What the doctor finds, one line each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Check(str, Enum):
    """Everything that is looked at; the value is its name in the output."""

    PYTHON = "python"
    TWINSPLIT = "twinsplit"
    GRPCIO = "grpcio"
    ONNXRUNTIME = "onnxruntime"
    PROVIDER = "provider"
    MODEL = "model"
    ENERGY = "energy-meter"
    HEALTH = "health"
    SOURCE = "source"
    SINK = "sink"
    PROFILE = "profile"
    LISTEN = "listen"
    TLS_AUTHORITY = "tls-authority"
    TLS_CERTIFICATE = "tls-certificate"
    TLS_KEY = "tls-key"
    TLS_NAMES = "tls-names"
    TWIN = "twin"
    TWIN_CLOCK = "twin-clock"
    TWIN_MODEL = "twin-model"
    TWIN_MESSAGES = "twin-messages"
    TWIN_REPLICAS = "twin-replicas"
    EDGE = "edge"
    EDGE_CLOCK = "edge-clock"
    EDGE_MODEL = "edge-model"
    EDGE_MESSAGES = "edge-messages"
    COLLECTOR = "collector"


class Verdict(str, Enum):
    """How a check ended."""

    OK = "ok"
    BAD = "bad"
    SKIPPED = "skipped"
    """There was nothing to look at, or it could not be: the text says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line."""

    check: Check
    verdict: Verdict
    text: str
    """What was found."""
    cure: str | None = None
    """What is to be done; only where the verdict is bad."""


def ok(check: Check, text: str) -> Finding:
    """All is well."""
    return Finding(check, Verdict.OK, text)


def bad(check: Check, text: str, cure: str) -> Finding:
    """Something is wrong, and ``cure`` mends it."""
    return Finding(check, Verdict.BAD, text, cure)


def skipped(check: Check, text: str) -> Finding:
    """Nothing to look at."""
    return Finding(check, Verdict.SKIPPED, text)


def from_error(check: Check, error: Exception) -> Finding:
    """An error of twinsplit's own, whose text names cause and cure with a semicolon between."""
    text, _, cure = " ".join(str(error).split()).partition("; ")
    return bad(check, text, cure or "see docs/errors.md")
