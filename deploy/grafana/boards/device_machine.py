"""The machine below one device: queue, source, sink, process, energy, health."""

from __future__ import annotations

from deploy.grafana.boards.device_series import ME, gauge, rate
from deploy.grafana.boards.frame import Board
from deploy.grafana.boards.panels import (
    BYTES,
    CELSIUS,
    CORES,
    COUNT,
    JOULES,
    PER_MIN,
    PER_S,
    SHARE,
    WATTS,
    Ask,
    lines,
    states,
)
from deploy.grafana.boards.queries import RATE

_NO_SENSOR = "no sensor tells it"
_NO_METER = "no meter, and no powers for the model (setting energy)"


def add_surroundings(found: Board) -> None:
    """Queue, source, sink and process."""
    no_source = "frames are submitted by programs (source submit)"
    no_sink = "records are written nowhere (setting sink)"
    found.row(
        "Queue, source, sink, process",
        lines(
            "Queue",
            "Tasks that wait, and how many may.",
            COUNT,
            Ask(gauge("queue_length"), "waiting"),
            Ask(gauge("queue_capacity"), "capacity"),
            width=6,
        ),
        lines(
            "Frames of the source",
            "Frames per second that the source delivered.",
            PER_S,
            Ask(rate("source_frames_total"), "frames"),
            width=6,
            may_be_empty=no_source,
        ),
        lines(
            "Problems of the source",
            "Stalls, losses and unusable frames per minute.",
            PER_MIN,
            Ask(f"60 * sum by (problem) ({rate('source_problems_total')})", "{{problem}}"),
            width=6,
            may_be_empty=f"the source has had none, or {no_source}",
        ),
        lines(
            "Records of the sink",
            "Task records that are not written yet, and those given up.",
            COUNT,
            Ask(gauge("sink_waiting_records"), "waiting"),
            Ask(f"increase(twinsplit_sink_lost_records_total{{{ME}}}{RATE})", "lost"),
            width=6,
            may_be_empty=no_sink,
        ),
        lines(
            "Processor time",
            "Cores in use by this process.",
            CORES,
            Ask(rate("process_cpu_seconds_total"), "cores"),
            width=6,
        ),
        lines(
            "Memory",
            "Resident memory, shared libraries included.",
            BYTES,
            Ask(gauge("process_resident_memory_bytes"), "resident"),
            width=6,
        ),
        lines(
            "Open files", "File descriptors of the process.", COUNT, Ask(gauge("process_open_files"), "open"), width=6
        ),
        lines("Threads", "Threads of the process.", COUNT, Ask(gauge("process_threads"), "threads"), width=6),
    )


def add_energy(found: Board) -> None:
    """What meters and sensors tell."""
    found.row(
        "Energy and health",
        lines(
            "Power",
            "Power as each meter reads it.",
            WATTS,
            Ask(gauge("power_watts"), "{{source}}"),
            width=6,
            may_be_empty=_NO_SENSOR,
        ),
        lines(
            "Energy by part",
            "Mean power by what it went into, as attributed to tasks and idling, by meter or model.",
            WATTS,
            Ask(f"sum by (source, part) ({rate('energy_joules_total')})", "{{source}} {{part}}"),
            is_stacked=True,
            width=6,
            may_be_empty=_NO_METER,
        ),
        lines(
            "Energy per task",
            "Energy per ended task, by meter or model.",
            JOULES,
            Ask(
                f"sum by (source) ({rate('energy_joules_total')}) / on () group_left () sum({rate('tasks_total')})",
                "{{source}}",
            ),
            width=6,
            may_be_empty=_NO_METER,
        ),
        states(
            "Meters",
            "Whether each energy meter gives readings.",
            Ask(gauge("energy_meter_up"), "{{source}}"),
            words={"1": "reads|good", "0": "lost|bad"},
            width=6,
            may_be_empty=_NO_SENSOR,
        ),
        lines(
            "Temperature",
            "Of the processor, as the system tells it.",
            CELSIUS,
            Ask(gauge("device_temperature_celsius"), "temperature"),
            width=6,
            may_be_empty=_NO_SENSOR,
        ),
        lines(
            "Load of the machine",
            "Share of all cores and of the memory in use by anybody.",
            SHARE,
            Ask(gauge("device_cpu_share"), "processor"),
            Ask(gauge("device_memory_share"), "memory"),
            width=6,
            most=1.0,
        ),
        lines(
            "Speed",
            "Speed of the processor over its full speed, as plans reckon with it.",
            SHARE,
            Ask(gauge("device_speed_share"), "speed"),
            width=6,
            may_be_empty=_NO_SENSOR,
            most=1.0,
        ),
        states(
            "Throttled",
            "Whether heat or low voltage slows the device down.",
            Ask(gauge("device_throttled"), "throttled"),
            words={"0": "no|good", "1": "yes|bad"},
            width=6,
            may_be_empty=_NO_SENSOR,
        ),
    )
