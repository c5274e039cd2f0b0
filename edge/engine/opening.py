"""A remote engine put together: connect, wait for a back end that has the tails, measure them there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from edge.engine.address import EngineAddress
from edge.engine.back_end import BackEnd
from edge.engine.back_end_load import BackEndLoad
from edge.engine.measurement import asked_of, parallelism_and_factor, read_models, with_tail_times
from edge.engine.pages import PageWatch
from edge.engine.probe import Probe
from edge.engine.queue import EngineQueue
from edge.engine.remote import RemoteEngine
from edge.models import HeldModel
from edge.tail_work import TailWork
from twinsplit.clock import Clock
from twinsplit.errors import PeerError, SettingsError
from twinsplit.telemetry.logs import EventLog
from twinsplit.transport.limits import model_message_bytes
from twinsplit.transport.tls import TlsFiles

_log = EventLog("edge.engine")

WAIT_S = 120.0
"""An edge whose engines do not come up for so long ends; whoever keeps services up starts it again."""
_ASK_AGAIN_S = 0.5


async def open_remote_engine(
    address: EngineAddress,
    *,
    models_root: Path,
    tls: TlsFiles,
    in_flight: int,
    capacity: int,
    pages: Sequence[str],
    clock: Clock,
    wait_s: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[dict[str, HeldModel], RemoteEngine]:
    """Models by digest with the times of their tails, and the engine that runs them.

    Args:
        address: Where the back ends are.
        models_root: Where the manifests are; no segment is loaded.
        tls: For ``oips://``.
        in_flight: Tails under way at each back end at most.
        capacity: Tails that may wait here.
        pages: Prometheus pages of the back ends, in their order; none: none is read.
        wait_s: How long to wait for the first back end; ``None``: two minutes.
        progress: Told a line for people before what takes time.

    Raises:
        ModelError: see :func:`edge.engine.measurement.read_models`.
        PeerError: no back end has all tails within ``wait_s``.
        SettingsError: pages for other than all back ends.
    """
    if pages and len(pages) != len(address.back_ends):
        raise SettingsError(
            f"--engine has {len(address.back_ends)} servers and --engine-metrics {len(pages)} pages; give one for "
            "each, in the same order"
        )
    models = read_models(models_root, clock)
    asked = asked_of(list(models.values()))
    largest = model_message_bytes(m.manifest for m in models.values())
    back_ends = [BackEnd(each, tls if address.is_tls else None, largest) for each in address.back_ends]
    if progress is not None:
        progress(f"waiting for an engine that has {len(asked)} tails: {', '.join(address.back_ends)}")
    try:
        first = await _first_ready(back_ends, asked, WAIT_S if wait_s is None else wait_s, clock)
        for digest, model in models.items():
            if progress is not None:
                progress(f"measuring {model.title} at {first.address}")
            models[digest] = await with_tail_times(model, first, clock)
    except BaseException:
        await asyncio.gather(*(back_end.close() for back_end in back_ends))
        raise
    tail_s = {digest: model.tail_s for digest, model in models.items()}
    every = [time_s for times in tail_s.values() for time_s in times]
    loads: list[BackEndLoad[TailWork]] = [
        BackEndLoad(place, in_flight, sum(every) / len(every)) for place in range(len(back_ends))
    ]
    queue = EngineQueue(capacity, tail_s, loads, clock.monotonic_s())
    largest_model = max(models.values(), key=lambda model: sum(model.segment_s))
    probes = [
        Probe(place, back_end, asked, _measuring(loads[place], largest_model, back_end, in_flight, clock))
        for place, back_end in enumerate(back_ends)
    ]
    # One after the other: they may share this machine, and what is measured is how fast each is by itself.
    for probe in probes:
        queue.set_ready(probe.place, await probe.is_ready(), clock.monotonic_s())
    watch = PageWatch(pages, [name for name, _ in asked], queue, clock) if pages else None
    return models, RemoteEngine(queue, back_ends, models, clock, probes, watch)


async def _first_ready(
    back_ends: Sequence[BackEnd], asked: Sequence[tuple[str, str]], wait_s: float, clock: Clock
) -> BackEnd:
    async def nothing() -> None:
        return None

    probes = [Probe(place, back_end, asked, nothing) for place, back_end in enumerate(back_ends)]
    until_s = clock.monotonic_s() + wait_s
    while True:
        for probe, is_ready in zip(probes, await asyncio.gather(*(p.is_ready() for p in probes)), strict=True):
            if is_ready:
                return probe.back_end
        if clock.monotonic_s() >= until_s:
            names = ", ".join(back_end.address for back_end in back_ends)
            raise PeerError(
                f"no engine at {names} has all {len(asked)} tails after {wait_s:g} s; start one with what twinsplit "
                f"model export writes, and see that it serves {asked[0][0]} version {asked[0][1]}"
            )
        await asyncio.sleep(_ASK_AGAIN_S)


def _measuring(
    load: BackEndLoad[TailWork], model: HeldModel, back_end: BackEnd, limit: int, clock: Clock
) -> Callable[[], Awaitable[None]]:
    async def measure() -> None:
        parallelism, factor = await parallelism_and_factor(model, back_end, limit, clock)
        load.measured(parallelism, factor)
        _log.info(
            "back-end-measured",
            address=back_end.address,
            at_once=round(parallelism, 2),
            speed_factor=round(factor, 2),
        )

    return measure
