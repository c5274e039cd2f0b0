"""Which meter the setting ``energy`` means: the best that is here, one by name, or none."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from device.energy import hwmon, pmic, powercap
from device.energy.places import Places
from twinsplit.energy import Absent, Meter, nvml
from twinsplit.errors import SettingsError
from twinsplit.telemetry.logs import EventLog

AUTO, MODEL, NONE = "auto", "model", "none"
PLUG_IN_GROUP = "twinsplit.meters"
"""Entry points of meters from elsewhere: callables that take what stands after ``NAME:`` (empty: nothing) and return a
:class:`twinsplit.energy.Meter`, or raise."""

Finder = Callable[[Places, str], Meter | Absent]

_log = EventLog("device.energy")


def _without_rails(find: Callable[[Places], Meter | Absent]) -> Finder:
    def found(places: Places, rail: str) -> Meter | Absent:
        if rail:
            return Absent(f"it has no rail {rail!r} to choose", "leave out what stands after the colon")
        return find(places)

    return found


FINDERS: dict[str, Finder] = {
    hwmon.JETSON_SOURCE: hwmon.find_jetson,
    hwmon.INA_SOURCE: hwmon.find_ina,
    pmic.SOURCE: _without_rails(pmic.find_pmic),
    powercap.SOURCE: powercap.find_rapl,
    nvml.SOURCE: _without_rails(lambda places: nvml.find_nvml()),
}
"""Meters by name, those that see the whole device first."""
_AUTOMATIC = tuple(name for name in FINDERS if name != nvml.SOURCE)
"""NVML sees nothing but the GPU, so that it is never taken for the device."""


def chosen_meter(wish: str, places: Places) -> Meter | None:
    """The meter that ``wish`` (``auto``, ``model``, ``none``, or NAME or NAME:RAIL) means; ``None``: no meter.

    Raises:
        SettingsError: one was asked for by name that is unknown or cannot be used here; with the cure.
    """
    if wish in (MODEL, NONE):
        return None
    if wish == AUTO:
        return _best_meter(places)
    name, _, rail = wish.partition(":")
    plug_ins = _plug_ins()
    if name in FINDERS:
        found = FINDERS[name](places, rail)
    elif name in plug_ins:
        found = _plugged_in(plug_ins[name], rail)
    else:
        names = ", ".join((AUTO, MODEL, NONE, *FINDERS, *plug_ins))
        raise SettingsError(f"--energy {wish!r} is no meter; choose one of {names}")
    if isinstance(found, Absent):
        raise SettingsError(f"--energy {wish}: {found.cause}; {found.cure}")
    return found


def _best_meter(places: Places) -> Meter | None:
    # Who installs a plug-in wants it.
    for name, point in _plug_ins().items():
        found = _plugged_in(point, "")
        if not isinstance(found, Absent):
            return found
        _log.warning("energy-meter-unusable", source=name, cause=found.cause, cure=found.cure)
    for name in _AUTOMATIC:
        found = FINDERS[name](places, "")
        if not isinstance(found, Absent):
            return found
        tell = _log.info if found.is_there else _log.debug
        tell("energy-meter-unusable", source=name, cause=found.cause, cure=found.cure)
    return None


def _plug_ins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=PLUG_IN_GROUP) if point.name not in FINDERS}


def _plugged_in(point: EntryPoint, argument: str) -> Meter | Absent:
    try:
        meter: Meter = point.load()(argument)
        _ = (meter.source, meter.interval_s, meter.read, meter.close)
    except Exception as error:  # noqa: BLE001 - a plug-in is anybody's code
        return Absent(f"the plug-in {point.value} fails: {type(error).__name__}: {error}", "mend or remove it")
    return meter
