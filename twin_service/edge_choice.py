"""Which edge a device's plan names."""

from __future__ import annotations

from collections.abc import Iterable

from twin_service.edge_twin import EdgeTwin


def chosen_edge(
    edges: Iterable[EdgeTwin],
    model_digest: str,
    *,
    tail_count: int,
    fixed_address: str | None,
    current_id: str | None,
    margin_s: float,
) -> EdgeTwin | None:
    """The attached edge that holds the model and is expected to finish an input soonest; ``None``: there is none.

    A device that was told its edge gets that one or none. The edge of the standing plan stays unless another promises
    to be faster by more than ``margin_s``, so that plans do not flap between equal edges.
    """
    best: EdgeTwin | None = None
    best_s = float("inf")
    for edge in edges:
        tails_s = edge.tail_s(model_digest)
        if tails_s is None or len(tails_s) != tail_count or not edge.is_attached:
            continue
        if fixed_address is not None and fixed_address not in edge.addresses:
            continue
        expected_s = edge.reading.mean_s + tails_s[0] - (margin_s if edge.edge_id == current_id else 0.0)
        if expected_s < best_s:
            best, best_s = edge, expected_s
    return best
