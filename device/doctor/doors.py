"""What the device reads, writes and listens on: could it, as far as one sees without opening any of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from device.doctor.finding import Check, Finding, bad, from_error, ok, skipped
from device.settings import DeviceSettings
from twinsplit.clock import SystemClock
from twinsplit.credentials import without_password
from twinsplit.errors import ModelError, TwinsplitError
from twinsplit.transport.address import Address, check_is_safe

_MISSING = "not looked at: the package {} is not installed"


def door_findings(settings: DeviceSettings) -> Iterator[Finding]:
    """Source, records, profile and addresses."""
    yield _source(settings)
    yield _written(Check.SINK, "--sink", None if settings.sink in (None, "-") else Path(str(settings.sink)))
    yield _profile(settings.profile)
    yield _listen(settings)


def _source(settings: DeviceSettings) -> Finding:
    kind, _, place = settings.source.partition(":")
    if settings.source == "submit":
        return skipped(Check.SOURCE, "none: local programs submit frames")
    if settings.source == "-":
        return skipped(Check.SOURCE, "standard input, which is not read here")
    if kind == "camera" and place.isdigit():
        node = Path(f"/dev/video{place}")
        if not node.exists():
            return bad(Check.SOURCE, f"{node} is not there", "plug the camera in, or name another in --source camera:N")
        if not os.access(node, os.R_OK | os.W_OK):
            return bad(Check.SOURCE, f"{node} cannot be opened by this user", "add it to the group video")
        return ok(Check.SOURCE, f"{node} is there; whether it gives pictures is not looked at")
    if kind == "video" and place and "://" in place:
        return skipped(Check.SOURCE, f"{without_password(place)} is not opened here")
    if kind == "video" and place:
        if not os.access(place, os.R_OK):
            return bad(Check.SOURCE, f"{place} cannot be read", "copy it there, or name another in --source video:FILE")
        return ok(Check.SOURCE, f"{place} can be read")
    try:
        from device.sources import open_source

        open_source(settings, SystemClock().monotonic_s)
    except ModuleNotFoundError as error:
        return skipped(Check.SOURCE, _MISSING.format(error.name))
    except TwinsplitError as error:
        return from_error(Check.SOURCE, error)
    return ok(Check.SOURCE, f"{settings.source} can be read")


def _written(check: Check, option: str, path: Path | None) -> Finding:
    if path is None:
        return skipped(check, f"no file: {option} names none")
    place = path if path.exists() else path.absolute().parent
    if path.is_dir():
        return bad(check, f"{path} is a folder", f"name a file in {option}")
    if not place.exists():
        return bad(check, f"{place} is not there", f"make the folder, or name another file in {option}")
    if not os.access(place, os.W_OK):
        return bad(check, f"{path} cannot be written by this user", f"name another file in {option}")
    return ok(check, f"{path} can be written")


def _profile(path: Path | None) -> Finding:
    if path is None or not path.exists():
        return _written(Check.PROFILE, "--profile", path)
    try:
        from twinsplit.model.profile import load_profile

        load_profile(path)
    except ModuleNotFoundError as error:
        return skipped(Check.PROFILE, _MISSING.format(error.name))
    except ModelError as error:
        return from_error(Check.PROFILE, error)
    return ok(Check.PROFILE, f"{path} is a profile")


def _listen(settings: DeviceSettings) -> Finding:
    try:
        address, _ = Address.parse(settings.listen), Address.parse(settings.http_listen)
        check_is_safe(address, has_tls=settings.tls.is_set, is_insecure=settings.insecure)
    except TwinsplitError as error:
        return from_error(Check.LISTEN, error)
    return ok(Check.LISTEN, f"{settings.listen} for programs, {settings.http_listen} for metrics and health")
