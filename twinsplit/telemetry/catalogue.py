"""The one catalogue of ``twinsplit_*`` metrics of all three services (design section 9).

Base units, ``_total`` on counters, labels from small fixed sets, never a task, device or frame. A sensor or number that
is not there gives no series, never 0. ``docs/metrics.md`` has a row for each; a test keeps it so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

LATENCY_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
FINE_BUCKETS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
STREAM_BUCKETS_S = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)


class MetricKind(str, Enum):
    """Prometheus types in use."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric: every service in ``services`` may give it, and no other."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...]
    services: frozenset[str]
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram, ascending, infinity left out."""


ALL = frozenset({"device", "edge", "twin"})
DEVICE = frozenset({"device"})
EDGE = frozenset({"edge"})
TWIN = frozenset({"twin"})


def _counter(name: str, text: str, services: frozenset[str], *labels: str) -> MetricSpec:
    return MetricSpec(f"twinsplit_{name}_total", MetricKind.COUNTER, text, labels, services)


def _gauge(name: str, text: str, services: frozenset[str], *labels: str) -> MetricSpec:
    return MetricSpec(f"twinsplit_{name}", MetricKind.GAUGE, text, labels, services)


def _histogram(
    name: str, text: str, services: frozenset[str], *labels: str, buckets: tuple[float, ...] = LATENCY_BUCKETS_S
) -> MetricSpec:
    return MetricSpec(f"twinsplit_{name}", MetricKind.HISTOGRAM, text, labels, services, buckets)


_SPECS = (
    # Every service.
    _gauge("build_info", "1, with what is running.", ALL, "service", "version", "python"),
    _counter("process_cpu_seconds", "Processor time of the process, user and system.", ALL),
    _gauge("process_resident_memory_bytes", "Resident memory of the process.", ALL),
    _gauge("process_open_files", "Open file descriptors of the process.", ALL),
    _gauge("process_threads", "Threads of the process.", ALL),
    _gauge("process_start_time_seconds", "Start of the process, Unix time.", ALL),
    _gauge(
        "certificate_expires_timestamp_seconds",
        "End of the service's own certificate (cert) and of its authority (ca), Unix time.",
        ALL,
        "file",
    ),
    _counter("signalling_messages", "Signalling messages sent by this service, by kind of message.", ALL, "kind"),
    _counter("signalling_bytes", "Bytes of signalling messages sent by this service.", ALL, "kind"),
    _counter("refused_messages", "Messages of others refused by this service, by error code.", EDGE | TWIN, "code"),
    _counter("rpc_started", "Calls begun at this service's gRPC server.", ALL, "method"),
    _counter("rpc_handled", "Calls ended, by gRPC status.", ALL, "method", "status"),
    _histogram(
        "rpc_duration_seconds", "Time from start to end of ended calls.", ALL, "method", buckets=STREAM_BUCKETS_S
    ),
    _gauge(
        "twin_attached",
        "1 while the stream to the twin service is open; of an edge: those to all of its replicas.",
        DEVICE | EDGE,
    ),
    _gauge("twin_replicas", "Replicas of the twin service in the list.", DEVICE | EDGE),
    _gauge("twin_replicas_attached", "Of these, the ones that the edge is attached to.", EDGE),
    _gauge("provider_info", "1, with the ONNX Runtime execution provider in use.", DEVICE | EDGE, "provider"),
    # Device: tasks.
    _counter("tasks_entered", "Tasks that entered the device.", DEVICE),
    _counter("tasks", "Ended tasks by outcome.", DEVICE, "outcome"),
    _counter("task_reasons", "Ended tasks by the named reason why they ended where they did.", DEVICE, "reason"),
    _counter("tasks_degraded", "Tasks answered by a contingency or a fault path.", DEVICE),
    _counter("decisions", "Stops by decision epoch, decision and reason.", DEVICE, "epoch", "decision", "reason"),
    _histogram("task_latency_seconds", "Generation to answer of answered tasks.", DEVICE, "outcome"),
    _histogram("stage_seconds", "Time that tasks spent in each stage.", DEVICE, "stage", buckets=FINE_BUCKETS_S),
    _gauge("queue_length", "Tasks waiting on the device.", DEVICE),
    _gauge("queue_capacity", "Most tasks that may wait on the device.", DEVICE),
    _counter(
        "energy_joules",
        "Energy by meter or model and by what it went to: compute, radio, idle; of an edge's GPUs: all.",
        DEVICE | EDGE,
        "source",
        "part",
    ),
    _gauge("power_watts", "Power of the device, or of an edge's GPUs, as its meter says.", DEVICE | EDGE, "source"),
    _gauge("energy_meter_up", "1 while the energy meter tells something, else 0.", DEVICE | EDGE, "source"),
    _counter("energy_meter_losses", "How often the energy meter fell silent.", DEVICE | EDGE, "source"),
    # Device: the machine.
    _gauge("device_cpu_share", "Share of all processors in use, 0 to 1.", DEVICE),
    _gauge("device_memory_share", "Share of memory in use, 0 to 1.", DEVICE),
    _gauge("device_temperature_celsius", "Temperature of the processor.", DEVICE),
    _gauge("device_throttled", "1 while heat or a weak supply slows the processor down, else 0.", DEVICE),
    _gauge("device_speed_share", "Speed of the processor over its full speed, as plans reckon with it.", DEVICE),
    _counter("source_frames", "Frames that the source delivered.", DEVICE),
    _counter("source_problems", "Stalls, losses and unusable frames of the source.", DEVICE, "problem"),
    _counter("sink_records", "Task records written by the sink.", DEVICE),
    _gauge("sink_waiting_records", "Task records that the sink has not written yet.", DEVICE),
    _counter("sink_lost_records", "Task records that the sink gave up.", DEVICE),
    _gauge("emulation", "1 for every emulation in force: slowdown, uplink.", DEVICE, "kind"),
    # Device: plan.
    _gauge("degraded", "1 while no plan is in force.", DEVICE),
    _gauge("plan_id", "Id of the plan in force.", DEVICE),
    _gauge("plan_age_seconds", "Time since the plan in force arrived.", DEVICE),
    _gauge("lease_left_seconds", "Time until the lease ends.", DEVICE),
    _gauge("twin_preferred", "1 while the replica in use is the one that the device prefers, else 0.", DEVICE),
    _counter("twin_moves", "How often the device went from one replica of the twin service to another.", DEVICE),
    _gauge("attachment_epoch", "Number of the attachment to the twin service, which only grows.", DEVICE),
    _counter("plans_received", "Plans received: obeyed, older than the one in force, or refused.", DEVICE, "result"),
    _counter("backlog_updates_received", "Backlog updates received from the twin service.", DEVICE),
    # Device: what the twin believes of it, by the predictors that both run.
    _gauge("last_report_age_seconds", "Age of the newest report to the twin service.", DEVICE),
    _gauge("mirror_reported", "Mirrored field as last reported, in its unit.", DEVICE, "field"),
    _gauge("mirror_predicted", "The same field as the twin service predicts it now.", DEVICE, "field"),
    _gauge("mirror_actual", "The same field as it is now.", DEVICE, "field"),
    # Device: uplink.
    _counter("payload_wire_bytes", "Bytes of payloads sent, as they crossed the wire.", DEVICE, "payload"),
    _counter("payload_raw_bytes", "Bytes of the tensors in those payloads.", DEVICE, "payload"),
    _gauge("uploads_in_flight", "Offloads whose answer is not in yet.", DEVICE),
    _counter("offloads_resumed", "Offloads that came back to the device, by reason.", DEVICE, "reason"),
    _counter("offloads_sent_on", "Offloads that went on to the next edge, by reason.", DEVICE, "reason"),
    _gauge("edge_goodput_bytes_per_second", "Goodput to an edge of the twin's list, by its place.", DEVICE, "place"),
    _gauge("edge_round_trip_seconds", "Round trip to an edge of the twin's list, by its place.", DEVICE, "place"),
    _gauge("edge_reachable", "1 while the breaker to that edge is not open, else 0.", DEVICE, "place"),
    _gauge("kept_tensor_bytes", "Memory of boundary tensors and payloads kept until their answer is in.", DEVICE),
    _gauge("uplink_goodput_bytes_per_second", "Tracked goodput of the uplink.", DEVICE),
    _gauge("uplink_round_trip_seconds", "Tracked round trip to the edge without payload.", DEVICE),
    _gauge("breaker_state", "1 for the breaker's present state, 0 for the others.", DEVICE, "state"),
    _gauge("predicted_backlog_seconds", "Backlog of the edge as the device dead-reckons it.", DEVICE),
    # Edge.
    _counter("tails", "Tails by outcome: finished, refused, cancelled, expired, failed.", EDGE, "outcome"),
    _counter("tail_wire_bytes", "Bytes of the payloads of admitted tails, as they crossed the wire.", EDGE),
    _counter("tail_raw_bytes", "Bytes of the tensors in those payloads.", EDGE),
    _histogram("tail_wait_seconds", "Arrival of the last byte to start of service.", EDGE, buckets=FINE_BUCKETS_S),
    _histogram("tail_service_seconds", "Decoding and running a tail.", EDGE, buckets=FINE_BUCKETS_S),
    _counter("tail_batches", "Batches of several tails run at once.", EDGE),
    _counter("batched_tails", "Tails in those batches.", EDGE),
    _gauge("tails_waiting", "Tails waiting or in service.", EDGE),
    _gauge("tail_queue_capacity", "Most tails that may wait at the edge.", EDGE),
    _gauge("backlog_seconds", "Unfinished work, seconds of service.", EDGE),
    _gauge("backlog_mean_seconds", "Tracked mean of the backlog.", EDGE),
    _gauge("backlog_time_constant_seconds", "Time constant of the backlog's return to its mean.", EDGE),
    _gauge("arrived_work_seconds", "Work arrived within the last window, seconds of service.", EDGE, "window"),
    _gauge("speed_factor", "Measured over predicted service time, tracked.", EDGE),
    _gauge("busy_share", "Share of the last seconds in which the edge served.", EDGE),
    _counter("computing_process_restarts", "Starts of the computing process after one had ended.", EDGE),
    _counter("computing_process_cpu_seconds", "Processor time of the computing process.", EDGE),
    _gauge("computing_process_resident_memory_bytes", "Its memory that is in use.", EDGE),
    _gauge("engine_ready", "1 while that server behind the edge takes tails, else 0.", EDGE, "back_end"),
    _gauge("engine_tails_in_flight", "Tails under way at a server behind the edge.", EDGE, "back_end"),
    _gauge("engine_backlog_seconds", "Wait of a further tail at a server behind the edge.", EDGE, "back_end"),
    _gauge("engine_parallelism", "Tails that a server behind the edge runs at once, tracked.", EDGE, "back_end"),
    _counter(
        "engine_tails",
        "Tails sent to a server behind the edge: finished, refused, failed, cancelled, late, moved (to another one), "
        "or full (it takes no more at the moment, and the tail waits at the edge).",
        EDGE,
        "back_end",
        "outcome",
    ),
    _histogram("engine_response_seconds", "A server behind the edge, there and back.", EDGE, buckets=FINE_BUCKETS_S),
    _gauge("engine_backlog_error_seconds", "Mean error of the wait predicted when tails came.", EDGE),
    _gauge("device_streams", "Devices with an open stream.", EDGE),
    _gauge("models_held", "Models that this edge can finish.", EDGE),
    # Twin service.
    _counter("heard_messages", "Messages of devices and edges that came in.", TWIN),
    _counter("devices_released", "Devices let go since they had attached to another replica.", TWIN),
    _gauge("twins", "Twins by kind (device, edge) and state (attached, detached).", TWIN, "kind", "state"),
    _counter("tasks_reported", "Ended tasks that devices reported.", TWIN, "outcome"),
    _counter("plan_revisions", "Plans sent, by what made them necessary.", TWIN, "reason"),
    _histogram("planning_seconds", "Time to plan one device.", TWIN, buckets=FINE_BUCKETS_S),
    _counter("candidate_pairs", "Pairs of epoch and payload looked at while planning.", TWIN),
    _counter("pruned_pairs", "Of these, removed by the necessary conditions.", TWIN),
    _counter("rule_failures", "Devices that got no plan because a rule of one's own failed on them.", TWIN),
    _gauge("report_age_seconds", "Age of the oldest report among attached devices.", TWIN),
    _gauge("prediction_error", "Running mean absolute error per mirrored field, in its unit.", TWIN, "field"),
    _gauge("mirror_accuracy", "Share of instants in service at which the predicted epoch was right.", TWIN),
    _counter(
        "mirror_judged_seconds",
        "Time in service for which predicted and true epoch were compared; services under a tenth of the report "
        "threshold, which may go unannounced, do not count.",
        TWIN,
    ),
    _counter("mirror_right_seconds", "Of that time, the part in which they were the same.", TWIN),
    _counter("cost_seconds", "Cost of ended tasks by part: accuracy, latency, energy, loss.", TWIN, "part"),
    _counter("whole_network_cost_seconds", "Of part accuracy, what the whole network's answers would cost.", TWIN),
    _counter("costed_tasks", "Ended tasks whose cost could be told.", TWIN),
    _histogram(
        "regret_seconds",
        "Utility that a replayed task lost against its best decision in hindsight.",
        TWIN,
        buckets=(0.0, *FINE_BUCKETS_S),
    ),
    _gauge("open_loop_gain_seconds", "Mean utility of replayed tasks less that of open-loop, as reckoned.", TWIN),
    _counter("tasks_replayed", "Ended tasks that the workload twin replayed under all their decisions.", TWIN),
    _counter("tasks_not_replayed", "Ended tasks left out of the replay, by reason.", TWIN, "reason"),
    _gauge("replays_waiting", "Ended tasks that wait until all that concerns them is known.", TWIN),
    _gauge("replay_core_share", "Share of one core that replaying takes.", TWIN),
    _counter("lessons", "Lessons begun on replayed tasks.", TWIN),
    _counter(
        "weights_results",
        "Versions promoted, refused, rolled back, failed, unreadable, or adopted from another replica.",
        TWIN,
        "result",
    ),
    _gauge("weights_version", "Version of the learned weights in force; 0: open-loop.", TWIN, "model"),
    _gauge("training_loss", "Loss of the newest lesson, both heads, square seconds.", TWIN),
    _gauge("held_out_gain", "Share of open-loop's error on held-out tasks that the newest lesson takes off.", TWIN),
    _gauge("learning_core_share", "Share of one core that learning takes.", TWIN),
    _gauge(
        "calibration_drift", "Largest deviation of P(exit right | bin) from its calibration, as agreement shows.", TWIN
    ),
    _counter("trace_records_lost", "Records for export that could not be kept.", TWIN),
    _gauge("is_learner", "1 on the replica that learns, else 0.", TWIN),
    _gauge(
        "state_bytes",
        "Size of the state on disk, with the copy that an upgrade keeps; of a shared database: for all.",
        TWIN,
    ),
    _counter("store_errors", "Writes and reads of the state that failed, and tries to reach it.", TWIN),
    _gauge("store_degraded", "1 while the state cannot be kept: what changes waits in memory.", TWIN),
)

CATALOGUE: dict[str, MetricSpec] = {spec.name: spec for spec in _SPECS}
"""Every metric by name."""
