"""Measures the way to an edge as the device itself would see it: the same stream, the same tracker, real payloads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device.settings import DeviceSettings
from device.task import Offload
from device.tracking import Tracker
from device.uplink import Uplink
from twinsplit.clock import Clock
from twinsplit.errors import PeerError
from twinsplit.model.manifest import Manifest
from twinsplit.model.payload import encode_payload
from twinsplit.model.preprocessing import PreparedInput
from twinsplit.model.profile import UplinkMeasurement
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.tensor import EncodedTensor
from twinsplit.transport.limits import model_message_bytes
from twinsplit.transport.tail_stream import InferResponse
from twinsplit.types import Payload, Payloads

PATIENCE_S = 10.0
_FEWEST_UPLOADS = 20
_MOST_UPLOADS = 500


@dataclass(frozen=True, slots=True)
class Crossing:
    """What sending for a while has shown."""

    uplink: UplinkMeasurement | None
    """``None``: all payloads of this model are too small to tell a rate."""
    uploads: int
    sending_share: float
    """Of the time in which it was sent, 0..1; the rest was waiting for answers."""


async def measure_uplink(
    settings: DeviceSettings,
    runtime: SegmentRuntime,
    prepared: PreparedInput,
    seconds: float,
    clock: Clock,
    progress: Callable[[float], None] = lambda share: None,
) -> Crossing:
    """Send the largest payload that may be sent to ``settings.edge``, one after the other, for about ``seconds``.

    Args:
        runtime: holds the segments from 0 on that the device holds.
        progress: told the share that is done.

    Raises:
        PeerError: the edge cannot be reached, refuses the payload, or does not answer it.
    """
    address = settings.edge
    assert address is not None, "only asked for with an edge"
    first_cut = runtime.manifest.first_sent_cut(is_tensors_only=settings.payloads is Payloads.TENSORS_ONLY)
    cut, index, encoded = _largest_payload(runtime, prepared, first_cut)
    probe = _Probe()
    uplink = Uplink(
        runtime.digest,
        probe,
        clock,
        SignallingCount(),
        device_id=settings.id,
        tls=settings.tls if settings.tls.is_set else None,
        max_message_bytes=model_message_bytes([runtime.manifest]),
        first_cut=first_cut,
    )
    try:
        uplink.prepare(address)
        await _in_time(probe.is_connected.wait(), f"{address} cannot be reached; start the edge, or name another one")
        tracker = probe.tracker
        began_s = clock.monotonic_s()
        sending_s = 0.0
        uploads = 0
        while uploads < _MOST_UPLOADS:
            sent_at_s = clock.monotonic_s()
            payload = Payload.TENSOR if cut else Payload.INPUT
            offload = Offload(payload, cut, index, address, wire_bytes=encoded.wire_bytes)
            offload.deadline_s = sent_at_s + PATIENCE_S
            uplink.send(uploads + 1, offload, encoded)
            response = await _in_time(probe.responses.get(), f"{address} takes a payload and does not answer")
            problem = response.error or response.problem
            if problem is not None:
                raise PeerError(f"{address} refuses a payload: {problem}")
            edge_s = response.queue_wait_s + response.service_s
            sending_s += tracker.upload_done(sent_at_s, clock.monotonic_s(), edge_s, encoded.wire_bytes)
            uploads += 1
            share = (clock.monotonic_s() - began_s) / seconds
            if uploads >= _FEWEST_UPLOADS and share >= 1.0:
                break
            progress(min(share, uploads / _FEWEST_UPLOADS, 1.0))
    finally:
        await uplink.close()
    goodput = tracker.goodput_bytes_per_s
    return Crossing(
        None if goodput is None else UplinkMeasurement(address, goodput, tracker.round_trip_s or 0.0),
        uploads,
        min(1.0, sending_s / (clock.monotonic_s() - began_s)),
    )


class _Probe:
    """Takes what the uplink tells."""

    def __init__(self) -> None:
        self.tracker = Tracker((), (), {})
        self.is_connected = asyncio.Event()
        self.responses: asyncio.Queue[InferResponse] = asyncio.Queue()

    def responded(self, address: str, response: InferResponse) -> None:
        self.responses.put_nowait(response)

    def connected(self, address: str, round_trip_s: float) -> None:
        self.tracker.round_trip_measured(round_trip_s)
        self.is_connected.set()

    def disconnected(self, address: str) -> None:
        return


async def _in_time(awaitable: Any, problem: str) -> Any:
    try:
        return await asyncio.wait_for(awaitable, PATIENCE_S)
    except asyncio.TimeoutError:
        raise PeerError(problem) from None


def _largest_payload(
    runtime: SegmentRuntime, prepared: PreparedInput, first_cut: int
) -> tuple[int, int, EncodedTensor]:
    """(Cut, position of the representation, payload): a large one tells most about the rate of a way."""
    manifest = runtime.manifest
    cut, index = _largest_offer(manifest, first_cut)
    tensor: NDArray[Any] = np.asarray(prepared.tensor)
    for segment in range(cut):
        tensor = runtime.run_segment(segment, tensor)
    return cut, index, encode_payload(manifest, cut, index, tensor, prepared.picture if cut == 0 else None)


def _largest_offer(manifest: Manifest, first_cut: int) -> tuple[int, int]:
    offers = [
        (entry.mean_bytes, cut, index)
        for cut in range(first_cut, min(manifest.held_segments + 1, manifest.segment_count))
        for index, entry in enumerate(manifest.cuts[cut].representations)
        if entry.is_offered
    ]
    if not offers:
        raise PeerError("this model offers nothing that may be sent to an edge; leave out --edge")
    _, cut, index = max(offers)
    return cut, index
