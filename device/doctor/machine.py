"""This machine: execution provider, model folder, energy meter, health."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from device.doctor.finding import Check, Finding, bad, from_error, ok, skipped
from device.energy.choice import AUTO, FINDERS, MODEL, NONE, chosen_meter
from device.energy.places import Places
from device.health import Health, HealthReader
from device.settings import DeviceSettings
from twinsplit.energy import Absent, Meter
from twinsplit.errors import ModelError, ProviderError, SettingsError
from twinsplit.model.manifest import Manifest, check_files, manifest_digest, read_manifest

if TYPE_CHECKING:
    from device.doctor.settings import DoctorSettings

NO_MODEL = "no model named; give --model DIR to look at it"


@dataclass(frozen=True, slots=True)
class HeldModel:
    """The device's model folder."""

    manifest: Manifest
    manifest_bytes: int
    digest: str

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.manifest.name} {self.manifest.version} ({self.digest[:12]})"


def read_model(folder: Path | None) -> tuple[HeldModel | None, Finding]:
    """The model folder, if it can be used, and what was found."""
    if folder is None:
        return None, skipped(Check.MODEL, NO_MODEL)
    try:
        manifest, data = read_manifest(folder)
        check_files(folder, manifest.files())
    except ModelError as error:
        return None, from_error(Check.MODEL, error)
    model = HeldModel(manifest, len(data), manifest_digest(data))
    held = f"{manifest.held_segments} of {manifest.segment_count} segments, {len(manifest.exits)} exits"
    return model, ok(Check.MODEL, f"{model.title}: {held}; every file is as the manifest says")


def provider_finding(settings: DoctorSettings, model: HeldModel | None) -> Finding:
    """The execution provider; with a model it is really loaded, since some only fail then."""
    try:
        from twinsplit.model.runtime import SegmentRuntime, provider_named
    except Exception:  # noqa: BLE001 - the line about onnxruntime says what is wrong with it
        return skipped(Check.PROVIDER, "not looked at: ONNX Runtime cannot be imported")
    try:
        name = provider_named(settings.provider)
        if model is None or settings.model is None:
            return ok(Check.PROVIDER, f"{name} is in this build; no model to load it with")
        held = range(model.manifest.held_segments)
        SegmentRuntime.load(settings.model, provider=settings.provider, threads=settings.threads, segments=held)
    except (ProviderError, ModelError) as error:
        return from_error(Check.PROVIDER, error)
    return ok(Check.PROVIDER, f"{name} loads every segment and exit")


def sensor_findings(settings: DeviceSettings, places: Places, reader: HealthReader) -> Iterator[Finding]:
    """Energy meter and health; ``reader`` was made a moment ago, since shares are of the time since then."""
    yield _energy(settings, places)
    yield _health(reader.read())


def _energy(settings: DeviceSettings, places: Places) -> Finding:
    wish = MODEL if settings.energy == AUTO and settings.emulate_slowdown > 1.0 else settings.energy
    if wish == NONE:
        return skipped(Check.ENERGY, "--energy none: the energy of tasks stays unknown")
    try:
        meter = chosen_meter(wish, places)
    except SettingsError as error:
        return from_error(Check.ENERGY, error)
    if meter is not None:
        return _meter(meter)
    if wish == MODEL:
        return ok(
            Check.ENERGY, f"the model: {settings.compute_watts:g} W computing, {settings.transmit_watts:g} W sending"
        )
    for name, find in FINDERS.items():
        found = find(places, "")
        if isinstance(found, Absent) and found.is_there:
            return bad(Check.ENERGY, f"{name}: {found.cause}", found.cure)
    return skipped(Check.ENERGY, "no meter found here; the model counts, twinsplit device calibrate fits its powers")


def _meter(meter: Meter) -> Finding:
    try:
        reading = meter.read()
    except Exception as error:  # noqa: BLE001 - a meter may be anybody's plug-in
        return bad(Check.ENERGY, f"{meter.source} fails: {type(error).__name__}: {error}", "mend it, or --energy model")
    finally:
        meter.close()
    if reading is None:
        return bad(
            Check.ENERGY, f"{meter.source} is there but gives no reading", "see that it works, or choose --energy model"
        )
    shown = f"{reading.watts:.2f} W now" if reading.watts is not None else "counts joules"
    return ok(Check.ENERGY, f"{meter.source}: {shown}, looked at every {meter.interval_s:g} s")


def _health(health: Health) -> Finding:
    known = {
        "processor": (health.cpu_share, "{:.0%}"),
        "memory": (health.memory_share, "{:.0%}"),
        "degrees Celsius": (health.temperature_celsius, "{:.0f}"),
        "speed": (health.speed_share, "{:.0%}"),
    }
    shown = [f"{name} {form.format(value)}" for name, (value, form) in known.items() if value is not None]
    text = ", ".join(shown) or "nothing can be read"
    if health.is_throttled:
        return bad(Check.HEALTH, f"{text}: heat or the supply slows it down", "cool it, or use a stronger power supply")
    throttling = "whether it is throttled is unknown here" if health.is_throttled is None else "not throttled"
    return ok(Check.HEALTH, f"{text}, {throttling}")
