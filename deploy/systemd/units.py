"""Writes the units of this folder: what ``install-service`` makes of the settings files beside them.

python deploy/systemd/units.py            write them
python deploy/systemd/units.py --check    say which are out of date, exit code 1
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device.settings import DeviceSettings
from device.unit import device_needs
from edge.settings import EdgeSettings
from edge.unit import edge_needs
from twin_service.settings import TwinSettings
from twin_service.unit import twin_needs
from twinsplit.settings import BaseServiceSettings, load_settings
from twinsplit.systemd.installation import SETTINGS_FOLDER, Needs, Request, unit_of
from twinsplit.systemd.unit import unit_text

FOLDER = Path(__file__).parent
PROGRAM = Path("/opt/twinsplit/venv/bin/twinsplit")
SERVICES: tuple[tuple[type[BaseServiceSettings], Callable[[Any], Needs]], ...] = (
    (DeviceSettings, device_needs),
    (EdgeSettings, edge_needs),
    (TwinSettings, twin_needs),
)


def units() -> dict[str, str]:
    """File name and text of every unit."""
    found = {}
    for cls, needs_of in SERVICES:
        name = f"twinsplit-{cls.service}"
        settings = load_settings(cls, FOLDER / f"{cls.service}.toml").values
        request = Request(SETTINGS_FOLDER / f"{cls.service}.toml", PROGRAM, name, None, None, None, ())
        found[f"{name}.service"] = unit_text(unit_of(request, settings, needs_of(settings)))
    return found


def main(arguments: list[str]) -> int:
    """Write or check all units."""
    stale = []
    for name, text in units().items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(text, encoding="utf-8")
    sys.stdout.write("".join(f"{name}\n" for name in stale))
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
