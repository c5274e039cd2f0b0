"""The edges that the twin has listed, and what a table made for the plan's edge says of another one. Sans-IO.

A plan's table knows the backlog of one edge only. Another edge is as good as the plan's would be with some other
backlog: with that the same table is looked up, which weighs accuracy, energy and waiting as the plan does.
"""

from __future__ import annotations

from collections.abc import Iterator

from device.tracking import Tracker
from twinsplit.edge_list import ListedEdge
from twinsplit.reckoning import BacklogState, predicted_backlog_s


class EdgeList:
    """Edges in the twin's order, each with its newest backlog reading."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._edges: dict[str, ListedEdge] = {}
        self._backlogs: dict[str, BacklogState] = {}

    def __len__(self) -> int:
        return len(self._edges)

    def __iter__(self) -> Iterator[ListedEdge]:
        return iter(self._edges.values())

    @property
    def addresses(self) -> frozenset[str]:
        """Where they are reached."""
        return frozenset(self._edges)

    def find(self, address: str) -> ListedEdge | None:
        """The edge at ``address``; ``None``: it is not listed."""
        return self._edges.get(address)

    def replaced(self, edges: tuple[ListedEdge, ...]) -> None:
        """The twin lists these now."""
        self._edges = {edge.address: edge for edge in edges}
        heard = self._backlogs
        self._backlogs = {edge.address: edge.backlog for edge in edges}
        for address in heard.keys() & self._edges.keys():
            self.backlog_seen(heard[address], address)

    def backlog_seen(self, state: BacklogState, address: str) -> None:
        """A reading from an answer of the edge at ``address``; the newest one counts."""
        known = self._backlogs.get(address)
        if known is not None and state.at_s >= known.at_s:
            self._backlogs[address] = state

    def backlog_s(self, address: str, now_s: float) -> float:
        """Backlog expected now at a listed edge, seconds."""
        return predicted_backlog_s(self._backlogs[address], now_s)

    def finish_s(self, address: str, cut: int, wire_bytes: float, now_s: float) -> float:
        """Time from now until a listed edge is expected to have answered a payload sent to it now, seconds."""
        busy_s = max(self._upload_s(address, wire_bytes), self.backlog_s(address, now_s))
        return busy_s + _tail_s(self._edges[address], cut)

    def as_plan_backlog_s(
        self, address: str, plan_address: str, payloads: list[tuple[int, float]], now_s: float
    ) -> float:
        """Backlog at the plan's edge with which it would answer when the edge at ``address`` is expected to, seconds.

        Args:
            payloads: (cut, bytes) of what may be sent; of several the one that this edge does worst with counts.
        """
        plan_edge = self._edges.get(plan_address, self._edges[address])
        return max(
            (self.finish_s(address, cut, size, now_s) - _tail_s(plan_edge, cut) for cut, size in payloads), default=0.0
        )

    def _upload_s(self, address: str, wire_bytes: float) -> float:
        transmission_s = self._tracker.expected_transmission_s(wire_bytes, address) or 0.0
        return transmission_s + (self._tracker.round_trip_to(address) or 0.0)


def _tail_s(edge: ListedEdge, cut: int) -> float:
    return edge.tail_s[cut] if cut < len(edge.tail_s) else 0.0
