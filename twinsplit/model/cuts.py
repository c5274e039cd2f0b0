"""Where a network can be cut, and which few of those places are worth it.

A cut is possible at a tensor that every path from the input to the output goes through: then exactly one tensor is
alive there. Constants do not count, since they go along with whatever needs them. Paths are counted rather than
liveness in the file's order, so interleaved branches hide no cut.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from twinsplit.errors import UnsupportedModelError
from twinsplit.model.compute import node_macs
from twinsplit.model.graph import Network, Node, node_inputs
from twinsplit.model.manifest import TensorSpec

DEFAULT_MAX_SEGMENTS = 8
_SIZE_WEIGHT = 0.02
_CUT_COST = 0.002
_SKIP_COST = 0.04
_SUMS = frozenset({"Add", "Sum"})


@dataclass(frozen=True, slots=True)
class CutCandidate:
    """One tensor at which the network can be cut."""

    tensor: TensorSpec
    size_bytes: int
    macs_before: int
    """MACs of everything before it."""
    depth: int
    """Operators before it that depend on the input."""
    starts_skip: bool = False
    """A skip connection starts at it. The sum at its end cannot be fused with a convolution then, nor can those of the
    blocks after it, up to one whose skip has a convolution: on ResNet-50 two such cuts cost 4 % of the time."""


def find_cuts(network: Network) -> list[CutCandidate]:
    """Every inner tensor at which exactly one tensor is alive, from input to output."""
    from_input = _path_counts(network, backwards=False)
    to_output = _path_counts(network, backwards=True)
    total = from_input[network.output.name]
    summed = {name for node in network.nodes if node.op_type in _SUMS for name in node.input}
    candidates = []
    macs = 0
    # Nodes before a dominating tensor all precede it in some order; the running sums need that order.
    ordered = _order_by_cuts(network, {name for name, n in from_input.items() if n * to_output[name] == total})
    for depth, (node, names) in enumerate(ordered, start=1):
        macs += node_macs(node, network.specs)
        for name in names:
            spec = network.specs.get(name)
            if spec is not None and name != network.output.name:
                candidates.append(CutCandidate(spec, spec.size_bytes, macs, depth, name in summed))
    return candidates


def total_macs(network: Network) -> int:
    """MACs of the whole network."""
    return sum(node_macs(node, network.specs) for node in network.nodes)


def resolve_cuts(network: Network, candidates: Sequence[CutCandidate], names: Iterable[str]) -> list[CutCandidate]:
    """Candidates for tensors or nodes called ``names``, from input to output, each once.

    Raises:
        UnsupportedModelError: no such tensor or node, or more than one tensor is alive there; the text names them.
    """
    by_name = {c.tensor.name: c for c in candidates}
    chosen: set[str] = set()
    for name in names:
        tensor = _tensor_called(network, name)
        if tensor not in by_name:
            raise UnsupportedModelError(f"cannot cut at '{name}': {_reason(network, tensor)}")
        chosen.add(tensor)
    return [c for c in candidates if c.tensor.name in chosen]


def tensors_called(network: Network, names: Iterable[str]) -> set[str]:
    """Tensor names for tensors or nodes called ``names``.

    Raises:
        UnsupportedModelError: no such tensor or node.
    """
    return {_tensor_called(network, name) for name in names}


def choose_cuts(
    network: Network,
    candidates: Sequence[CutCandidate],
    *,
    max_segments: int = DEFAULT_MAX_SEGMENTS,
    never: Iterable[str] = (),
) -> list[CutCandidate]:
    """At most ``max_segments - 1`` cuts that balance compute and prefer small tensors, from input to output.

    Between two operators that compute, only the place with the fewest bytes is looked at, and of several the last one,
    so that a convolution keeps its activation and pooling. Among these places dynamic programming finds the set with
    the least sum of squared shares of compute and prices per cut, for the bytes of its tensor and for a skip
    connection that starts at it.
    """
    excluded = set(never)
    places = _places(network, [c for c in candidates if c.tensor.name not in excluded])
    total = float(total_macs(network)) or float(len(network.nodes))
    input_bytes = network.input.size_bytes

    def share(c: CutCandidate) -> float:
        return (c.macs_before if total_macs_known else c.depth) / total

    total_macs_known = total_macs(network) > 0
    prices = [
        _CUT_COST + _SKIP_COST * c.starts_skip + _SIZE_WEIGHT * math.log2(1.0 + c.size_bytes / input_bytes)
        for c in places
    ]
    starts = [0.0, *(share(c) for c in places)]
    # best[s][i]: least cost of the part before place i (0: the input) cut into s segments.
    best: list[dict[int, tuple[float, int]]] = [{0: (0.0, 0)}]
    for _ in range(min(max_segments - 1, len(places))):
        row: dict[int, tuple[float, int]] = {}
        for i, price in enumerate(prices, start=1):
            options = [(cost + (starts[i] - starts[j]) ** 2 + price, j) for j, (cost, _) in best[-1].items() if j < i]
            if options:
                row[i] = min(options)
        best.append(row)
    _, segments, place = min(
        (cost + (1.0 - starts[i]) ** 2, s, i) for s, row in enumerate(best) for i, (cost, _) in row.items()
    )
    chosen = []
    while place:
        chosen.append(places[place - 1])
        place = best[segments][place][1]
        segments -= 1
    return chosen[::-1]


def segment_nodes(network: Network, cuts: Sequence[CutCandidate]) -> list[list[Node]]:
    """Nodes of every segment in running order, for the chosen ``cuts`` from input to output."""
    level = {network.input.name: 0}
    start_of = {c.tensor.name: k for k, c in enumerate(cuts, start=1)}
    segments: list[list[Node]] = [[] for _ in range(len(cuts) + 1)]
    for node in network.nodes:
        index = max((level[name] for name in node_inputs(node) if name in level), default=0)
        segments[index].append(node)
        for name in node.output:
            level[name] = start_of.get(name, index)
    return segments


def _places(network: Network, candidates: Sequence[CutCandidate]) -> list[CutCandidate]:
    total = total_macs(network)
    if total == 0:
        return list(candidates)
    groups: dict[int, CutCandidate] = {}
    for c in candidates:
        if 0 < c.macs_before < total:
            known = groups.get(c.macs_before)
            if known is None or c.size_bytes <= known.size_bytes:
                groups[c.macs_before] = c
    return list(groups.values())


def _path_counts(network: Network, *, backwards: bool) -> defaultdict[str, int]:
    """Number of paths from the input (or, backwards, to the output) for every tensor that is not constant."""
    counts: defaultdict[str, int] = defaultdict(int)
    if not backwards:
        counts[network.input.name] = 1
        for node in network.nodes:
            inputs = [name for name in node_inputs(node) if not network.is_constant(name)]
            # A node that reads nothing (a random one) is a source of its own.
            reached = sum(counts[name] for name in inputs) if inputs else 1
            for name in node.output:
                counts[name] = reached
        return counts
    counts[network.output.name] = 1
    for node in reversed(network.nodes):
        leaving = sum(counts[name] for name in node.output if name)
        for name in node_inputs(node):
            if not network.is_constant(name):
                counts[name] += leaving
    return counts


def _order_by_cuts(network: Network, dominating: set[str]) -> list[tuple[Node, list[str]]]:
    """Nodes so ordered that all before a dominating tensor precede it, each with the dominating tensors it ends in."""
    levels: dict[str, int] = {network.input.name: 0}
    ranked: list[tuple[int, int, Node, list[str]]] = []
    passed = 0
    rank_of: dict[str, int] = {}
    for position, node in enumerate(network.nodes):
        rank = max((levels[name] for name in node_inputs(node) if name in levels), default=0)
        ends = [name for name in node.output if name in dominating]
        if ends:
            passed += 1
            for name in ends:
                rank_of[name] = passed
        for name in node.output:
            levels[name] = rank_of.get(name, rank)
        ranked.append((rank, position, node, ends))
    # Within one rank the node that ends in the dominating tensor comes last: all others of the rank lead to it.
    ranked.sort(key=lambda entry: (entry[0], bool(entry[3]), entry[1]))
    return [(node, ends) for _, _, node, ends in ranked]


def _tensor_called(network: Network, name: str) -> str:
    for node in network.nodes:
        if name in node.output:
            return name
    for node in network.nodes:
        if node.name == name:
            return str(node.output[0])
    if name == network.input.name or network.is_constant(name):
        return name
    raise UnsupportedModelError(
        f"there is no tensor or node '{name}'; twinsplit model inspect FILE.onnx lists the cuts"
    )


def _reason(network: Network, tensor: str) -> str:
    if tensor == network.input.name:
        return "it is the input, which is cut 0 already"
    if network.is_constant(tensor):
        return "it is a constant"
    if tensor == network.output.name:
        return "it is the output"
    head = {tensor}
    for node in reversed(network.nodes):
        if head.intersection(node.output):
            head.update(node_inputs(node))
    alive: set[str] = set()
    for node in network.nodes:
        if not head.intersection(node.output):
            alive.update(name for name in node_inputs(node) if name in head and not network.is_constant(name))
    others = sorted(alive - {tensor})
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        return f"{', '.join(repr(o) for o in others[:3])}{more} would have to be sent along"
    return "its shape or element type is not fixed"
