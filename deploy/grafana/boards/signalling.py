"""Signalling and transport: messages, mirrors, uplinks, edges, calls."""

from __future__ import annotations

from deploy.grafana.boards.frame import Board, instances
from deploy.grafana.boards.panels import (
    BYTES,
    BYTES_PER_S,
    CORES,
    COUNT,
    NONE,
    PER_MIN,
    PER_S,
    SECONDS,
    SHARE,
    WATTS,
    Ask,
    lines,
    quantiles,
)
from deploy.grafana.boards.queries import MIRROR_ACCURACY, RATE, TASKS

_DEVICE = 'instance=~"$devices"'
_EDGE = 'instance=~"$edges"'
_NO_OFFLOAD = "nothing was offloaded"


def board() -> Board:
    """The dashboard."""
    variables = (
        instances("devices", "device", "Devices", is_multiple=True),
        instances("edges", "edge", "Edges", is_multiple=True),
    )
    text = "What knowing costs in messages and how right it is; payloads on their way, and what edges do with them."
    found = Board("Signalling and transport", text, variables)
    _messages(found)
    _mirrors(found)
    _uplinks(found)
    _edges(found)
    _ways(found)
    _calls(found)
    return found


def _messages(found: Board) -> None:
    found.row(
        "Messages, all services",
        lines(
            "Messages per task by kind",
            "Each message is counted once, by the service that sends it; kinds are fields of twin.proto.",
            COUNT,
            Ask(
                f"sum by (kind) (rate(twinsplit_signalling_messages_total{RATE})) / on () group_left () {TASKS}",
                "{{kind}}",
            ),
            is_stacked=True,
            width=8,
        ),
        lines(
            "Signalling bytes per task by kind",
            "Bytes of messages, without tensors and answers.",
            BYTES,
            Ask(
                f"sum by (kind) (rate(twinsplit_signalling_bytes_total{RATE})) / on () group_left () {TASKS}",
                "{{kind}}",
            ),
            is_stacked=True,
            width=8,
        ),
        lines(
            "Refused messages",
            "Messages of others per minute that an edge or the twin service refused, by error code.",
            PER_MIN,
            Ask(f"60 * sum by (code) (rate(twinsplit_refused_messages_total{RATE}))", "{{code}}"),
            width=8,
            may_be_empty="nothing was refused",
        ),
    )


def _mirrors(found: Board) -> None:
    found.row(
        "Mirrors",
        lines(
            "Age of the oldest report",
            "Among attached devices; a heartbeat ends silence.",
            SECONDS,
            Ask("twinsplit_report_age_seconds", "{{instance}}"),
            width=8,
        ),
        lines(
            "Mirror accuracy",
            "Share of time in service in which the believed epoch was the true one.",
            SHARE,
            Ask(
                MIRROR_ACCURACY,
                "{{instance}} now",
            ),
            Ask("twinsplit_mirror_accuracy", "{{instance}} since the start"),
            width=8,
            most=1.0,
        ),
        lines(
            "Twins",
            "Twins of devices and edges, attached and detached.",
            COUNT,
            Ask("sum by (kind, state) (twinsplit_twins)", "{{kind}} {{state}}"),
            width=8,
        ),
        lines(
            "Prediction error by field",
            "Running mean absolute error of what was predicted, each in its own unit: epochs, tasks, seconds.",
            SECONDS,
            Ask('twinsplit_prediction_error{field=~".+_s", field!="goodput_bytes_per_s"}', "{{field}}"),
            Ask('twinsplit_prediction_error{field!~".+_s"}', "{{field}}", COUNT),
            width=12,
        ),
        lines(
            "Prediction error of the goodput",
            "Running mean absolute error of what was predicted, mean over attached devices.",
            BYTES_PER_S,
            Ask('twinsplit_prediction_error{field="goodput_bytes_per_s"}', "{{instance}}"),
            width=12,
        ),
    )


def _uplinks(found: Board) -> None:
    found.row(
        "Device to edge",
        lines(
            "Payload bytes on the wire",
            "Bytes per second that devices send, by payload.",
            BYTES_PER_S,
            Ask(f"sum by (payload) (rate(twinsplit_payload_wire_bytes_total{{{_DEVICE}}}{RATE}))", "{{payload}}"),
            is_stacked=True,
            width=8,
            may_be_empty=_NO_OFFLOAD,
        ),
        lines(
            "Size on the wire over raw size",
            "What encoding leaves of a tensor's bytes, by payload.",
            SHARE,
            Ask(
                f"sum by (payload) (rate(twinsplit_payload_wire_bytes_total{{{_DEVICE}}}{RATE}))"
                f" / sum by (payload) (rate(twinsplit_payload_raw_bytes_total{{{_DEVICE}}}{RATE}))",
                "{{payload}}",
            ),
            width=8,
            may_be_empty=_NO_OFFLOAD,
        ),
        lines(
            "Upload",
            "First byte sent to last byte acknowledged.",
            SECONDS,
            *quantiles("twinsplit_stage_seconds", f'{_DEVICE}, stage="upload"'),
            width=8,
            may_be_empty=_NO_OFFLOAD,
        ),
        lines(
            "Goodput",
            "Payload bytes a second that each uplink was measured to carry.",
            BYTES_PER_S,
            Ask(f"twinsplit_uplink_goodput_bytes_per_second{{{_DEVICE}}}", "{{instance}}"),
            width=8,
            may_be_empty=_NO_OFFLOAD,
        ),
        lines(
            "Round trip",
            "To the edge and back without payload.",
            SECONDS,
            Ask(f"twinsplit_uplink_round_trip_seconds{{{_DEVICE}}}", "{{instance}}"),
            width=8,
            may_be_empty="no edge was reached",
        ),
        lines(
            "Offloads in flight",
            "Offloads whose answer is not in yet.",
            COUNT,
            Ask(f"twinsplit_uploads_in_flight{{{_DEVICE}}}", "{{instance}}"),
            width=8,
        ),
    )


def _edges(found: Board) -> None:
    found.row(
        "Edges",
        lines(
            "Tails by outcome",
            "Tails per second that finished, were refused, cancelled, expired or failed.",
            PER_S,
            Ask(f"sum by (outcome) (rate(twinsplit_tails_total{{{_EDGE}}}{RATE}))", "{{outcome}}"),
            is_stacked=True,
            width=8,
        ),
        lines(
            "Waiting at the edge",
            "Arrival of the last byte to the start of service.",
            SECONDS,
            *quantiles("twinsplit_tail_wait_seconds", _EDGE),
            width=8,
        ),
        lines(
            "Service at the edge",
            "Decoding and running a tail.",
            SECONDS,
            *quantiles("twinsplit_tail_service_seconds", _EDGE),
            width=8,
        ),
        lines(
            "Backlog and what arrives",
            "Unfinished work, its tracked mean, and work that arrived in the last windows, in seconds of service.",
            SECONDS,
            Ask(f"twinsplit_backlog_seconds{{{_EDGE}}}", "{{instance}} backlog"),
            Ask(f"twinsplit_backlog_mean_seconds{{{_EDGE}}}", "{{instance}} mean"),
            Ask(f"twinsplit_arrived_work_seconds{{{_EDGE}}}", "{{instance}} arrived in {{window}}"),
            width=8,
        ),
        lines(
            "Time constant of the backlog",
            "How fast it returns to its mean: the predictor's other number.",
            SECONDS,
            Ask(f"twinsplit_backlog_time_constant_seconds{{{_EDGE}}}", "{{instance}}"),
            width=8,
        ),
        lines(
            "Power",
            "Power of each edge's GPUs, as their driver tells it.",
            WATTS,
            # Devices have this metric, too; only edges hold models.
            Ask(f"twinsplit_power_watts and on (instance) twinsplit_models_held{{{_EDGE}}}", "{{instance}} {{source}}"),
            width=8,
            may_be_empty="the edge has no meter",
        ),
        lines(
            "Speed factor",
            "Measured over predicted service time: above 1 the edge is slower than its profile.",
            NONE,
            Ask(f"twinsplit_speed_factor{{{_EDGE}}}", "{{instance}}"),
            width=6,
        ),
        lines(
            "Queue",
            "Tails waiting or in service, and how many may wait.",
            COUNT,
            Ask(f"twinsplit_tails_waiting{{{_EDGE}}}", "{{instance}} waiting"),
            Ask(f"twinsplit_tail_queue_capacity{{{_EDGE}}}", "{{instance}} capacity"),
            width=6,
        ),
        lines(
            "Streams and models",
            "Devices with an open stream, load generators included, and models that the edge can finish.",
            COUNT,
            Ask(f"twinsplit_device_streams{{{_EDGE}}}", "{{instance}} streams"),
            Ask(f"twinsplit_models_held{{{_EDGE}}}", "{{instance}} models"),
            width=6,
        ),
        lines(
            "Payload bytes",
            "Bytes of admitted tails per second, as they crossed the wire and as raw tensors.",
            BYTES_PER_S,
            Ask(f"sum(rate(twinsplit_tail_wire_bytes_total{{{_EDGE}}}{RATE}))", "on the wire"),
            Ask(f"sum(rate(twinsplit_tail_raw_bytes_total{{{_EDGE}}}{RATE}))", "raw"),
            width=6,
        ),
    )


def _ways(found: Board) -> None:
    found.row(
        "Several edges, and what runs their tails",
        lines(
            "Ways to edges",
            "Goodput from each device to each edge of the list, by its place there, and whether it uses that edge.",
            BYTES_PER_S,
            Ask(f"twinsplit_edge_goodput_bytes_per_second{{{_DEVICE}}}", "{{instance}} to {{place}}"),
            Ask(f"twinsplit_edge_reachable{{{_DEVICE}}}", "{{instance}} uses {{place}}", COUNT),
            width=6,
            may_be_empty="devices are told their edge, and get no list",
        ),
        lines(
            "Round trip to edges",
            "From each device to each edge of the list, without payload.",
            SECONDS,
            Ask(f"twinsplit_edge_round_trip_seconds{{{_DEVICE}}}", "{{instance}} to {{place}}"),
            width=6,
            may_be_empty="devices are told their edge, and get no list",
        ),
        lines(
            "Sent on",
            "Offloads per minute that went on to the next edge, by reason.",
            PER_MIN,
            Ask(f"60 * sum by (reason) (rate(twinsplit_offloads_sent_on_total{{{_DEVICE}}}{RATE}))", "{{reason}}"),
            width=6,
            may_be_empty="no offload was sent on",
        ),
        lines(
            "Tails per batch",
            "Tails that edges ran in one batch, on average; only edges with batch_most above 1 make any.",
            COUNT,
            Ask(
                f"sum by (instance) (rate(twinsplit_batched_tails_total{{{_EDGE}}}{RATE})) / "
                f"sum by (instance) (rate(twinsplit_tail_batches_total{{{_EDGE}}}{RATE}))",
                "{{instance}}",
            ),
            width=6,
            may_be_empty="no batch was run",
        ),
        lines(
            "Servers behind edges",
            "Of engines elsewhere: whether each takes tails, and how many are under way there.",
            COUNT,
            Ask(f"twinsplit_engine_ready{{{_EDGE}}}", "{{instance}} {{back_end}} ready"),
            Ask(f"twinsplit_engine_tails_in_flight{{{_EDGE}}}", "{{instance}} {{back_end}} under way"),
            width=6,
            may_be_empty="edges run their tails themselves",
        ),
        lines(
            "Wait at servers behind edges",
            "Wait of a further tail there as the edge believes, and the mean error of that.",
            SECONDS,
            Ask(f"twinsplit_engine_backlog_seconds{{{_EDGE}}}", "{{instance}} {{back_end}}"),
            Ask(f"twinsplit_engine_backlog_error_seconds{{{_EDGE}}}", "{{instance}} error"),
            width=6,
            may_be_empty="edges run their tails themselves",
        ),
        lines(
            "Computing processes",
            "Processor time of an edge's own process for tails, and how often it was started again.",
            CORES,
            Ask(f"rate(twinsplit_computing_process_cpu_seconds_total{{{_EDGE}}}{RATE})", "{{instance}}"),
            Ask(
                f"60 * rate(twinsplit_computing_process_restarts_total{{{_EDGE}}}{RATE})",
                "{{instance}} restarts",
                PER_MIN,
            ),
            width=6,
            may_be_empty="tails are run by a thread (setting computing)",
        ),
        lines(
            "Certificates",
            "Time until the certificate of each service ends.",
            SECONDS,
            Ask("twinsplit_certificate_expires_timestamp_seconds - time()", "{{instance}}"),
            width=6,
            may_be_empty="services speak without TLS",
        ),
    )


def _calls(found: Board) -> None:
    found.row(
        "Calls and state",
        lines(
            "Calls begun",
            "Calls per minute begun at gRPC servers, by method; streams last for hours.",
            PER_MIN,
            Ask(f"60 * sum by (method) (rate(twinsplit_rpc_started_total{RATE}))", "{{method}}"),
            width=6,
        ),
        lines(
            "Calls ended",
            "Calls per minute that ended, by method and gRPC status.",
            PER_MIN,
            Ask(f"60 * sum by (method, status) (rate(twinsplit_rpc_handled_total{RATE}))", "{{method}} {{status}}"),
            width=6,
        ),
        lines(
            "Duration of ended calls",
            "95 % of the calls that ended took less.",
            SECONDS,
            Ask(
                f"histogram_quantile(0.95, sum by (le, method) (rate(twinsplit_rpc_duration_seconds_bucket{RATE})))",
                "{{method}}",
            ),
            width=6,
            may_be_empty="no call ended",
        ),
        lines(
            "State of the twin service",
            "Size on disk, 1 while what changes cannot be kept, and records for export that could not be.",
            BYTES,
            Ask("twinsplit_state_bytes", "{{instance}} state"),
            Ask("twinsplit_store_degraded", "{{instance}} degraded", COUNT),
            Ask("twinsplit_trace_records_lost_total", "{{instance}} records lost", COUNT),
            width=6,
        ),
    )
