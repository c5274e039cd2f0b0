"""What a device needs of its systemd unit."""

from __future__ import annotations

import shlex
from pathlib import Path

from device.settings import DeviceSettings
from twinsplit.errors import SettingsError
from twinsplit.replicas.listing import ReplicaSource
from twinsplit.systemd.installation import Needs
from twinsplit.systemd.unit import CAMERA, NVIDIA_METER, PI_FIRMWARE, access_of_provider

STANDARD_INPUT = "-"


def device_needs(settings: DeviceSettings, frames_from: str | None = None) -> Needs:
    """Files, nodes and bounds of a device with these settings.

    Args:
        settings: what its file says.
        frames_from: shell command that writes frames to its standard output; ``None``: the settings' source.

    Raises:
        SettingsError: standard input as the source without such a command.
    """
    if settings.source == STANDARD_INPUT and frames_from is None:
        raise SettingsError(
            "source = '-': a service has no standard input; name the command that feeds it in --frames-from"
        )
    if frames_from is not None:
        try:
            shlex.split(frames_from)
        except ValueError as error:
            raise SettingsError(f"--frames-from {frames_from!r} is no command: {str(error).lower()}") from None
    has_camera = frames_from is not None or settings.source.startswith("camera:")
    return Needs(
        description=f"twinsplit device {settings.id}",
        verb=("device", "run", *(("--source", STANDARD_INPUT) if frames_from is not None else ())),
        read=_read(settings, has_own_source=frames_from is None),
        written=_written(settings),
        access=(
            PI_FIRMWARE,
            access_of_provider(settings.provider),
            *((CAMERA,) if has_camera else ()),
            *((NVIDIA_METER,) if settings.energy.partition(":")[0] == "nvml" else ()),
        ),
        threads=settings.threads,
        drain_s=settings.drain_s,
        memory_max="1G" if settings.provider == "cpu" else "4G",
        cpu_weight=200,
        frames_from=frames_from,
    )


def _read(settings: DeviceSettings, *, has_own_source: bool) -> dict[str, Path]:
    read = {"model": settings.model}
    if settings.twin is not None and (replicas := ReplicaSource(settings.twin).path) is not None:
        read["twin"] = replicas
    kind, _, place = settings.source.partition(":")
    if has_own_source and (kind == "frames" or (kind == "video" and "://" not in place)):
        read["source"] = Path(place)
    if has_own_source and settings.arrivals.startswith("trace:"):
        read["arrivals"] = Path(settings.arrivals.removeprefix("trace:"))
    return read


def _written(settings: DeviceSettings) -> dict[str, Path]:
    written = {} if settings.profile is None else {"profile": settings.profile}
    if settings.sink is not None and settings.sink != STANDARD_INPUT:
        written["sink"] = Path(settings.sink)
    return written
