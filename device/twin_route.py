"""The way to the twin: a thin shell around :class:`twinsplit.replicas.choice.ReplicaChoice`.

It follows the list of replicas, looks at those that the device would rather be attached to, tells the one that it came
from where it is, and has the stream ended when the device should be elsewhere. With one replica it does nothing but
pause between tries.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from twinsplit.clock import Clock
from twinsplit.replicas.attachment import AttachmentEpoch
from twinsplit.replicas.choice import ReplicaChoice
from twinsplit.replicas.listing import ReplicaSource
from twinsplit.rpc.v1 import twin_pb2, twin_pb2_grpc
from twinsplit.telemetry.logs import EventLog
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.transport.channel import open_channel
from twinsplit.transport.status import is_refusal
from twinsplit.transport.tls import TlsFiles

_log = EventLog("device.twin_link")

WELCOME_TIMEOUT_S = 10.0
"""A twin that takes the stream but says nothing for this long is tried again."""
WELCOME_TIMEOUT_OF_MANY_S = 3.0
"""The same while there is another replica that has not failed. Where all have, they may be overrun by devices that come
at once: then patience gets a welcome sooner than going around does."""
SILENT_SHARE = 0.8
"""A replica that has said nothing for so much of a lease, half of which it lets pass at most, is left for another."""
LOOK_TIMEOUT_S = 1.0
_LOOK_AROUND_S = 0.25
_REPEATED_LINE_S = 10.0


class TwinRoute:
    """Which replica the device is attached to, and under which number."""

    def __init__(
        self,
        source: ReplicaSource,
        device_id: str,
        clock: Clock,
        signalling: SignallingCount,
        *,
        tls: TlsFiles | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """
        Raises:
            SettingsError: ``source`` is no list of replicas.
        """
        self._source = source
        self._device_id = device_id
        self._clock = clock
        self._signalling = signalling
        self._tls = tls
        self._listed = source.read()
        self._choice = ReplicaChoice(device_id, self._listed, rng or random.Random())
        self._silent_at_s = math.inf
        self._is_silent = False
        self._leave: Callable[[], object] = lambda: None
        self.epochs = AttachmentEpoch()

    @property
    def address(self) -> str:
        """The replica that is attached to, or was tried last; before that the preferred one."""
        return self._choice.current or self._choice.ranked[0]

    @property
    def replicas(self) -> tuple[str, ...]:
        """All of them, the preferred one first."""
        return self._choice.ranked

    @property
    def moves(self) -> int:
        """How often the device has gone from one replica to another."""
        return self._choice.moves

    @property
    def untold(self) -> frozenset[str]:
        """Replicas that do not know yet that the device is attached elsewhere."""
        return self._choice.untold

    @property
    def welcome_timeout_s(self) -> float:
        """How long a replica may take to welcome the device."""
        return WELCOME_TIMEOUT_OF_MANY_S if self._choice.has_alternative else WELCOME_TIMEOUT_S

    def status(self) -> dict[str, Any]:
        """For people and programs: where the device is attached, and where it would be."""
        return {
            "address": self.address,
            "is_attached": self._choice.is_attached,
            "preferred": self.replicas[0],
            "replicas": list(self.replicas),
            "attachment_epoch": self.epochs.current,
            "moves": self.moves,
        }

    # What happens to the stream.

    async def next(self) -> str:
        """Pause as long as it should be, and say which replica to attach to."""
        while True:
            address, wait_s = self._choice.next(self._now_s())
            if wait_s <= 0.0:
                return address
            await asyncio.sleep(wait_s)

    def trying(self, address: str, leave: Callable[[], object]) -> int:
        """A stream to ``address`` is being made, which ``leave`` ends: the number of the attachment to announce."""
        self._choice.trying(address)
        self._leave, self._silent_at_s = leave, math.inf
        return self.epochs.begin(self._clock.unix_ns())

    def welcomed(self, epoch: int) -> None:
        """The replica that was tried has welcomed the device under number ``epoch``."""
        self.epochs.granted(epoch)
        self._choice.welcomed(self._now_s())

    def heard(self, lease_s: float) -> None:
        """A message of the replica has renewed the lease."""
        if len(self._listed) > 1:
            self._silent_at_s = self._now_s() + SILENT_SHARE * lease_s

    def ended(self) -> None:
        """The stream has ended, or could not be made."""
        was_up, address = self._choice.is_attached, self.address
        self._choice.ended(self._now_s())
        self._leave = lambda: None
        if self._choice.is_leaving or not (was_up or self._choice.failures == 1):
            return
        following = self._choice.next(self._now_s())
        _log.warning(
            "twin-lost" if was_up else "twin-unreachable",
            address=address,
            next=following.address,
            retry_s=round(following.wait_s, 3),
        )

    # What goes on beside it.

    async def follow_list(self) -> None:
        """Take up changes of the list, until cancelled."""
        await self._source.follow(self._listed, self._list_changed, _log)

    async def watch_silence(self) -> None:
        """Leave a replica that has fallen silent, until cancelled."""
        # By itself: looks at others that are gone, too, must not use up what is left of the lease.
        while True:
            await asyncio.sleep(_LOOK_AROUND_S)
            self._look_for_silence()

    async def look_around(self) -> None:
        """Leave for a replica that is preferred, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_AROUND_S)
            try:
                for address in self._choice.to_look_at(self._now_s()):
                    is_up = await self._look_at(address)
                    if self._choice.looked(address, self._now_s(), is_up=is_up):
                        _log.info("twin-returns", preferred=address, left=self.address)
                        self._leave()
                        break
            except Exception as error:  # noqa: BLE001 - a defect in looking must not end the way to the twin
                _log.exception("twin-look-failed", error, limit_s=_REPEATED_LINE_S)

    def _look_for_silence(self) -> None:
        # Twice in a row: after a pause of this process, messages that have come meanwhile must be read first.
        was_silent = self._is_silent
        self._is_silent = self._choice.is_attached and self._now_s() >= self._silent_at_s and len(self._listed) > 1
        if was_silent and self._is_silent:
            _log.warning("twin-silent", limit_s=_REPEATED_LINE_S, address=self.address)
            self._is_silent, self._silent_at_s = False, math.inf
            self._choice.silent()
            self._leave()

    async def _look_at(self, address: str) -> bool:
        """Whether the replica at ``address`` answers; one that may not know where the device is gets to know."""
        async with open_channel(address, self._tls) as channel:
            try:
                if address not in self._choice.untold:
                    stub = health_pb2_grpc.HealthStub(channel)
                    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=LOOK_TIMEOUT_S)
                    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
                await self._tell(channel)
            except grpc.aio.AioRpcError as failure:
                if not (is_refusal(failure) or failure.code() is grpc.StatusCode.UNIMPLEMENTED):
                    return False
            # Told, or of a version or a mind that does not take it: either way it is up, and its stream has ended.
            self._choice.told(address)
            return True

    async def _tell(self, channel: grpc.aio.Channel) -> None:
        request = twin_pb2.ReleaseDeviceRequest(device_id=self._device_id, attachment_epoch=self.epochs.current)
        stub = twin_pb2_grpc.TwinServiceStub(channel)
        await stub.ReleaseDevice(request, timeout=LOOK_TIMEOUT_S)
        self._signalling.note_sent("release", request.ByteSize())

    def _list_changed(self, replicas: tuple[str, ...]) -> None:
        self._listed = replicas
        if self._choice.listed(replicas, self._now_s()):
            self._leave()

    def _now_s(self) -> float:
        return self._clock.monotonic_s()
