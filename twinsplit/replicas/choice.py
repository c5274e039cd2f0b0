"""Which replica of the twin a device attaches to, when it goes elsewhere, and when it comes back. Sans-IO.

A device prefers replicas by rendezvous hashing (:mod:`twinsplit.replicas.rendezvous`). One whose stream ends is tried
once more; if it does not answer, the device goes to the next one that has not failed, at an instant drawn from a
second, so that a lost replica's devices do not arrive as one crowd. While it is away it looks at those that it prefers,
and returns to one that has answered every look for a while. That while doubles with every return that did not last: a
replica that comes and goes does not make its devices come and go.

Whoever runs it carries out what it says: :meth:`ReplicaChoice.next` names the replica to attach to, and
:meth:`ReplicaChoice.to_look_at` those to be looked at. Instants are seconds on the caller's monotonic clock.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from twinsplit.replicas.rendezvous import ranked
from twinsplit.transport.back_off import STEADY_S, reconnect_delay_s

SPREAD_S = 1.0
"""Devices of a lost replica go to others within so long, each at its own instant; far less than a lease."""
LOOK_FIRST_S = 1.0
LOOK_LAST_S = 10.0
"""Time between two looks at a replica, and what it grows to while the replica does not answer: so its devices find that
it is back, and return, at different times."""
RETURN_AFTER_S = 5.0
"""A replica that has answered all looks for so long is returned to."""
LOOKS_WHILE_UP = 3
"""In that time it is looked at so often at least: rarely, since many devices look at one that has just come back."""
RETURN_LAST_S = 300.0
"""What that time grows to."""
SETTLED_S = 60.0
"""A return that lasts so long was none to be sorry for."""


class Next(NamedTuple):
    """The replica to attach to, and the pause before."""

    address: str
    wait_s: float


@dataclass(slots=True)
class _Standing:
    """What is known of one replica."""

    failures: int = 0
    """Tries in a row that failed; above 0 it is chosen only where all have failed."""
    not_before_s: float = -math.inf
    look_at_s: float = -math.inf
    looks_failed: int = 0
    up_since_s: float | None = None
    """Instant of the first of the looks that it answered without a miss; ``None``: it missed the last one."""
    short_returns: int = 0


class ReplicaChoice:
    """One device's choice among replicas.

    Args:
        device_id: whose choice it is.
        replicas: addresses, at least one.
        rng: draws pauses.
    """

    def __init__(self, device_id: str, replicas: Iterable[str], rng: random.Random) -> None:
        self._device_id = device_id
        self._rng = rng
        self._ranked: tuple[str, ...] = ()
        self._standings: dict[str, _Standing] = {}
        self._current: str | None = None
        self._welcomed_at_s: float | None = None
        self._is_leaving = False
        self._is_silent = False
        self._returned_to: str | None = None
        self._last_welcome: str | None = None
        self._untold: set[str] = set()
        self._spread_until_s = -math.inf
        self.moves = 0
        """How often the device was welcomed by another replica than the time before."""
        self.listed(replicas, -math.inf)

    @property
    def ranked(self) -> tuple[str, ...]:
        """All replicas, the preferred one first."""
        return self._ranked

    @property
    def current(self) -> str | None:
        """The replica that is attached to, or was tried last; ``None``: none yet."""
        return self._current

    @property
    def is_attached(self) -> bool:
        """Whether :attr:`current` has welcomed the device on a stream that is open."""
        return self._welcomed_at_s is not None

    @property
    def is_leaving(self) -> bool:
        """Whether the stream to :attr:`current` ends, or has ended, since the device should be elsewhere."""
        return self._is_leaving

    @property
    def failures(self) -> int:
        """How many tries of :attr:`current` have failed in a row."""
        standing = self._standings.get(self._current or "")
        return 0 if standing is None else standing.failures

    @property
    def has_alternative(self) -> bool:
        """Whether there is another replica than :attr:`current` that has not failed."""
        return any(not each.failures for address, each in self._standings.items() if address != self._current)

    @property
    def untold(self) -> frozenset[str]:
        """Replicas that may still hold the device to be attached to them, and are to be told where it is."""
        return frozenset(self._untold)

    def listed(self, replicas: Iterable[str], now_s: float) -> bool:
        """These are the replicas now; whether the one in use is to be left, since it is not among them."""
        self._ranked = ranked(self._device_id, replicas)
        assert self._ranked, "a list of replicas is never empty"
        self._standings = {address: self._standings.get(address, _Standing()) for address in self._ranked}
        self._untold &= set(self._ranked)
        if self._current is None or self._current in self._standings:
            return False
        self._spread(now_s)
        self._is_leaving = True
        return True

    # Attaching.

    def next(self, now_s: float) -> Next:
        """The replica to attach to now or, where the pause is above 0, to ask for again after it."""
        good = next((address for address in self._ranked if not self._standings[address].failures), None)
        address = good or min(self._ranked, key=lambda each: self._standings[each].not_before_s)
        due_s = self._standings[address].not_before_s
        if address != self._current:
            due_s = max(due_s, self._spread_until_s)
        return Next(address, max(0.0, due_s - now_s))

    def trying(self, address: str) -> None:
        """A stream to ``address`` is being made."""
        self._current = address
        self._is_leaving = self._is_silent = False

    def welcomed(self, now_s: float) -> None:
        """The replica that was tried has welcomed the device."""
        self._welcomed_at_s = now_s
        if self._last_welcome not in (None, self._current):
            self.moves += 1
            if self._last_welcome in self._standings:
                self._untold.add(str(self._last_welcome))
        self._untold.discard(str(self._current))
        self._last_welcome = self._current
        for standing in self._standings.values():
            # Nobody looked while the device was not attached.
            standing.up_since_s = None

    def silent(self) -> None:
        """The replica in use says nothing any more, and its stream is being ended: that is a failure of it."""
        self._is_silent = True

    def ended(self, now_s: float) -> None:
        """The stream to the replica that was tried or attached to has ended."""
        welcomed_at_s, self._welcomed_at_s = self._welcomed_at_s, None
        lived_s = 0.0 if welcomed_at_s is None else now_s - welcomed_at_s
        returned_to, self._returned_to = self._returned_to, None
        if self._is_leaving and returned_to is not None:
            self._returned_to = returned_to
        standing = self._standings.get(self._current or "")
        if standing is None:
            return
        if lived_s >= SETTLED_S:
            standing.short_returns = 0
        elif returned_to == self._current:
            standing.short_returns += 1
        if self._is_leaving:
            return
        if lived_s > STEADY_S and not self._is_silent:
            standing.failures = 0
        else:
            standing.failures += 1
            if standing.failures == 1:
                self._spread(now_s)
        standing.not_before_s = now_s + reconnect_delay_s(standing.failures, self._rng)

    # Looking around.

    def to_look_at(self, now_s: float) -> tuple[str, ...]:
        """Replicas to look at now: those preferred to the present one, and those to be told where the device is."""
        if not self.is_attached or self._is_leaving:
            return ()
        better = self._ranked[: self._ranked.index(str(self._current))]
        return tuple(
            address
            for address in self._ranked
            if (address in better or address in self._untold) and self._standings[address].look_at_s <= now_s
        )

    def told(self, address: str) -> None:
        """The replica at ``address`` knows that the device is elsewhere."""
        self._untold.discard(address)

    def looked(self, address: str, now_s: float, *, is_up: bool) -> bool:
        """A look at a replica has shown whether it answers; whether the present one is to be left for it."""
        standing = self._standings.get(address)
        if standing is None or not self.is_attached or self._is_leaving or address == self._current:
            return False
        return_after_s = min(RETURN_AFTER_S * 2.0 ** min(standing.short_returns, 16), RETURN_LAST_S)
        if is_up:
            standing.looks_failed = 0
            standing.up_since_s = now_s if standing.up_since_s is None else standing.up_since_s
            pause_s = return_after_s / LOOKS_WHILE_UP
        else:
            standing.looks_failed += 1
            standing.up_since_s = None
            standing.failures = max(standing.failures, 1)
            pause_s = LOOK_FIRST_S * 2.0 ** min(standing.looks_failed, 16)
        standing.look_at_s = now_s + min(pause_s, LOOK_LAST_S) * self._rng.uniform(0.5, 1.0)
        is_better = self._ranked.index(address) < self._ranked.index(str(self._current))
        if standing.up_since_s is None or not is_better or now_s < standing.up_since_s + return_after_s:
            return False
        standing.failures, standing.not_before_s = 0, now_s
        self._returned_to, self._is_leaving = address, True
        return True

    def _spread(self, now_s: float) -> None:
        self._spread_until_s = now_s + self._rng.uniform(0.0, SPREAD_S)
