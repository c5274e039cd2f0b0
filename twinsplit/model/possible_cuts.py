"""The places where an ONNX file could be cut, as rows of a table. Needs onnx, as do all modules that cut."""

from __future__ import annotations

from twinsplit.model.build import CutSettings, chosen_cuts
from twinsplit.model.cuts import find_cuts, total_macs
from twinsplit.model.graph import Network
from twinsplit.model.inspection import CutPoint


def points_of_network(network: Network, cutting: CutSettings) -> list[CutPoint]:
    """Input, every possible cut and output of an ONNX file; those that a split with ``cutting`` would make are marked.

    Raises:
        UnsupportedModelError: a cut asked for is not possible.
    """
    candidates = find_cuts(network)
    chosen = {c.tensor.name for c in chosen_cuts(network, candidates, cutting)}
    total = total_macs(network)
    depth = len(network.nodes)

    def share(macs: int, at: int) -> float:
        return macs / total if total else at / depth

    rows = [(network.input, 0, 0), *((c.tensor, c.depth, c.macs_before) for c in candidates)]
    rows.append((network.output, depth, total))
    return [
        CutPoint(
            name=spec.name,
            label=str(at),
            depth=at,
            shape=spec.shape,
            dtype=spec.dtype,
            size_bytes=spec.size_bytes,
            smallest_bytes=None,
            compute_share=share(macs, at),
            is_chosen=spec.name in chosen,
        )
        for spec, at, macs in rows
    ]
