"""Fleet: everything that is scraped, at a glance; the home dashboard."""

from __future__ import annotations

from deploy.grafana.boards.frame import BOARD_UIDS, Board
from deploy.grafana.boards.panels import (
    BYTES,
    BYTES_PER_S,
    CORES,
    COUNT,
    JOULES,
    PER_S,
    SECONDS,
    SHARE,
    YES_NO,
    Ask,
    Column,
    lines,
    number,
    quantiles,
    rows,
    states,
)
from deploy.grafana.boards.queries import COST, COST_TEXT, MIRROR_ACCURACY, RATE, TASKS

_LOST = f'sum(rate(twinsplit_tasks_total{{outcome=~"dropped|failed"}}{RATE}))'
_NO_TASK = "no task ended"
_NO_ENERGY = "no device has a meter or powers for the model (setting energy)"


def board() -> Board:
    """The dashboard."""
    found = Board("Fleet", "All devices, edges and twin services that this Prometheus scrapes.")
    _now(found)
    _tasks(found)
    _machines(found)
    return found


def _now(found: Board) -> None:
    found.row(
        "Now",
        number(
            "Devices attached",
            "Devices whose stream to the twin service is open.",
            COUNT,
            'sum(twinsplit_twins{kind="device", state="attached"})',
        ),
        number(
            "Edges attached",
            "Edges whose stream to the twin service is open.",
            COUNT,
            'sum(twinsplit_twins{kind="edge", state="attached"})',
        ),
        number(
            "Targets down",
            "Services that do not answer Prometheus.",
            COUNT,
            'count(up{job=~"twinsplit-.+"} == 0) or vector(0)',
            bad_from=1,
        ),
        number(
            "Alerts firing",
            "Alerts of this project that fire now; none also where Prometheus does not load its rules.",
            COUNT,
            'count(ALERTS{alertname=~"Twinsplit.+", alertstate="firing"}) or vector(0)',
            bad_from=1,
        ),
        number("Tasks", "Tasks ended per second, however they ended.", PER_S, TASKS),
        number(
            "Latency, 95 %",
            "95 % of the answers came within this time after the frame. Read it beside the share of tasks lost.",
            SECONDS,
            f"histogram_quantile(0.95, sum by (le) (rate(twinsplit_task_latency_seconds_bucket{RATE})))",
        ),
        number(
            "Cost per task",
            COST_TEXT,
            SECONDS,
            COST,
            may_be_empty=_NO_TASK,
        ),
        number(
            "Messages per task",
            "Every message between devices, edges and twin service, in either direction, without tensors and answers.",
            COUNT,
            f"sum(rate(twinsplit_signalling_messages_total{RATE})) / {TASKS}",
        ),
    )


def _tasks(found: Board) -> None:
    found.row(
        "Tasks",
        lines(
            "Where tasks end",
            "Tasks per second by outcome: on the device, at an exit, at the edge, dropped, failed.",
            PER_S,
            Ask(f"sum by (outcome) (rate(twinsplit_tasks_total{RATE}))", "{{outcome}}"),
            is_stacked=True,
        ),
        lines(
            "Latency of answers",
            "Generation of the frame to the answer, over all devices.",
            SECONDS,
            *quantiles("twinsplit_task_latency_seconds"),
        ),
        lines(
            "Tasks lost",
            "Share of tasks that were dropped or failed, and share answered by a contingency or a fault path.",
            SHARE,
            Ask(f"{_LOST} / {TASKS}", "dropped or failed"),
            Ask(f"sum(rate(twinsplit_tasks_degraded_total{RATE})) / {TASKS}", "degraded"),
        ),
        lines(
            "Energy per task",
            "Energy of devices per ended task, by the meter that measured it, or the model.",
            JOULES,
            Ask(
                f"sum by (source) (rate(twinsplit_energy_joules_total{RATE})) / on () group_left () {TASKS}",
                "{{source}}",
            ),
            may_be_empty=_NO_ENERGY,
        ),
        rows(
            "Devices",
            "One line per device; its name leads to its own dashboard.",
            (
                Column("tasks/s", PER_S, f"sum by (instance) (rate(twinsplit_tasks_total{RATE}))"),
                Column(
                    "latency, 95 %",
                    SECONDS,
                    "histogram_quantile(0.95, sum by (instance, le) "
                    f"(rate(twinsplit_task_latency_seconds_bucket{RATE})))",
                ),
                Column(
                    "lost",
                    SHARE,
                    f'sum by (instance) (rate(twinsplit_tasks_total{{outcome=~"dropped|failed"}}{RATE}))'
                    f" / sum by (instance) (rate(twinsplit_tasks_total{RATE}))",
                ),
                Column("waiting", COUNT, "sum by (instance) (twinsplit_queue_length)"),
                Column("goodput", BYTES_PER_S, "sum by (instance) (twinsplit_uplink_goodput_bytes_per_second)"),
                Column("degraded", YES_NO, "sum by (instance) (twinsplit_degraded)"),
                Column("breaker closed", YES_NO, 'sum by (instance) (twinsplit_breaker_state{state="closed"})'),
                Column(
                    "attached",
                    YES_NO,
                    "sum by (instance) (twinsplit_twin_attached and on (instance) twinsplit_queue_capacity)",
                ),
            ),
            by="instance",
            by_title="device",
            link=(
                "Dashboard of this device",
                f"/d/{BOARD_UIDS['One device']}?var-device=${{__value.raw}}&${{__url_time_range}}",
            ),
        ),
    )


def _machines(found: Board) -> None:
    found.row(
        "Edges and twin service",
        lines(
            "Backlog",
            "Unfinished work of each edge, in seconds of service.",
            SECONDS,
            Ask("twinsplit_backlog_seconds", "{{instance}}"),
            width=8,
        ),
        lines(
            "Busy share",
            "Share of the last seconds in which each edge served.",
            SHARE,
            Ask("twinsplit_busy_share", "{{instance}}"),
            width=8,
            most=1.0,
        ),
        lines(
            "Mirror accuracy",
            "Share of time in service in which the twin service believed a task at the epoch where it was.",
            SHARE,
            Ask(
                MIRROR_ACCURACY,
                "{{instance}}",
            ),
            width=8,
            most=1.0,
        ),
        states(
            "Services",
            "Whether each service answers Prometheus.",
            Ask('up{job=~"twinsplit-.+"}', "{{job}} {{instance}}"),
            words={"1": "up|good", "0": "down|bad"},
            width=8,
        ),
        lines(
            "Processor time",
            "Cores in use by each service; learning and replaying are in the twin service's.",
            CORES,
            Ask(f"rate(twinsplit_process_cpu_seconds_total{RATE})", "{{job}} {{instance}}"),
            width=8,
        ),
        lines(
            "Memory",
            "Resident memory of each service, shared libraries included.",
            BYTES,
            Ask("twinsplit_process_resident_memory_bytes", "{{job}} {{instance}}"),
            width=8,
        ),
    )
