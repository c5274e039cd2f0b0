"""One device: what it does, and how the twin service sees it, in layers."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries

from deploy.grafana.boards.device_machine import add_energy, add_surroundings
from deploy.grafana.boards.device_series import gauge, rate
from deploy.grafana.boards.frame import Board, instances
from deploy.grafana.boards.panels import (
    BYTES,
    BYTES_PER_S,
    COUNT,
    NONE,
    PER_MIN,
    PER_S,
    SECONDS,
    SHARE,
    Ask,
    lines,
    number,
    states,
)

_YES = {"1": "yes|good", "0": "no|bad"}
_NO_EDGE = "no plan names an edge and none is set"
_NO_OFFLOAD = "nothing was offloaded"
_IDLE = "the device was idle at each scrape"


def board() -> Board:
    """The dashboard."""
    variable = instances("device", "device", "Device", is_multiple=False)
    found = Board("One device", "A device, and its mirror in the twin service.", (variable,))
    _now(found)
    _mirror(found)
    _tasks(found)
    _uplink(found)
    _plan(found)
    add_surroundings(found)
    add_energy(found)
    return found


def _now(found: Board) -> None:
    found.row(
        "Now",
        number("Attached", "Whether the stream to the twin service is open.", NONE, gauge("twin_attached"), words=_YES),
        number(
            "Plan in force",
            "Whether the device obeys a plan; without one its contingency decides.",
            NONE,
            f"1 - {gauge('degraded')}",
            words=_YES,
        ),
        number(
            "Way to the edge",
            "Whether the circuit breaker lets offloads go.",
            NONE,
            gauge("breaker_state", ', state="closed"'),
            words={"1": "usable|good", "0": "broken|bad"},
            may_be_empty=_NO_EDGE,
        ),
        number("Waiting", "Tasks that wait on the device.", COUNT, gauge("queue_length")),
        number("Tasks", "Tasks ended per second, however they ended.", PER_S, f"sum({rate('tasks_total')})"),
        number(
            "Latency, 95 %",
            "95 % of the answers came within this time after the frame.",
            SECONDS,
            f"histogram_quantile(0.95, sum by (le) ({rate('task_latency_seconds_bucket')}))",
        ),
        number(
            "Emulated",
            "Emulations in force (slowdown, uplink): this is not the device's real speed.",
            COUNT,
            f"sum({gauge('emulation')})",
            may_be_empty="nothing is emulated",
        ),
        number(
            "Running for", "Time since the process began.", SECONDS, f"time() - {gauge('process_start_time_seconds')}"
        ),
    )


def _layers(title: str, text: str, unit: str, field: str, may_be_empty: str | None = None) -> list[timeseries.Panel]:
    """The reported and the predicted layer side by side, each beside what was true."""
    return [
        lines(
            f"{title}: {layer}",
            f"{text}, {meaning}, and as it is.",
            unit,
            Ask(gauge(f"mirror_{layer}", f', field="{field}"'), layer),
            Ask(gauge("mirror_actual", f', field="{field}"'), "actual"),
            may_be_empty=may_be_empty,
        )
        for layer, meaning in (("reported", "as last reported"), ("predicted", "as the twin service predicts it"))
    ]


def _mirror(found: Board) -> None:
    epoch = ', field="epoch"'
    wrong = f"{gauge('mirror_predicted', epoch)} != bool on (instance) {gauge('mirror_actual', epoch)}"
    slow = (
        ("Goodput", "goodput_bytes_per_s", BYTES_PER_S, "Payload bytes a second that the uplink carries", _NO_OFFLOAD),
        ("Round trip", "round_trip_s", SECONDS, "To the edge and back without payload", _NO_EDGE),
        ("Network", "network_s", SECONDS, "All segments of the network on this device", None),
    )
    found.row(
        "The twin service's view: reported and predicted layer, beside what was true",
        *_layers("Epoch", "Decision epoch of the task in service (none while idle)", NONE, "epoch", _IDLE),
        *_layers("Queue", "Tasks waiting", COUNT, "queue_length"),
        *(
            lines(
                title,
                f"{text}. It is predicted to stay as reported; the lines part between reports.",
                unit,
                *(
                    Ask(gauge(f"mirror_{layer}", f', field="{field}"'), layer)
                    for layer in ("reported", "predicted", "actual")
                ),
                width=8,
                may_be_empty=empty,
            )
            for title, field, unit, text, empty in slow
        ),
        lines(
            "Age of the newest report",
            "Silence means agreement: within the report threshold the device has nothing to tell. A heartbeat ends it.",
            SECONDS,
            Ask(gauge("last_report_age_seconds"), "age"),
        ),
        lines(
            "Predicted epoch wrong",
            "Share of the last scrapes at which the predicted epoch was not the true one.",
            SHARE,
            Ask(f"avg_over_time(({wrong})[5m:])", "wrong"),
            may_be_empty=_IDLE,
            most=1.0,
        ),
    )


def _tasks(found: Board) -> None:
    found.row(
        "Tasks",
        lines(
            "Where tasks end",
            "Tasks per second by outcome.",
            PER_S,
            Ask(f"sum by (outcome) ({rate('tasks_total')})", "{{outcome}}"),
            is_stacked=True,
            width=8,
        ),
        lines(
            "Why they end there",
            "Tasks per second by the reason that is named in records, log and status.",
            PER_S,
            Ask(f"sum by (reason) ({rate('task_reasons_total')})", "{{reason}}"),
            is_stacked=True,
            width=8,
        ),
        lines(
            "Where the device stops",
            "Stops per second by decision epoch and decision.",
            PER_S,
            Ask(f"sum by (epoch, decision) ({rate('decisions_total')})", "{{epoch}} {{decision}}"),
            is_stacked=True,
            width=8,
            may_be_empty="every task goes through the whole network on the device",
        ),
        lines(
            "Latency by outcome",
            "95 % of the answers came within this time after the frame.",
            SECONDS,
            Ask(
                f"histogram_quantile(0.95, sum by (le, outcome) ({rate('task_latency_seconds_bucket')}))",
                "{{outcome}}",
            ),
        ),
        lines(
            "Mean time by stage",
            "Mean time of tasks that entered the stage; edge_queue and edge_compute are as the edge measured them.",
            SECONDS,
            Ask(
                f"sum by (stage) ({rate('stage_seconds_sum')}) / sum by (stage) ({rate('stage_seconds_count')})",
                "{{stage}}",
            ),
        ),
    )


def _uplink(found: Board) -> None:
    found.row(
        "Uplink and edge",
        lines(
            "Payloads",
            "Bytes sent per second, as they crossed the wire and as raw tensors, by payload.",
            BYTES_PER_S,
            Ask(f"sum by (payload) ({rate('payload_wire_bytes_total')})", "{{payload}} on the wire"),
            Ask(f"sum by (payload) ({rate('payload_raw_bytes_total')})", "{{payload}} raw"),
            width=8,
            may_be_empty=_NO_OFFLOAD,
        ),
        lines(
            "Offloads in flight",
            "Offloads whose answer is not in yet.",
            COUNT,
            Ask(gauge("uploads_in_flight"), "in flight"),
            width=8,
        ),
        lines(
            "Kept tensors",
            "Memory of boundary tensors that are kept until their answer is in.",
            BYTES,
            Ask(gauge("kept_tensor_bytes"), "kept"),
            width=8,
        ),
        states(
            "Circuit breaker",
            "State of the way to the edge: closed lets offloads go, open none, half-open one for trial.",
            Ask(gauge("breaker_state"), "{{state}}"),
            words={"1": "yes|good", "0": "no|some"},
            width=8,
            may_be_empty=_NO_EDGE,
        ),
        lines(
            "Offloads that came back, by reason",
            "Offloads per second that resumed on the device.",
            PER_S,
            Ask(f"sum by (reason) ({rate('offloads_resumed_total')})", "{{reason}}"),
            width=8,
            may_be_empty="every offload was answered",
        ),
        lines(
            "Backlog as the device sees it",
            "Backlog of the edge, dead-reckoned from the newest reading: what the plan's bands are looked up with.",
            SECONDS,
            Ask(gauge("predicted_backlog_seconds"), "predicted"),
            width=8,
            may_be_empty=_NO_EDGE,
        ),
    )


def _plan(found: Board) -> None:
    found.row(
        "Plan",
        lines(
            "Plans received",
            "Plans per minute: obeyed, older than the one in force, or refused.",
            PER_MIN,
            Ask(f"60 * sum by (result) ({rate('plans_received_total')})", "{{result}}"),
            width=6,
        ),
        lines(
            "Backlog updates received",
            "Updates per minute; the edge's answers tell the backlog, too.",
            PER_MIN,
            Ask(f"60 * {rate('backlog_updates_received_total')}", "updates"),
            width=6,
        ),
        lines(
            "Age of the plan",
            "Time since the plan in force arrived.",
            SECONDS,
            Ask(gauge("plan_age_seconds"), "age"),
            width=6,
            may_be_empty="no plan is in force",
        ),
        lines(
            "Lease",
            "Time until the plan's lease ends; every message of the twin service renews it.",
            SECONDS,
            Ask(gauge("lease_left_seconds"), "left"),
            width=6,
            may_be_empty="no plan is in force",
        ),
    )
