"""Times and rates that a device tracks while it works: segments, exits, encoders, uplink. Sans-IO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

_WEIGHT = 1.0 / 16.0
_UPLINK_WEIGHT = 1.0 / 8.0
_UPLINK_CLIP = 4.0
_SMALLEST_SAMPLE_BYTES = 256
_SHORTEST_TRANSMISSION_S = 50e-6
_ROUND_TRIP_CREEP = 1.0 / 64.0
_NOTICEABLE_SPEED = 0.1
"""A speed that differs by a smaller share is as good as the one before."""


def tracked(mean: float, sample: float, weight: float = _WEIGHT, clip: float = 2.0) -> float:
    """Exponentially weighted mean.

    A sample counts as at most ``clip`` times the mean and at least one ``clip``-th of it, so that one hiccup of the
    machine does not move it far, while a lasting change does.
    """
    if mean <= 0.0:
        return sample
    return mean + weight * (min(max(sample, mean / clip), mean * clip) - mean)


class Link:
    """The way to one edge: a FIFO with its goodput and round trip."""

    def __init__(self) -> None:
        self.goodput_bytes_per_s: float | None = None
        """``None``: nothing was sent yet."""
        self.round_trip_s: float | None = None
        """To the edge and back without payload or service; ``None``: unknown."""
        self._free_at_s = float("-inf")

    def round_trip_measured(self, seconds: float) -> None:
        """A message without payload went to the edge and back in ``seconds``."""
        known = self.round_trip_s
        # A round trip is at best as long as the way; what is longer met something on it, and counts little.
        self.round_trip_s = (
            seconds if known is None or seconds < known else known + _ROUND_TRIP_CREEP * (seconds - known)
        )

    def upload_done(
        self, sent_at_s: float, answered_at_s: float, edge_s: float, wire_bytes: int, way_s: float
    ) -> float:
        """See :meth:`Tracker.upload_done`; ``way_s``: to the edge without payload."""
        left_at_s = answered_at_s - edge_s - 2.0 * way_s
        started_at_s = max(sent_at_s, self._free_at_s)
        self._free_at_s = max(self._free_at_s, left_at_s)
        transmission_s = max(left_at_s - started_at_s, _SHORTEST_TRANSMISSION_S)
        if wire_bytes < _SMALLEST_SAMPLE_BYTES:
            return transmission_s
        rate = wire_bytes / transmission_s
        known = self.goodput_bytes_per_s
        # Means are taken over time per byte: a few instant samples must not hide a slow link.
        self.goodput_bytes_per_s = (
            rate if known is None else 1.0 / tracked(1.0 / known, 1.0 / rate, _UPLINK_WEIGHT, _UPLINK_CLIP)
        )
        return transmission_s


class Tracker:
    """Running means, started from a measured profile.

    Every edge has its own link. What is not known of a link is taken from the profile, and its goodput from the link
    measured last: the first hop is the same for all.
    """

    def __init__(
        self,
        segment_s: Sequence[float],
        exit_s: Sequence[float],
        encode_s: Mapping[tuple[int, int], float],
        *,
        speed_share: float = 1.0,
    ) -> None:
        """
        Args:
            speed_share: speed of the processor over its full speed, at which these times were measured.
        """
        self.segment_s = list(segment_s)
        """By segment index, seconds."""
        self.exit_s = list(exit_s)
        """By exit index, seconds."""
        self.encode_s = dict(encode_s)
        """(cut, position of the representation) to seconds."""
        self.speed_share = speed_share
        """Speed of the processor over its full speed, for which all these times hold."""
        self.edge_address = ""
        """The edge that is meant where none is named: the plan's; empty: no edge in particular."""
        self._links: dict[str, Link] = {"": Link()}
        self._measured_last = self._links[""]
        self._at_old_speed = self._times()

    @property
    def goodput_bytes_per_s(self) -> float | None:
        """Uplink to the plan's edge; ``None``: nothing was sent yet."""
        return self.goodput_to(self.edge_address)

    @goodput_bytes_per_s.setter
    def goodput_bytes_per_s(self, value: float | None) -> None:
        self.link(self.edge_address).goodput_bytes_per_s = value

    @property
    def round_trip_s(self) -> float | None:
        """To the plan's edge and back without payload or service; ``None``: unknown."""
        return self.round_trip_to(self.edge_address)

    @round_trip_s.setter
    def round_trip_s(self, value: float | None) -> None:
        self.link(self.edge_address).round_trip_s = value

    def link(self, address: str) -> Link:
        """The way to the edge at ``address``, with what was measured on it."""
        return self._links.setdefault(address, Link())

    def goodput_to(self, address: str) -> float | None:
        """Goodput to expect on the way to an edge, bytes per second; ``None``: nothing was sent anywhere yet."""
        link = self._links.get(address)
        known = None if link is None else link.goodput_bytes_per_s
        return self._measured_last.goodput_bytes_per_s if known is None else known

    def round_trip_to(self, address: str) -> float | None:
        """Round trip to expect to an edge, seconds; ``None``: unknown."""
        link = self._links.get(address)
        known = None if link is None else link.round_trip_s
        return self._links[""].round_trip_s if known is None else known

    def keep_links(self, addresses: Set[str]) -> None:
        """Forget the ways to all other edges."""
        for gone in self._links.keys() - addresses - {"", self.edge_address}:
            del self._links[gone]

    def speed_seen(self, share: float) -> bool:
        """The processor runs at ``share`` of its full speed; whether that is another than before.

        All times are made to fit it at once, from how they stood when the old speed was last seen: what was measured
        since may be of either speed. What is measured from now on only confirms or corrects them, so that nothing is
        counted twice.
        """
        slower = self.speed_share / share
        is_new = abs(slower - 1.0) > _NOTICEABLE_SPEED
        if is_new:
            segment_s, exit_s, encode_s = self._at_old_speed
            self.segment_s = [slower * s for s in segment_s]
            self.exit_s = [slower * s for s in exit_s]
            self.encode_s = {key: slower * s for key, s in encode_s.items()}
            self.speed_share = share
        self._at_old_speed = self._times()
        return is_new

    def segment_done(self, index: int, seconds: float) -> None:
        """A segment took ``seconds``."""
        self.segment_s[index] = tracked(self.segment_s[index], seconds)

    def exit_done(self, index: int, seconds: float) -> None:
        """An exit took ``seconds``."""
        self.exit_s[index] = tracked(self.exit_s[index], seconds)

    def encode_done(self, cut: int, representation_index: int, seconds: float) -> None:
        """Encoding took ``seconds``."""
        key = (cut, representation_index)
        self.encode_s[key] = tracked(self.encode_s.get(key, 0.0), seconds)

    def round_trip_measured(self, seconds: float, address: str | None = None) -> None:
        """A message without payload went to an edge and back in ``seconds``; ``address`` ``None``: to the plan's."""
        self.link(self.edge_address if address is None else address).round_trip_measured(seconds)

    def upload_done(
        self, sent_at_s: float, answered_at_s: float, edge_s: float, wire_bytes: int, address: str | None = None
    ) -> float:
        """A payload of ``wire_bytes`` was answered; ``edge_s``: waiting and service as the edge measured them;
        ``address`` ``None``: by the plan's edge.

        The uplink is a FIFO: a payload starts when it is handed over and the ones before it are through. Returns how
        long the payload itself was being sent, seconds.
        """
        address = self.edge_address if address is None else address
        link = self.link(address)
        if link.goodput_bytes_per_s is None:
            link.goodput_bytes_per_s = self._links[""].goodput_bytes_per_s
        way_s = (self.round_trip_to(address) or 0.0) / 2.0
        transmission_s = link.upload_done(sent_at_s, answered_at_s, edge_s, wire_bytes, way_s)
        if link.goodput_bytes_per_s is not None:
            self._measured_last = link
        return transmission_s

    def expected_transmission_s(self, wire_bytes: float, address: str | None = None) -> float | None:
        """Time to send so many bytes at the tracked goodput; ``None``: nothing was sent yet."""
        goodput = self.goodput_to(self.edge_address if address is None else address)
        return None if goodput is None else wire_bytes / goodput

    def _times(self) -> tuple[list[float], list[float], dict[tuple[int, int], float]]:
        return list(self.segment_s), list(self.exit_s), dict(self.encode_s)
