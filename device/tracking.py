"""Times and rates that a device tracks while it works: segments, exits, encoders, uplink. Sans-IO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


class Tracker:
    """Running means, started from a measured profile."""

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
        self.goodput_bytes_per_s: float | None = None
        """Uplink; ``None``: nothing was sent yet."""
        self.round_trip_s: float | None = None
        """To the edge and back without payload or service; ``None``: unknown."""
        self._link_free_at_s = float("-inf")
        self._at_old_speed = self._times()

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

    def round_trip_measured(self, seconds: float) -> None:
        """A message without payload went to the edge and back in ``seconds``."""
        known = self.round_trip_s
        # A round trip is at best as long as the way; what is longer met something on it, and counts little.
        self.round_trip_s = (
            seconds if known is None or seconds < known else known + _ROUND_TRIP_CREEP * (seconds - known)
        )

    def upload_done(self, sent_at_s: float, answered_at_s: float, edge_s: float, wire_bytes: int) -> float:
        """A payload of ``wire_bytes`` was answered; ``edge_s``: waiting and service as the edge measured them.

        The uplink is a FIFO: a payload starts when it is handed over and the ones before it are through. Returns how
        long the payload itself was being sent, seconds.
        """
        way_s = (self.round_trip_s or 0.0) / 2.0
        left_at_s = answered_at_s - edge_s - 2.0 * way_s
        started_at_s = max(sent_at_s, self._link_free_at_s)
        self._link_free_at_s = max(self._link_free_at_s, left_at_s)
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

    def expected_transmission_s(self, wire_bytes: int) -> float | None:
        """Time to send so many bytes at the tracked goodput; ``None``: nothing was sent yet."""
        return None if self.goodput_bytes_per_s is None else wire_bytes / self.goodput_bytes_per_s

    def _times(self) -> tuple[list[float], list[float], dict[tuple[int, int], float]]:
        return list(self.segment_s), list(self.exit_s), dict(self.encode_s)
