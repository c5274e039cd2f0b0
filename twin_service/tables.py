"""Twins as text for people: which plan stands, what is mirrored, why tasks end where they do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from twin_service.fields import FieldView
from twin_service.fleet import Fleet
from twin_service.views import DeviceView, EdgeView, Listing
from twinsplit.edge_list import EdgeLink
from twinsplit.plan import QUEUE_LEVELS, Plan
from twinsplit.types import Decision

REASON_TEXTS = {
    "offload-pays": "the plan found the edge worth it",
    "exit-confident": "an early exit was sure enough",
    "not-worth-it": "the edge was not worth it",
    "no-plan": "no plan had arrived",
    "lease-ended": "the twin was silent for a lease",
    "no-edge-holds-model": "no edge holds this model",
    "edge-refused": "the edge refused the tail",
    "edge-lost": "the edge was lost",
    "edge-too-late": "the edge was too late",
    "breaker-open": "the edge had failed just before",
    "uplink-full": "too many offloads were under way",
    "head-only": "the device holds only the head",
    "queue-full": "the device's queue was full",
    "newer-frame": "a newer frame took its place",
    "shutdown": "the device stopped",
    "bad-frame": "the frame could not be used",
    "compute-error": "a computation failed",
}
_SIGNS = {
    Decision.CONTINUE: "go on",
    Decision.EXIT: "exit",
    Decision.OFFLOAD_TENSOR: "tensor",
    Decision.OFFLOAD_INPUT: "input",
}
_DEVICE_HEAD = ("device", "stream", "epoch", "queue", "rate", "plan", "tasks", "ended at", "mirror")
_EDGE_HEAD = ("edge", "stream", "address", "models", "backlog", "busy", "speed")
_HOW_TO_READ = (
    '"tensor W<40, go on": send the tensor while the backlog W of the edge is below 40 ms, else go on. '
    "Evidence that is not shown goes on."
)
_HOW_TO_READ_AGES = (
    '"<80" under age: so long as the task is younger than 80 ms; what is above all of them is above the last.'
)


def listing_table(listing: Listing) -> str:
    """All twins, a line each."""
    devices = [_device_row(view) for view in listing.devices]
    edges = [_edge_row(view, _attached(view.is_attached)) for view in listing.edges]
    return "\n\n".join(
        [
            f"rule {listing.rule}",
            table(_DEVICE_HEAD, devices) if devices else "no devices",
            table(_EDGE_HEAD, edges) if edges else "no edges",
        ]
    )


def fleet_table(fleet: Fleet) -> str:
    """All twins of several replicas, a line each, devices with the replica that speaks for them."""
    devices = [(*_device_row(view), address) for address, view in fleet.devices()]
    count = len(fleet.listings)
    edges = [
        _edge_row(view, _attached(attached > 0) if attached in (0, count) else f"attached to {attached} of {count}")
        for attached, view in fleet.edges()
    ]
    held = ", ".join(
        f"{sum(view.is_attached and replica == address for replica, view in fleet.devices())} at {address}"
        for address in fleet.listings
    )
    return "\n\n".join(
        [
            f"rule {' and '.join(fleet.rules)}; devices attached: {held}",
            table((*_DEVICE_HEAD, "twin"), devices) if devices else "no devices",
            table(_EDGE_HEAD, edges) if edges else "no edges",
        ]
    )


def device_text(view: DeviceView, *, is_live: bool) -> str:
    """One twin in full."""
    state = "attached" if view.is_attached else "detached"
    how = "just asked" if is_live else "from the twin"
    parts = [f"device {view.device_id}: {state}, document version {view.version}, {how}"]
    parts.append(_fields_table(view.fields) if view.fields else "nothing reported since the twin service started")
    if view.links:
        parts.append(_links_table(view.links))
    parts.append(plan_text(view.plan) if view.plan is not None else "no plan stands")
    parts.append(_reasons_table(view))
    parts.append(_signalling_table(view))
    return "\n\n".join(parts)


def plan_text(plan: Plan) -> str:
    """A plan: what it decides by epoch, evidence, queue length, backlog and, with a deadline, age."""
    edge = "no edge holds the model" if plan.edge_id is None else f"edge {plan.edge_id} at {plan.edge_address}"
    exits = ", ".join(str(index) for index, is_run in enumerate(plan.exits_run) if is_run) or "none"
    lines = [f"plan {plan.plan_id} by {plan.rule}: {edge}; exits run: {exits}; lease {plan.lease_s:g} s"]
    lines.append(_plan_table(plan))
    busy = plan.busy_uplink
    if busy is not None:
        lines.append(f"while earlier payloads keep the uplink busy for {busy.from_s * 1000:.0f} ms or longer:")
        lines.append(_plan_table(replace(plan, table=busy.table, band_edges_s=busy.band_edges_s)))
    lines.append(_HOW_TO_READ)
    if plan.age_edges_s:
        lines.append(_HOW_TO_READ_AGES)
    return "\n".join(lines)


def _plan_table(plan: Plan) -> str:
    rows = [
        (
            str(epoch),
            _evidence_name(states, plan),
            *((age,) if plan.age_edges_s else ()),
            *(_decided(plan, by_queue[q]) for q in range(QUEUE_LEVELS)),
        )
        for epoch in range(len(plan.table))
        for states in _alike(plan, epoch)
        if states[0] == 0 or (plan.table[epoch, states[0]] != Decision.CONTINUE).any()
        for age, by_queue in _by_age(plan, epoch, states[0])
    ]
    by_queue = (*(f"queue {q}" for q in range(QUEUE_LEVELS - 1)), f"queue {QUEUE_LEVELS - 1}+")
    head = ("epoch", "evidence", *(("age",) if plan.age_edges_s else ()), *by_queue)
    return table(head, rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns aligned with two spaces between."""
    grid = [head, *rows]
    widths = [max(len(row[column]) for row in grid) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in grid]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _device_row(view: DeviceView) -> tuple[str, ...]:
    return (
        view.device_id,
        _attached(view.is_attached),
        _number(_predicted(view.fields, "epoch"), ""),
        _number(_predicted(view.fields, "queue_length"), ""),
        _number(_predicted(view.fields, "task_rate_per_s"), "/s"),
        str(view.plan_id or "-"),
        str(sum(view.outcomes.values())),
        _shares(view.outcomes),
        _share(view.mirror_accuracy),
    )


def _edge_row(view: EdgeView, stream: str) -> tuple[str, ...]:
    return (
        view.edge_id,
        stream,
        view.address,
        str(len(view.model_digests)),
        _number(_predicted(view.fields, "backlog_s"), " s"),
        _number(_predicted(view.fields, "busy_share"), ""),
        _number(_predicted(view.fields, "speed_factor"), ""),
    )


def _attached(is_attached: bool) -> str:
    return "attached" if is_attached else "detached"


def _by_age(plan: Plan, epoch: int, evidence: int) -> Iterator[tuple[str, list[list[int]]]]:
    """Runs of ages that are decided alike, in milliseconds up to their ends, with their cells by queue and backlog."""
    cells = plan.table[epoch, evidence]
    if not plan.age_edges_s:
        yield "", cells.tolist()
        return
    ends = (cells[..., :-1] != cells[..., 1:]).any(axis=(0, 1)).nonzero()[0].tolist()
    for band in ends:
        yield f"<{plan.age_edges_s[band] * 1000:.0f}", cells[..., band].tolist()
    yield "above" if ends else "any", cells[..., -1].tolist()


def _decided(plan: Plan, cells: Sequence[int]) -> str:
    """Such as ``tensor W<40, go on``."""
    parts = [_SIGNS[Decision(cells[0])]]
    for edge_s, before, after in zip(plan.band_edges_s, cells, cells[1:], strict=False):
        if after != before:
            parts[-1] += f" W<{edge_s * 1000:.0f}"
            parts.append(_SIGNS[Decision(after)])
    return ", ".join(parts)


def _alike(plan: Plan, epoch: int) -> list[list[int]]:
    """Runs of evidence states that can exist and are decided alike at ``epoch``."""
    exits = max(len(plan.exits_run), 1)
    bins = (plan.table.shape[1] - 1) // exits
    runs: list[list[int]] = [[0]]
    for state in range(1, plan.table.shape[1]):
        if not plan.exits_run[(state - 1) // bins]:
            continue
        last = runs[-1][-1]
        is_same_exit = last > 0 and (last - 1) // bins == (state - 1) // bins
        if is_same_exit and (plan.table[epoch, state] == plan.table[epoch, last]).all():
            runs[-1].append(state)
        else:
            runs.append([state])
    return runs


def _evidence_name(states: Sequence[int], plan: Plan) -> str:
    if states[0] == 0:
        return "none"
    bins = (plan.table.shape[1] - 1) // len(plan.exits_run)
    exit_index, first = divmod(states[0] - 1, bins)
    last = (states[-1] - 1) % bins
    return f"exit {exit_index} bin {first}" + (f"-{last}" if last > first else "")


def _fields_table(fields: Iterable[FieldView]) -> str:
    head = ("field", "reported", "predicted", "desired", "age", "error", "source")
    rows = [
        (
            field.name,
            _number(field.reported, ""),
            _number(field.predicted, ""),
            _number(field.desired, ""),
            f"{field.age_s:.2f} s" if field.reported is not None else "-",
            _number(field.error, ""),
            field.source.value if field.predicted is not None else "-",
        )
        for field in fields
    ]
    return table(head, rows)


def _links_table(links: Iterable[EdgeLink]) -> str:
    head = ("edge", "goodput", "round trip", "breaker")
    rows = [
        (
            link.edge_id,
            "-" if link.goodput_bytes_per_s is None else f"{link.goodput_bytes_per_s / 1e6:.3g} MB/s",
            "-" if link.round_trip_s is None else f"{1000.0 * link.round_trip_s:.3g} ms",
            "not open" if link.is_reachable else "open",
        )
        for link in links
    ]
    return table(head, rows)


def _reasons_table(view: DeviceView) -> str:
    ended = sum(view.outcomes.values())
    if not ended:
        return "no task has ended yet"
    rows = [
        (reason, str(count), f"{count / ended:.1%}", REASON_TEXTS.get(reason, ""))
        for reason, count in sorted(view.reasons.items(), key=lambda item: -item[1])
    ]
    where = f"{ended} tasks ended: {_shares(view.outcomes)}"
    mirror = f"the epoch was mirrored right at {_share(view.mirror_accuracy)} of the time in service"
    return "\n".join([where, mirror, table(("reason", "tasks", "share", "meaning"), rows)])


def _signalling_table(view: DeviceView) -> str:
    rows = [(kind, f"{rate:.2f}") for kind, rate in view.messages_per_task.items()]
    if not rows:
        return "no messages yet"
    total = sum(view.messages_per_task.values())
    revisions = ", ".join(f"{count} for {reason}" for reason, count in sorted(view.plan_revisions.items())) or "none"
    head = f"{total:.2f} messages per task with this device; plans sent: {revisions}"
    return "\n".join([head, table(("message", "per task"), rows)])


def _predicted(fields: Iterable[FieldView], name: str) -> float | None:
    return next((field.predicted for field in fields if field.name == name), None)


def _shares(outcomes: Mapping[str, int]) -> str:
    ended = sum(outcomes.values())
    return ", ".join(f"{name} {count / ended:.0%}" for name, count in sorted(outcomes.items()) if count) or "-"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.4g}{unit}"
