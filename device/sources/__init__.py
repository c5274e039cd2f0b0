"""Sources of frames: pictures of a folder, cameras and video, standard input. Local programs submit by gRPC."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from device.settings import DeviceSettings
from device.sources.arrivals import parse_arrivals
from device.sources.folder import FolderSource
from device.sources.source import Source, SourceFrame, SourceWatch
from device.sources.standard_input import StandardInputSource, parse_raw_format
from twinsplit.credentials import without_password
from twinsplit.errors import SettingsError, SourceError

SUBMIT = "submit"


def open_source(settings: DeviceSettings, now_s: Callable[[], float]) -> Source | None:
    """The source that ``settings`` names; ``None``: frames come by gRPC only.

    Raises:
        SettingsError: the source, its arrivals or raw format are not written as they should be.
        SourceError: it cannot be opened.
    """
    kind, _, place = settings.source.partition(":")
    if settings.raw_format is not None and settings.source != "-":
        raise SettingsError("--raw-format is for standard input; give it with --source -")
    if settings.source == SUBMIT:
        return None
    if settings.source == "-":
        if sys.stdin is None:
            raise SourceError("-: standard input is closed; pipe frames into it, or name another --source")
        raw_format = None if settings.raw_format is None else parse_raw_format(settings.raw_format)
        return StandardInputSource(sys.stdin.fileno(), raw_format, now_s)
    if kind == "frames" and place:
        return FolderSource(
            Path(place),
            parse_arrivals(settings.arrivals, settings.seed),
            now_s,
            is_shuffled=settings.order == "shuffled",
            is_repeated=settings.repeat,
            seed=settings.seed,
        )
    if kind in ("camera", "video") and place:
        # OpenCV is an optional extra and takes long to import.
        from device.sources.video import CameraSource, VideoSource

        return (
            CameraSource(place, now_s) if kind == "camera" else VideoSource(place, now_s, is_repeated=settings.repeat)
        )
    raise SettingsError(
        f"--source {without_password(settings.source)!r} is not a source; use submit, frames:DIR, camera:NUMBER, "
        "video:FILE_OR_URL or -"
    )


__all__ = ["SUBMIT", "Source", "SourceFrame", "SourceWatch", "open_source"]
