"""Numbers of attachments, which say whose plans count when a device has gone from one replica to another.

A device is attached to one replica at a time. Every attachment has a number (its epoch; not a decision epoch) above all
earlier ones of the device: a plan of an older attachment is refused by the device, and a replica that hears of a newer
attachment elsewhere no longer speaks for the device. The device begins from its clock, so that numbers mostly grow over
its restarts, too; where they do not, the replica knows better and grants a higher one (its document of the device has
the newest). No order rests on clocks alone.
"""

from __future__ import annotations

MOST_EPOCH = 1 << 62
"""Larger numbers are refused, and none grows beyond it: whoever claims it for a device's name costs that device the
order of its attachments, and not its plans. Databases hold it."""


class AttachmentEpoch:
    """The device's side."""

    def __init__(self) -> None:
        self.current = 0
        """Number of the present attachment, or of the one that is tried; 0: none yet."""

    def begin(self, unix_ns: int) -> int:
        """The number to announce for a new attachment, begun at ``unix_ns`` by the device's clock."""
        self.current = min(max(self.current + 1, unix_ns // 1_000_000), MOST_EPOCH)
        return self.current

    def granted(self, epoch: int) -> None:
        """The replica has welcomed the device under ``epoch``; 0: it numbers no attachments."""
        self.current = max(self.current, epoch)

    def is_stale(self, epoch: int) -> bool:
        """Whether what was made for ``epoch`` is of an earlier attachment; 0, of a twin that numbers none, is not."""
        return 0 < epoch < self.current
