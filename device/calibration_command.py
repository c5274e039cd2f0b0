"""``twinsplit device calibrate``: the progress bar, the table, the next command."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from device.calibration import STAGES, Wishes, calibrate
from device.calibration_text import profile_table
from device.settings import DeviceSettings
from twinsplit.errors import StorageError
from twinsplit.model.manifest import read_manifest
from twinsplit.model.profile import load_profile, save_profile
from twinsplit.settings import Loaded
from twinsplit.settings_options import given_flags

DEFAULT_FILE = Path("device-profile.json")
_STEPS_PER_STAGE = 100


def _check_place(out: Path) -> None:
    """Before anything is measured for minutes.

    Raises:
        ModelFileError: another file is there, which is not to be lost.
        StorageError: it could not be written.
    """
    if out.exists():
        load_profile(out)
    places = [out.resolve().parent, *([out] if out.exists() else [])]
    if not all(os.access(place, os.W_OK) for place in places):
        raise StorageError(f"{out}: cannot be written; name a file in a folder that this user can write in --profile")


def calibrate_and_tell(loaded: Loaded[DeviceSettings], wishes: Wishes) -> None:
    """Calibrate, write the profile, and say what was measured and what to do next.

    Raises:
        TwinsplitError: see :func:`device.calibration.calibrate`; StorageError: the file cannot be written.
    """
    settings = loaded.values
    out = settings.profile or DEFAULT_FILE
    _check_place(out)
    with click.progressbar(
        length=len(STAGES) * _STEPS_PER_STAGE, label="calibrating", item_show_func=lambda what: what or "starting"
    ) as bar:

        def show(what: str, share: float) -> None:
            position = int(_STEPS_PER_STAGE * (STAGES.index(what) + share))
            bar.update(max(0, position - bar.pos), what)

        found = calibrate(settings, wishes, show)
        bar.update(bar.length - bar.pos if bar.length is not None else 0, "done")
    save_profile(found.profile, out)
    manifest, _ = read_manifest(settings.model)
    click.echo(profile_table(found.profile, manifest))
    for remark in found.remarks:
        click.echo(remark)
    command = ["twinsplit", "device", "run", *given_flags(loaded)]
    command += ["--profile", str(out)] if settings.profile is None else []
    click.echo(f"wrote {out}; next:\n  {shlex.join(command)}")
