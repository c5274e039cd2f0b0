"""From measured costs to what a fleet needs, and what one unit of each kind holds."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.capacity import laws
from benchmarks.capacity.inputs import Inputs, changes_per_s
from twinsplit.replicas.listing import MOST_REPLICAS

FLEETS = (1_000, 100_000, 10_000_000)


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is in no measured document: choices, defaults of settings, bounds of the product, a reading by hand."""

    task_rate_per_s: float = 1.0
    """Of each device."""
    most_share: float = 0.7
    """Of a core, that a twin or an edge may be busy: what is left takes bursts, replays and learning."""
    edges_share: float = 0.3
    """Of that, what a twin may spend on what edges say: each twin of a cell hears all of its edges."""
    link_bytes_per_s: float = 125e6
    """Network of one machine, 1 Gbit/s."""
    memory_bytes: float = 2.0 * 2**30
    """Of one twin, as its pod is allowed."""
    most_devices: int = 20_000
    """Twins kept by one twin service: its setting ``max_devices``."""
    most_edges: int = 256
    """Edges kept by one twin service."""
    most_replicas: int = MOST_REPLICAS
    """Twins of a cell: the longest list that an edge or a device takes."""
    save_s: float = 5.0
    """Between two rounds of saving: its setting ``save_s``."""
    heartbeat_s: float = 5.0
    """Silence after which a device gives a sign of life: its setting ``heartbeat_s``."""
    saved_per_s: float = 4_000.0
    """Documents at the service's own pace: 200 in every 0.05 s."""
    shared_per_s: float = 3_900.0
    """Documents that one PostgreSQL took of all twins together, read by hand (docs/how-to/postgresql.md)."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What one unit holds of one resource."""

    unit: str
    """``twin``, ``edge`` or ``cell``."""
    resource: str
    devices: float
    """Beyond them it is used up."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a fleet takes. Rates per second, sizes in bytes."""

    devices: int
    tasks_per_s: float
    cells: int
    """Sets of edges that do not know one another, each with twins of its own."""
    edges: int
    """Machines with one core for tails each."""
    edge_cores: float
    tails_per_s: float
    tail_wait_s: float
    """Mean wait at an edge, other users apart."""
    twins: int
    twin_cores: float
    twin_memory_bytes: float
    twin_messages_per_s: float
    twin_bytes_per_s: float
    payload_bytes_per_s: float
    documents_per_s: float
    sharing_cells: int
    """Cells, where the twins of each share a PostgreSQL."""
    written_bytes_per_s: float
    documents_bytes: float
    attach_all_s: float
    """All devices of a twin attach at once, after it was lost: until the last has a plan."""

    def described(self) -> dict[str, Any]:
        """For a result."""
        return asdict(self)


def twin_task_s(inputs: Inputs) -> float:
    """Core seconds of the twin for one task: over real streams with one edge, and what choosing among many adds."""
    return inputs.twin_task_s + max(0.0, inputs.many_edges_task_s - inputs.one_edge_task_s)


def documents_of_twin_per_s(inputs: Inputs, assumed: Assumptions, devices: float) -> float:
    """Documents of its devices that one twin saves."""
    return laws.saved_per_s(devices, _changed_share(inputs, assumed), assumed.save_s, assumed.saved_per_s)


def _changed_share(inputs: Inputs, assumed: Assumptions) -> float:
    changes_per_s = changes_of_document_per_s(inputs, assumed.task_rate_per_s)
    return laws.changed_share(changes_per_s, assumed.heartbeat_s, assumed.save_s)


def changes_of_document_per_s(inputs: Inputs, task_rate_per_s: float) -> float:
    """Changes of one device's document: every message about a task, every sign of life."""
    return task_rate_per_s * inputs.changes_per_task + inputs.heartbeats_per_s


def twin_share(inputs: Inputs, assumed: Assumptions, devices: float, edges: float) -> float:
    """Share of one core that a twin with ``devices`` and ``edges`` is busy, saving included."""
    return (
        laws.busy_share(devices * assumed.task_rate_per_s, twin_task_s(inputs))
        + laws.busy_share(documents_of_twin_per_s(inputs, assumed, devices), inputs.document_s)
        + laws.busy_share(edges * inputs.edge_messages_per_s, inputs.edge_report_s)
    )


def devices_per_edge(inputs: Inputs, assumed: Assumptions) -> float:
    """Devices whose tails keep one core of an edge busy for the share that is allowed."""
    return laws.most_rate_per_s(inputs.tail_s, assumed.most_share) / (inputs.offloaded * assumed.task_rate_per_s)


def devices_per_twin(inputs: Inputs, assumed: Assumptions, edges: float) -> float:
    """Devices with which one twin is busy for the share that is allowed, however little memory it has."""
    low, high = 0.0, 1.0
    while twin_share(inputs, assumed, high, edges) < assumed.most_share:
        low, high = high, 2.0 * high
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if twin_share(inputs, assumed, middle, edges) < assumed.most_share else (low, middle)
    return low


def reporting_edges(inputs: Inputs, assumed: Assumptions) -> float:
    """Edges whose reports keep a twin busy for the share that they are allowed."""
    rate_per_s = laws.most_rate_per_s(inputs.edge_report_s, assumed.edges_share * assumed.most_share)
    return rate_per_s / inputs.edge_messages_per_s


def edges_per_cell(inputs: Inputs, assumed: Assumptions) -> int:
    """Edges that one twin can keep and hear, at least one."""
    return max(1, min(assumed.most_edges, int(reporting_edges(inputs, assumed))))


def devices_of_twin(inputs: Inputs, assumed: Assumptions, edges: float) -> float:
    """Devices that one twin holds, whatever is used up first."""
    return min(limit.devices for limit in _twin_limits(inputs, assumed, edges))


def cells_of(inputs: Inputs, assumed: Assumptions, devices: int, edges: int) -> int:
    """Fewest cells of which none has more edges or twins than it may."""
    fewest = math.ceil(edges / edges_per_cell(inputs, assumed))

    def is_enough(cells: int) -> bool:
        return devices / cells <= assumed.most_replicas * devices_of_twin(inputs, assumed, edges / cells)

    return fewest + bisect_left(range(fewest, devices), True, key=is_enough)


def _twin_limits(inputs: Inputs, assumed: Assumptions, edges: float) -> list[Limit]:
    rate = assumed.task_rate_per_s
    signalling = rate * inputs.message_bytes_per_task + inputs.message_bytes_per_s
    return [
        Limit("twin", "core", devices_per_twin(inputs, assumed, edges)),
        Limit("twin", "memory", (assumed.memory_bytes - inputs.twin_base_bytes) / inputs.twin_device_bytes),
        Limit("twin", "setting max_devices", float(assumed.most_devices)),
        Limit("twin", "pace of saving", assumed.saved_per_s * assumed.save_s / _changed_share(inputs, assumed)),
        Limit("twin", "network", assumed.link_bytes_per_s / signalling),
    ]


def limits(inputs: Inputs, assumed: Assumptions) -> list[Limit]:
    """What each resource of one twin, one edge and one cell holds, by unit, the first to be used up first."""
    rate = assumed.task_rate_per_s
    per_edge = devices_per_edge(inputs, assumed)
    twin = _twin_limits(inputs, assumed, inputs.many_edges)
    per_twin = min(limit.devices for limit in twin)
    documents_per_s = documents_of_twin_per_s(inputs, assumed, per_twin)
    found = [
        *twin,
        Limit("edge", "core", per_edge),
        Limit("edge", "network", assumed.link_bytes_per_s / (rate * inputs.offloaded * inputs.payload_bytes)),
        Limit("cell", "shared PostgreSQL", assumed.shared_per_s / documents_per_s * per_twin),
        Limit("cell", "replicas in a list", assumed.most_replicas * per_twin),
        Limit("cell", "edges that a twin keeps", assumed.most_edges * per_edge),
        Limit("cell", "what edges say", reporting_edges(inputs, assumed) * per_edge),
    ]
    return sorted(found, key=lambda limit: (["twin", "edge", "cell"].index(limit.unit), limit.devices))


def needs(inputs: Inputs, assumed: Assumptions, devices: int) -> Needs:
    """What ``devices`` take."""
    rate = assumed.task_rate_per_s
    tasks_per_s = devices * rate
    tails_per_s = tasks_per_s * inputs.offloaded
    edge_cores = laws.busy_share(tails_per_s, inputs.tail_s)
    edges = math.ceil(edge_cores / assumed.most_share)
    cells = cells_of(inputs, assumed, devices, edges)
    edges_known = edges / cells
    twins = cells * math.ceil(devices / cells / devices_of_twin(inputs, assumed, edges_known))
    each = devices / twins
    documents_per_s = twins * documents_of_twin_per_s(inputs, assumed, each)
    return Needs(
        devices=devices,
        tasks_per_s=tasks_per_s,
        cells=cells,
        edges=edges,
        edge_cores=edge_cores,
        tails_per_s=tails_per_s,
        tail_wait_s=laws.mean_wait_s(edge_cores / edges, inputs.tail_s),
        twins=twins,
        twin_cores=twins * twin_share(inputs, assumed, each, edges_known),
        twin_memory_bytes=twins * inputs.twin_base_bytes + devices * inputs.twin_device_bytes,
        twin_messages_per_s=(
            devices * (rate * inputs.messages_per_task + inputs.messages_per_s)
            + twins * edges_known * inputs.edge_messages_per_s
        ),
        twin_bytes_per_s=(
            devices * (rate * inputs.message_bytes_per_task + inputs.message_bytes_per_s)
            + twins * edges_known * inputs.edge_message_bytes_per_s
        ),
        payload_bytes_per_s=tails_per_s * inputs.payload_bytes,
        documents_per_s=documents_per_s,
        sharing_cells=max(cells, math.ceil(documents_per_s / assumed.shared_per_s)),
        written_bytes_per_s=documents_per_s * inputs.written_bytes_per_document,
        documents_bytes=devices * inputs.document_bytes,
        attach_all_s=each * inputs.attach_s,
    )


def held(inputs: Inputs, assumed: Assumptions, edges: int) -> dict[str, float]:
    """Calculated, not measured: devices and tasks that one twin holds, and two replicas of it with the same edges.

    Of two, the busier one is filled: it has two standard deviations more than half of the devices.
    """
    one = devices_of_twin(inputs, assumed, edges)
    # N/2 + 2 sqrt(N)/2 = one, solved for N.
    two = (math.sqrt(1.0 + 2.0 * one) - 1.0) ** 2
    return {
        "edges": edges,
        "devices_of_one": one,
        "tasks_per_s_of_one": one * assumed.task_rate_per_s,
        "devices_of_two": two,
        "tasks_per_s_of_two": two * assumed.task_rate_per_s,
        "edges_share": laws.busy_share(edges * inputs.edge_messages_per_s, inputs.edge_report_s),
    }


def foretold_documents(assumed: Assumptions, run: Mapping[str, Any]) -> float:
    """Documents that the law of saving foretells for a simulated run, which counted them."""
    devices, seconds = int(run["devices"]), float(run["simulated_s"])
    changed = devices * laws.changed_share(changes_per_s(run), assumed.heartbeat_s, assumed.save_s)
    rounds, part_s = divmod(max(0.0, seconds - assumed.save_s), assumed.save_s)
    in_round = min(changed, assumed.saved_per_s * assumed.save_s)
    return rounds * in_round + min(in_round, assumed.saved_per_s * part_s)
