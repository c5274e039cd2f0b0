"""The edges that the twin keeps, and which of them a device may use. Sans-IO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from twin_service.device_twin import DeviceTwin
from twin_service.edge_twin import EdgeTwin

_MOST_ANSWERS = 4096
"""Answers kept; devices that were told their edges ask in as many ways as there are edges."""


class Edges(Mapping[str, EdgeTwin]):
    """Edges by name. What a device may use is found once for all devices alike, however many edges there are."""

    def __init__(self, most: int = 256) -> None:
        """``most``: edges kept; beyond it the first detached one is forgotten."""
        self._most = most
        self._by_id: dict[str, EdgeTwin] = {}
        self._usable: dict[tuple[str, int, str | None], tuple[EdgeTwin, ...]] = {}

    def __getitem__(self, edge_id: str) -> EdgeTwin:
        return self._by_id[edge_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def attach(self, edge: EdgeTwin) -> str | None:
        """An edge is there, perhaps anew; the name of another one that is forgotten for it."""
        self._usable.clear()
        self._by_id[edge.edge_id] = edge
        if len(self._by_id) <= self._most:
            return None
        gone = next((edge_id for edge_id, each in self._by_id.items() if not each.is_attached), None)
        if gone is not None:
            del self._by_id[gone]
        return gone

    def detach(self, edge: EdgeTwin) -> None:
        """An edge is not to be used until it attaches again."""
        self._usable.clear()
        edge.is_attached = False

    def usable(self, device: DeviceTwin) -> tuple[EdgeTwin, ...]:
        """Attached edges that hold the device's model. A device that was told its edge gets that one or none."""
        hello, manifest = device.status.hello, device.status.manifest
        if manifest is None:
            return ()
        asked = (hello.model_digest, manifest.segment_count, hello.fixed_edge_address)
        found = self._usable.get(asked)
        if found is None:
            if len(self._usable) >= _MOST_ANSWERS:
                self._usable.clear()
            found = self._usable[asked] = tuple(edge for edge in self._by_id.values() if _is_usable(edge, *asked))
        return found

    def usable_by(self, device: DeviceTwin, edge_id: str) -> EdgeTwin | None:
        """The edge of that name; ``None``: there is none that the device may use."""
        edge, manifest, hello = self._by_id.get(edge_id), device.status.manifest, device.status.hello
        if edge is None or manifest is None:
            return None
        is_usable = _is_usable(edge, hello.model_digest, manifest.segment_count, hello.fixed_edge_address)
        return edge if is_usable else None

    def planned(self, device: DeviceTwin) -> EdgeTwin | None:
        """The edge that the standing plan of a device names, if it may use it; ``None``: there is no such one."""
        edge_id = None if device.standing is None else device.standing.plan.edge_id
        return None if edge_id is None else self.usable_by(device, edge_id)


def _is_usable(edge: EdgeTwin, model_digest: str, segment_count: int, address: str | None) -> bool:
    tail_s = edge.models.get(model_digest)
    holds_model = tail_s is not None and len(tail_s) == segment_count
    return edge.is_attached and holds_model and (address is None or address in edge.addresses)
