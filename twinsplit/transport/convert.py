"""Wire messages to the types of the house and back. Servicers convert at the door, nothing past them sees ``_pb2``.

Readings of the other side's clock never cross: instants travel as ages and are put on the receiver's clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twinsplit.edge_list import MOST_LISTED, EdgeLink, ListedEdge
from twinsplit.errors import BadMessageError, RefusedError, SettingsError, TensorError
from twinsplit.plan import MAX_AGE_BANDS, MAX_BANDS, QUEUE_LEVELS, BusyUplink, Contingency, Observation, Plan
from twinsplit.plausible import LARGEST_NUMBER, LARGEST_SECONDS
from twinsplit.reckoning import BacklogState
from twinsplit.replicas.attachment import MOST_EPOCH
from twinsplit.rpc.v1 import edge_pb2, tensor_pb2, twin_pb2
from twinsplit.tensor import TensorHeader, compress, decompress
from twinsplit.transport.address import Address
from twinsplit.types import Outcome, Payload

DIGEST_BYTES = 32
MOST_SEGMENTS = 4096
MOST_NAME = 63
_MOST_RULE = 255
MAX_TABLE_CELLS = 1 << 24
"""Bound on a plan's table before it is unpacked: some 250 segments with 1,000 evidence states and all bands."""

OUTCOMES: dict[Outcome, twin_pb2.Outcome] = {
    Outcome.DEVICE: twin_pb2.OUTCOME_DEVICE,
    Outcome.EXIT: twin_pb2.OUTCOME_EXIT,
    Outcome.EDGE: twin_pb2.OUTCOME_EDGE,
    Outcome.DROPPED: twin_pb2.OUTCOME_DROPPED,
    Outcome.FAILED: twin_pb2.OUTCOME_FAILED,
}
PAYLOADS: dict[Payload, twin_pb2.Payload] = {
    Payload.TENSOR: twin_pb2.PAYLOAD_TENSOR,
    Payload.INPUT: twin_pb2.PAYLOAD_INPUT,
}
OBSERVATIONS: dict[Observation, twin_pb2.Observation] = {
    Observation.EACH_EPOCH: twin_pb2.OBSERVATION_EACH_EPOCH,
    Observation.SERVICE_START: twin_pb2.OBSERVATION_SERVICE_START,
}
DTYPES: dict[str, tensor_pb2.DType] = {
    "float32": tensor_pb2.DTYPE_FLOAT32,
    "float16": tensor_pb2.DTYPE_FLOAT16,
    "float64": tensor_pb2.DTYPE_FLOAT64,
    "int32": tensor_pb2.DTYPE_INT32,
    "int64": tensor_pb2.DTYPE_INT64,
    "uint8": tensor_pb2.DTYPE_UINT8,
    "int8": tensor_pb2.DTYPE_INT8,
    "bool": tensor_pb2.DTYPE_BOOL,
}
REPRESENTATIONS: dict[str, tensor_pb2.Representation] = {
    "float32": tensor_pb2.REPRESENTATION_FLOAT32,
    "float16": tensor_pb2.REPRESENTATION_FLOAT16,
    "uint8": tensor_pb2.REPRESENTATION_UINT8,
    "uint4": tensor_pb2.REPRESENTATION_UINT4,
    "png": tensor_pb2.REPRESENTATION_PNG,
    "jpeg": tensor_pb2.REPRESENTATION_JPEG,
}
CODECS: dict[str, tensor_pb2.Codec] = {
    "none": tensor_pb2.CODEC_NONE,
    "zstd": tensor_pb2.CODEC_ZSTD,
}

_OUTCOME_BY_WIRE = {int(wire): outcome for outcome, wire in OUTCOMES.items()}
_PAYLOAD_BY_WIRE = {int(wire): payload for payload, wire in PAYLOADS.items()}
_OBSERVATION_BY_WIRE = {int(wire): observation for observation, wire in OBSERVATIONS.items()}
_TENSOR_NAMES_BY_WIRE = {
    (int(dtype), int(representation), int(codec)): (dtype_name, representation_name, codec_name)
    for dtype_name, dtype in DTYPES.items()
    for representation_name, representation in REPRESENTATIONS.items()
    for codec_name, codec in CODECS.items()
}


def digest_to_wire(digest: str) -> bytes:
    """Hex digest to its 32 bytes."""
    return bytes.fromhex(digest)


def digest_from_wire(data: bytes) -> str:
    """32 bytes to the hex digest.

    Raises:
        BadMessageError: not 32 bytes.
    """
    if len(data) != DIGEST_BYTES:
        raise BadMessageError(f"model_digest: has {len(data)} bytes, a SHA-256 has {DIGEST_BYTES}")
    return data.hex()


def seconds_from_wire(value: float, field: str) -> float:
    """A duration or age: not negative, and not beyond :data:`twinsplit.plausible.LARGEST_SECONDS`.

    Raises:
        BadMessageError: it is not; the text names ``field``.
    """
    # One comparison chain refuses negative numbers, infinity and NaN alike.
    if not 0.0 <= value <= LARGEST_SECONDS:
        raise BadMessageError(f"{field}: {value} is impossible; 0 to {LARGEST_SECONDS:g} seconds are needed")
    return value


def attachment_from_wire(epoch: int) -> int:
    """The number of an attachment; 0: none.

    Raises:
        BadMessageError: it is so large that hardly any could follow.
    """
    if epoch > MOST_EPOCH:
        raise BadMessageError(f"attachment_epoch: {epoch} is impossible; at most {MOST_EPOCH} is allowed")
    return epoch


def outcome_to_wire(outcome: Outcome) -> twin_pb2.Outcome:
    """An outcome on the wire."""
    return OUTCOMES[outcome]


def outcome_from_wire(value: int) -> Outcome:
    """An outcome from the wire.

    Raises:
        BadMessageError: unspecified or unknown.
    """
    outcome = _OUTCOME_BY_WIRE.get(value)
    if outcome is None:
        raise BadMessageError(f"outcome: {value} is unknown to this version")
    return outcome


def payload_to_wire(payload: Payload | None) -> twin_pb2.Payload:
    """A payload on the wire; ``None``: nothing was sent."""
    return twin_pb2.PAYLOAD_UNSPECIFIED if payload is None else PAYLOADS[payload]


def payload_from_wire(value: int) -> Payload | None:
    """A payload from the wire; ``None``: nothing was sent.

    Raises:
        BadMessageError: unknown.
    """
    if value == twin_pb2.PAYLOAD_UNSPECIFIED:
        return None
    payload = _PAYLOAD_BY_WIRE.get(value)
    if payload is None:
        raise BadMessageError(f"payload: {value} is unknown to this version")
    return payload


def backlog_to_wire(state: BacklogState, now_s: float) -> edge_pb2.Backlog:
    """A reading with its age at ``now_s``, the instant of sending on the clock of ``state.at_s``."""
    return edge_pb2.Backlog(
        backlog_s=state.backlog_s,
        age_s=max(0.0, now_s - state.at_s),
        mean_s=state.mean_s,
        time_constant_s=state.time_constant_s,
    )


def backlog_from_wire(message: edge_pb2.Backlog, now_s: float) -> BacklogState:
    """The reading on the receiver's clock, ``now_s`` being the instant of receipt; the way here counts as no time.

    Raises:
        BadMessageError: a number that is not finite, negative, or a time constant that is not above 0.
    """
    time_constant_s = message.time_constant_s
    if not 0.0 < time_constant_s <= LARGEST_SECONDS:
        raise BadMessageError(
            f"backlog.time_constant_s: {time_constant_s} is impossible; above 0 to {LARGEST_SECONDS:g} are needed"
        )
    return BacklogState(
        seconds_from_wire(message.backlog_s, "backlog.backlog_s"),
        now_s - seconds_from_wire(message.age_s, "backlog.age_s"),
        seconds_from_wire(message.mean_s, "backlog.mean_s"),
        time_constant_s,
    )


def header_to_wire(header: TensorHeader) -> tensor_pb2.TensorHeader:
    """A tensor's header on the wire."""
    return tensor_pb2.TensorHeader(
        shape=header.shape,
        dtype=DTYPES[header.dtype],
        representation=REPRESENTATIONS[header.representation],
        scale=header.scale,
        zero_point=header.zero_point,
        codec=CODECS[header.codec],
    )


def header_from_wire(message: tensor_pb2.TensorHeader) -> TensorHeader:
    """A tensor's header from the wire; whether it is possible is for :func:`twinsplit.tensor.decode` to say.

    Raises:
        TensorError: an element type, representation or codec that is unspecified or unknown.
    """
    names = _TENSOR_NAMES_BY_WIRE.get((message.dtype, message.representation, message.codec))
    if names is None:
        raise TensorError(
            f"header: element type {message.dtype}, representation {message.representation} or codec {message.codec} "
            "is unknown to this version"
        )
    return TensorHeader(tuple(message.shape), *names, message.scale, message.zero_point)


def edges_to_wire(edges: Sequence[ListedEdge], now_s: float) -> twin_pb2.EdgeList:
    """A list of edges on the wire, backlogs as expected at ``now_s``."""
    return twin_pb2.EdgeList(
        edges=[
            twin_pb2.ListedEdge(
                edge_id=edge.edge_id,
                address=edge.address,
                tail_s=edge.tail_s,
                backlog=backlog_to_wire(edge.backlog, now_s),
            )
            for edge in edges
        ]
    )


def edges_from_wire(message: twin_pb2.EdgeList, now_s: float) -> tuple[ListedEdge, ...]:
    """A list of edges from the wire, with readings of ``now_s``.

    Raises:
        BadMessageError: too many edges, one named twice, or a field that is missing or impossible.
    """
    if len(message.edges) > MOST_LISTED:
        raise BadMessageError(f"edges: has {len(message.edges)} edges, at most {MOST_LISTED} are allowed")
    for name in ("edge_id", "address"):
        values = [getattr(edge, name) for edge in message.edges]
        if not all(values) or len(set(values)) < len(values):
            raise BadMessageError(f"edges.{name}: is missing, or named twice")
    if any(len(edge.edge_id) > MOST_NAME for edge in message.edges):
        raise BadMessageError(f"edges.edge_id: has more than {MOST_NAME} characters")
    addresses = [_address(edge.address, "edges.address") for edge in message.edges]
    if any(len(edge.tail_s) > MOST_SEGMENTS for edge in message.edges):
        raise BadMessageError(f"edges.tail_s: has more than {MOST_SEGMENTS} times")
    return tuple(
        ListedEdge(
            edge.edge_id,
            address,
            tuple(seconds_from_wire(value, "edges.tail_s") for value in edge.tail_s),
            backlog_from_wire(edge.backlog, now_s),
        )
        for edge, address in zip(message.edges, addresses, strict=True)
    )


def _address(text: str, field: str) -> str:
    try:
        return str(Address.parse(text))
    except SettingsError:
        raise BadMessageError(f"{field}: is not HOST:PORT") from None


def link_to_wire(link: EdgeLink) -> twin_pb2.EdgeLink:
    """The way to an edge on the wire."""
    return twin_pb2.EdgeLink(
        edge_id=link.edge_id,
        goodput_bytes_per_s=link.goodput_bytes_per_s or 0.0,
        round_trip_s=link.round_trip_s or 0.0,
        is_reachable=link.is_reachable,
    )


def link_from_wire(message: twin_pb2.EdgeLink) -> EdgeLink:
    """The same, read.

    Raises:
        BadMessageError: a field that is missing or impossible.
    """
    if not message.edge_id or len(message.edge_id) > MOST_NAME:
        raise BadMessageError("links.edge_id: is missing, or too long")
    goodput = message.goodput_bytes_per_s
    if not 0.0 <= goodput <= LARGEST_NUMBER:
        raise BadMessageError(f"links.goodput_bytes_per_s: {goodput} is impossible; 0 where it is unknown")
    return EdgeLink(
        message.edge_id,
        goodput or None,
        seconds_from_wire(message.round_trip_s, "links.round_trip_s") or None,
        message.is_reachable,
    )


def plan_to_wire(plan: Plan, backlog: BacklogState | None, now_s: float) -> twin_pb2.Plan:
    """A plan on the wire, with the backlog of its edge at ``now_s``; ``None``: not known."""
    message = twin_pb2.Plan(
        plan_id=plan.plan_id,
        model_digest=digest_to_wire(plan.model_digest),
        rule=plan.rule,
        edge_id=plan.edge_id or "",
        edge_address=plan.edge_address or "",
        exits_run=plan.exits_run,
        band_edges_s=plan.band_edges_s,
        table_shape=plan.table.shape,
        table_zstd=_table_to_wire(plan.table),
        tensor_representations=plan.tensor_representations,
        input_representations=plan.input_representations,
        lease_s=plan.lease_s,
        contingency=twin_pb2.Contingency(exit_thresholds=plan.contingency.exit_thresholds, cut=plan.contingency.cut),
        observation=OBSERVATIONS[plan.observation],
        age_edges_s=plan.age_edges_s,
        attachment_epoch=plan.attachment_epoch,
    )
    if (busy := plan.busy_uplink) is not None:
        message.busy_uplink.from_s = busy.from_s
        message.busy_uplink.band_edges_s.extend(busy.band_edges_s)
        message.busy_uplink.table_shape.extend(busy.table.shape)
        message.busy_uplink.table_zstd = _table_to_wire(busy.table)
    if backlog is not None:
        message.backlog.CopyFrom(backlog_to_wire(backlog, now_s))
    return message


def plan_from_wire(message: twin_pb2.Plan) -> Plan:
    """A plan from the wire; whether this device can obey it is for :func:`twinsplit.plan.check_plan` to say. Its
    backlog, where ``message.HasField("backlog")``, is read by :func:`backlog_from_wire`.

    Raises:
        BadMessageError: a field that is missing or impossible.
    """
    observation = _OBSERVATION_BY_WIRE.get(message.observation)
    if observation is None:
        raise BadMessageError(f"plan.observation: {message.observation} is unknown to this version")
    if message.plan_id == 0:
        raise BadMessageError("plan.plan_id: is missing; ids start at 1")
    if len(message.edge_id) > MOST_NAME:
        raise BadMessageError(f"plan.edge_id: has {len(message.edge_id)} characters, at most {MOST_NAME} are allowed")
    contingency = message.contingency
    return Plan(
        plan_id=message.plan_id,
        model_digest=digest_from_wire(message.model_digest),
        rule=message.rule[:_MOST_RULE],
        edge_id=message.edge_id or None,
        edge_address=_address(message.edge_address, "plan.edge_address") if message.edge_address else None,
        exits_run=tuple(message.exits_run),
        band_edges_s=tuple(message.band_edges_s),
        table=_table_from_wire(message, has_ages=bool(message.age_edges_s)),
        tensor_representations=tuple(message.tensor_representations),
        input_representations=tuple(message.input_representations),
        lease_s=message.lease_s,
        contingency=Contingency(
            tuple(contingency.exit_thresholds), contingency.cut if contingency.HasField("cut") else None
        ),
        observation=observation,
        age_edges_s=tuple(message.age_edges_s),
        attachment_epoch=message.attachment_epoch,
        busy_uplink=_busy_uplink_from_wire(message.busy_uplink) if message.HasField("busy_uplink") else None,
    )


def _busy_uplink_from_wire(message: twin_pb2.BusyUplink) -> BusyUplink:
    table = _table_from_wire(message, has_ages=False)
    return BusyUplink(message.from_s, tuple(message.band_edges_s), table)


def _table_to_wire(table: NDArray[np.uint8]) -> bytes:
    return bytes(compress(np.ascontiguousarray(table, dtype=np.uint8).tobytes(), "zstd"))


def _table_from_wire(message: twin_pb2.Plan | twin_pb2.BusyUplink, *, has_ages: bool) -> NDArray[np.uint8]:
    shape = tuple(message.table_shape)
    axes = 5 if has_ages else 4
    is_possible = len(shape) == axes and min(shape) >= 1 and shape[2] == QUEUE_LEVELS and shape[3] <= MAX_BANDS
    if not is_possible or (axes == 5 and shape[4] > MAX_AGE_BANDS):
        ages = ", age bands" if axes == 5 else ""
        raise BadMessageError(
            f"plan.table_shape: {shape} is impossible; epochs, evidence, {QUEUE_LEVELS}, bands{ages} are needed"
        )
    cells = math.prod(shape)
    if cells > MAX_TABLE_CELLS:
        raise BadMessageError(f"plan.table_shape: {cells} cells, at most {MAX_TABLE_CELLS} are allowed")
    try:
        data = decompress(message.table_zstd, "zstd", max_bytes=cells)
    except RefusedError as error:
        raise BadMessageError(f"plan.table_zstd: {error}") from None
    if len(data) != cells:
        raise BadMessageError(f"plan.table_zstd: holds {len(data)} cells, shape {shape} needs {cells}")
    return np.frombuffer(data, np.uint8).reshape(shape)
