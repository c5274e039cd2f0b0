"""Parts of a device as its settings want them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from device.emulation import UplinkSettings, parse_outages, parse_rate_changes
from device.energy import EnergyBooks
from device.offloads import OffloadSettings
from device.pipeline import Pipeline, PipelineSettings
from device.plan_keeping import PlanKeeper
from device.reporting import Reporter
from device.settings import DeviceSettings
from device.tracking import Tracker
from device.twin_link import TwinEvents, TwinLink
from device.twin_route import TwinRoute
from device.twin_wire import Announcement
from twinsplit.clock import Clock
from twinsplit.model.profile import Profile, load_profile, measure_profile, save_profile
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.replicas.listing import ReplicaSource
from twinsplit.telemetry.logs import EventLog
from twinsplit.telemetry.signalling import SignallingCount
from twinsplit.types import DropPolicy

if TYPE_CHECKING:
    from device.task_tracing import TaskTracing

_log = EventLog("device")

PROFILE_REPEATS = 10
PROFILE_BUDGET_S = 10.0


def step_times_s(profile: Profile) -> dict[Hashable, float]:
    """Measured time of every step of the compute thread."""
    times_s: dict[Hashable, float] = {("segment", index): s for index, s in enumerate(profile.segment_s)}
    times_s.update({("exit", index): s for index, s in enumerate(profile.exit_s)})
    times_s.update({("encode", *key): s for key, s in profile.encode_s.items()})
    return times_s


def profile_of(
    settings: DeviceSettings, runtime: SegmentRuntime, speed_share: Callable[[], float | None] = lambda: None
) -> Profile:
    """The times in ``settings.profile`` if they fit, else measured ones, which are written there.

    Args:
        speed_share: speed of the processor now over its full speed; ``None``: unknown.

    Raises:
        ModelFileError: the file is no profile.
        StorageError: it cannot be written.
    """
    path = settings.profile
    if path is not None and path.exists():
        profile = load_profile(path)
        if profile.fits(runtime):
            return profile
        _log.info("profile-does-not-fit", file=str(path), cure="its times are measured anew; calibrate for the rest")
    profile = replace(measure_profile(runtime, PROFILE_REPEATS, budget_s=PROFILE_BUDGET_S), speed_share=speed_share())
    if path is not None:
        save_profile(profile, path)
    return profile


def pipeline_of(
    settings: DeviceSettings, runtime: SegmentRuntime, profile: Profile, energy: EnergyBooks, *, is_live: bool
) -> Pipeline:
    """A pipeline as told; ``is_live``: its source has its own pace."""
    manifest = runtime.manifest
    factor = settings.emulate_slowdown
    # Exits that the device does not hold take no time here, but the twin counts all of the manifest's.
    exit_s = (*profile.exit_s, *[0.0] * (len(manifest.exits) - len(profile.exit_s)))
    tracker = Tracker(
        [factor * s for s in profile.segment_s],
        [factor * s for s in exit_s],
        {key: factor * s for key, s in profile.encode_s.items()},
        speed_share=1.0 if factor > 1.0 or profile.speed_share is None else profile.speed_share,
    )
    if profile.uplink is not None and not uplink_settings_of(settings).is_set:
        tracker.goodput_bytes_per_s = profile.uplink.goodput_bytes_per_s
        tracker.round_trip_s = profile.uplink.round_trip_s
    plans = PlanKeeper(
        manifest,
        runtime.digest,
        payloads=settings.payloads,
        fixed_edge_address=settings.edge,
        is_plan_expected=settings.twin is not None,
    )
    is_newest_wins = settings.drop_policy == "newest-wins" or (settings.drop_policy == "auto" and is_live)
    is_capacity_given = "queue_capacity" in settings.model_fields_set
    pipeline_settings = PipelineSettings(
        queue_capacity=1 if is_live and not is_capacity_given else settings.queue_capacity,
        drop_policy=DropPolicy.NEWEST_WINS if is_newest_wins else DropPolicy.OLDEST_STAYS,
        is_polled=settings.polled,
        offloads=OffloadSettings(
            kept_tensors=settings.kept_tensors,
            answer_timeout_s=settings.answer_timeout_s,
            deadline_s=settings.deadline_s,
        ),
    )
    reporter = Reporter(manifest, tracker, report_threshold_s=settings.report_threshold_s)
    return Pipeline(manifest, plans, tracker, reporter, energy, pipeline_settings)


def link_of(
    settings: DeviceSettings,
    twin: str,
    runtime: SegmentRuntime,
    events: TwinEvents,
    clock: Clock,
    signalling: SignallingCount,
    watts: tuple[float | None, float | None],
) -> TwinLink:
    """The link to the twin whose replicas ``twin`` names; ``watts``: added while computing and while sending.

    Raises:
        SettingsError: it names none.
    """
    tls = settings.tls if settings.tls.is_set else None
    announcement = Announcement(
        device_id=settings.id,
        model_digest=runtime.digest,
        payloads=settings.payloads,
        fixed_edge_address=settings.edge,
        compute_watts=watts[0],
        transmit_watts=watts[1],
        is_polled=settings.polled,
        report_threshold_s=settings.report_threshold_s,
    )
    return TwinLink(
        TwinRoute(ReplicaSource(twin), settings.id, clock, signalling, tls=tls),
        announcement,
        runtime.manifest_bytes,
        events,
        clock,
        signalling,
        tls=tls,
        poll_timeout_s=settings.poll_timeout_s,
    )


def tracing_of(settings: DeviceSettings, runtime: SegmentRuntime, clock: Clock) -> TaskTracing | None:
    """Traces of tasks; ``None``: none are asked for.

    Raises:
        SettingsError: OpenTelemetry is not installed, or the endpoint is none.
    """
    if settings.otlp_endpoint is None:
        return None
    from device.task_tracing import TaskTracing
    from twinsplit.tracing.outlet import open_outlet

    return TaskTracing(open_outlet(settings.otlp_endpoint, "device", settings.id), runtime.manifest, clock)


def uplink_settings_of(settings: DeviceSettings) -> UplinkSettings:
    """The emulated uplink.

    Raises:
        SettingsError: an outage or a rate is not written as it should be.
    """
    return UplinkSettings(
        settings.emulate_uplink_bytes_per_s,
        settings.emulate_uplink_delay_s,
        settings.emulate_uplink_jitter_s,
        parse_outages(settings.emulate_uplink_outages),
        parse_rate_changes(settings.emulate_uplink_rates),
    )


def emulations_of(settings: DeviceSettings, uplink: UplinkSettings) -> dict[str, Any]:
    """Emulations in force, by kind, for status, log and metrics."""
    emulations: dict[str, Any] = {}
    if settings.emulate_slowdown > 1.0:
        emulations["slowdown"] = settings.emulate_slowdown
    if uplink.is_set:
        emulations["uplink"] = {
            "bytes_per_s": uplink.bytes_per_s,
            "delay_s": uplink.delay_s,
            "jitter_s": uplink.jitter_s,
            "outages": list(settings.emulate_uplink_outages),
            "rates": list(settings.emulate_uplink_rates),
        }
    return emulations
