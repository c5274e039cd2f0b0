"""Backlogs of all edges over the last two minutes, for a page that is opened only now. Sans-IO and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from twin_service.edge_twin import EdgeTwin

EVERY_S = 1.0
"""A sample is to be taken so often."""
KEPT_SAMPLES = 120
"""Of each edge; two minutes, as the page draws."""


class Sample(NamedTuple):
    """What was known of an edge's backlog at one instant, seconds of service."""

    at_s: float
    """On the twin's clock."""
    predicted_s: float | None
    """``None``: the edge was detached."""
    reported_s: float | None
    """``None``: the edge had reported nothing since the sample before."""


class BacklogHistory:
    """The newest samples of those edges that the twin keeps."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[Sample]] = {}

    def take(self, edges: Mapping[str, EdgeTwin], now_s: float) -> None:
        """Sample all edges; one that the twin has forgotten is forgotten here."""
        self._samples = {edge_id: self._samples.get(edge_id) or deque(maxlen=KEPT_SAMPLES) for edge_id in edges}
        for edge_id, samples in self._samples.items():
            edge = edges[edge_id]
            field = edge.backlog_field()
            is_new = not samples or field.reported_at_s > samples[-1].at_s
            predicted_s = edge.backlog_s(now_s) if edge.is_attached else None
            samples.append(Sample(now_s, predicted_s, field.reported if is_new else None))

    def documents(self, unix_offset_s: float) -> Iterator[dict[str, Any]]:
        """Each edge with its samples, oldest first; ``unix_offset_s``: Unix time less the twin's clock."""
        for edge_id, samples in sorted(self._samples.items()):
            points = [[round(each.at_s + unix_offset_s, 3), *each[1:]] for each in samples]
            yield {"id": edge_id, "points": points}
