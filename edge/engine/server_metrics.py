"""What a back end's Prometheus page tells of its queue: requests that wait, and how long they did.

Triton has both, by model, in ``nv_inference_*``. Where a page has neither nothing is learnt from it.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Collection
from dataclasses import dataclass
from http.client import HTTPException

from prometheus_client.parser import text_string_to_metric_families

from twinsplit.errors import SettingsError

_PENDING = "nv_inference_pending_request_count"
_QUEUE_US = "nv_inference_queue_duration_us"
_SUCCEEDED = "nv_inference_request_success"
_MOST_BYTES = 4 << 20
_MOST = 2.0**64
"""No count or time of a page is larger; what is, negative or NaN says nothing."""
_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class ServerReading:
    """One page."""

    pending: float | None
    """Requests that wait now, of all models; ``None``: the page does not say."""
    queue_s: float
    """Waiting of all requests so far, seconds."""
    answered: float
    """Requests answered so far."""


def check_page(url: str) -> None:
    """See that ``url`` can be a Prometheus page.

    Raises:
        SettingsError: it is not http or https.
    """
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"--engine-metrics {url} is no page; write its URL, such as http://127.0.0.1:8002/metrics")


def read_page(url: str) -> str | None:
    """Text of a page; ``None``: it does not answer. Blocks up to a second."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # nosec B310 # check_page: http or https
            body: bytes = answer.read(_MOST_BYTES)
    except (OSError, ValueError, HTTPException):
        return None
    return body.decode("utf-8", errors="replace")


def reading_of(text: str, asked: Collection[str]) -> ServerReading | None:
    """What a page says; ``None``: it cannot be read, or says nothing of a queue.

    Args:
        asked: models whose requests count as answers. Triton runs an ensemble as requests of other models, whose
            waiting is that of the ensemble.
    """
    pending: float | None = None
    queue_us: float | None = None
    answered = 0.0
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = sample.name.removesuffix("_total")
                if not 0.0 <= sample.value <= _MOST:
                    continue
                if name == _PENDING:
                    pending = (pending or 0.0) + sample.value
                elif name == _QUEUE_US:
                    queue_us = (queue_us or 0.0) + sample.value
                elif name == _SUCCEEDED and sample.labels.get("model") in asked:
                    answered += sample.value
    except ValueError:
        return None
    if pending is None and queue_us is None:
        return None
    return ServerReading(pending, (queue_us or 0.0) / 1e6, answered)


def mean_wait_s(before: ServerReading, after: ServerReading) -> float | None:
    """Mean waiting of the requests answered between two readings, seconds; ``None``: none was."""
    answered, waited_s = after.answered - before.answered, after.queue_s - before.queue_s
    return waited_s / answered if answered > 0.0 and waited_s >= 0.0 else None
