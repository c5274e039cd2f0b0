"""Several replicas of the twin read as one: each device by the replica that speaks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from twin_service.reader import TwinReader, reading
from twin_service.views import DeviceView, EdgeView, Listing
from twinsplit.errors import TwinsplitError
from twinsplit.transport.tls import TlsFiles

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the replicas that answer know."""

    listings: Mapping[str, Listing]
    """By address of the replica."""
    failures: Mapping[str, TwinsplitError]
    """Why others do not answer."""

    @property
    def rules(self) -> tuple[str, ...]:
        """Rules in force; more than one is a mistake of whoever started the replicas."""
        return tuple(dict.fromkeys(listing.rule for listing in self.listings.values()))

    def devices(self) -> list[tuple[str, DeviceView]]:
        """Every device once, by name, with the replica that knows best."""
        best: dict[str, tuple[str, DeviceView]] = {}
        for address, listing in self.listings.items():
            for view in listing.devices:
                known = best.get(view.device_id)
                if known is None or _knows(view) > _knows(known[1]):
                    best[view.device_id] = (address, view)
        return [best[device_id] for device_id in sorted(best)]

    def edges(self) -> list[tuple[int, EdgeView]]:
        """Every edge once, by name, with the number of replicas that it is attached to."""
        attached: dict[str, int] = {}
        best: dict[str, EdgeView] = {}
        for listing in self.listings.values():
            for view in listing.edges:
                attached[view.edge_id] = attached.get(view.edge_id, 0) + view.is_attached
                if view.edge_id not in best or (view.is_attached and not best[view.edge_id].is_attached):
                    best[view.edge_id] = view
        return [(attached[edge_id], best[edge_id]) for edge_id in sorted(best)]


async def read_fleet(replicas: Sequence[str], tls: TlsFiles) -> Fleet:
    """What the replicas at these addresses know."""
    listings, failures = await _asked(replicas, tls, lambda reader: reader.listing())
    return Fleet(listings, failures)


async def read_device(
    replicas: Sequence[str], tls: TlsFiles, device_id: str, older_than_s: float | None
) -> tuple[str, DeviceView, bool]:
    """The replica that speaks for a device, its twin there, and whether the device itself was asked.

    Raises:
        UnknownTwinError, PeerError: no replica knows it; the error of the first.
    """
    views, failures = await _asked(
        replicas, tls, lambda reader: reader.device(device_id, live_if_older_than_s=older_than_s)
    )
    if not views:
        raise next(iter(failures.values()))
    address = max(views, key=lambda each: _knows(views[each][0]))
    return (address, *views[address])


async def _asked(
    replicas: Sequence[str], tls: TlsFiles, ask: Callable[[TwinReader], Coroutine[Any, Any, T]]
) -> tuple[dict[str, T], dict[str, TwinsplitError]]:
    async def one(address: str) -> T | TwinsplitError:
        try:
            async with reading(address, tls) as reader:
                return await ask(reader)
        except TwinsplitError as error:
            return error

    found = dict(zip(replicas, await asyncio.gather(*map(one, replicas)), strict=True))
    failures = {address: each for address, each in found.items() if isinstance(each, TwinsplitError)}
    return {address: each for address, each in found.items() if not isinstance(each, TwinsplitError)}, failures


def _knows(view: DeviceView) -> tuple[bool, int]:
    # Of two that hold it to be attached, the one with the older attachment has not heard yet that it went.
    return view.is_attached, view.attachment_epoch
