"""Conversions at the door: complete in both directions, and what does not fit is refused by name."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from twinsplit.edge_list import MOST_LISTED, EdgeLink, ListedEdge
from twinsplit.errors import BadMessageError, TensorError
from twinsplit.plan import BusyUplink, Contingency, Observation, Plan
from twinsplit.reckoning import BacklogState
from twinsplit.rpc.v1 import edge_pb2, tensor_pb2, twin_pb2
from twinsplit.tensor import TensorHeader, compress
from twinsplit.tensor import header as tensor_header
from twinsplit.transport import convert
from twinsplit.types import Outcome, Payload

DIGEST = "0123456789abcdef" * 4


def _plan(**changes: object) -> Plan:
    values: dict[str, object] = {
        "plan_id": 7,
        "model_digest": DIGEST,
        "rule": "multi-step",
        "edge_id": "edge-1",
        "edge_address": "10.0.0.2:7000",
        "exits_run": (True, False),
        "band_edges_s": (0.05, 0.2),
        "table": np.arange(3 * 5 * 4 * 3, dtype=np.uint8).reshape(3, 5, 4, 3) % 4,
        "tensor_representations": (-1, 0, 2),
        "input_representations": (1, 1, -1),
        "lease_s": 10.0,
        "contingency": Contingency((0.9, 1.1), 0),
        "observation": Observation.SERVICE_START,
    }
    return Plan(**{**values, **changes})


@pytest.mark.parametrize(
    ("table", "known", "enum"),
    [
        (convert.OUTCOMES, list(Outcome), twin_pb2.Outcome),
        (convert.PAYLOADS, list(Payload), twin_pb2.Payload),
        (convert.OBSERVATIONS, list(Observation), twin_pb2.Observation),
        (convert.DTYPES, list(tensor_header.DTYPES), tensor_pb2.DType),
        (convert.REPRESENTATIONS, list(tensor_header.KINDS), tensor_pb2.Representation),
        (convert.CODECS, list(tensor_header.CODECS), tensor_pb2.Codec),
    ],
)
def test_every_value_has_a_wire_value_and_the_other_way_round(table: dict, known: list, enum: object) -> None:
    assert list(table) == known
    assert sorted(map(int, table.values())) == sorted(number for number in enum.values() if number != 0)


@pytest.mark.parametrize("outcome", Outcome)
def test_outcomes_cross(outcome: Outcome) -> None:
    assert convert.outcome_from_wire(convert.outcome_to_wire(outcome)) is outcome


@pytest.mark.parametrize("payload", [None, *Payload])
def test_payloads_cross_and_nothing_sent_is_none(payload: Payload | None) -> None:
    assert convert.payload_from_wire(convert.payload_to_wire(payload)) is payload


@pytest.mark.parametrize("function", [convert.outcome_from_wire, convert.payload_from_wire])
def test_a_value_of_a_later_version_is_refused(function: object) -> None:
    with pytest.raises(BadMessageError, match="99 is unknown"):
        function(99)


def test_an_outcome_must_be_said() -> None:
    with pytest.raises(BadMessageError, match="outcome"):
        convert.outcome_from_wire(0)


def test_a_digest_crosses() -> None:
    assert convert.digest_from_wire(convert.digest_to_wire(DIGEST)) == DIGEST


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_digest_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(BadMessageError, match="model_digest"):
        convert.digest_from_wire(bytes(size))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1e-9])
def test_a_duration_is_finite_and_not_negative(value: float) -> None:
    with pytest.raises(BadMessageError, match="budget_s"):
        convert.seconds_from_wire(value, "budget_s")


def test_a_backlog_arrives_on_the_receivers_clock_with_its_age() -> None:
    sent = convert.backlog_to_wire(BacklogState(1.5, at_s=100.0, mean_s=0.4, time_constant_s=2.0), now_s=100.25)
    assert convert.backlog_from_wire(sent, now_s=7.0) == BacklogState(1.5, 6.75, 0.4, 2.0)


def test_a_reading_from_the_future_has_no_negative_age() -> None:
    assert convert.backlog_to_wire(BacklogState(1.0, at_s=5.0), now_s=4.0).age_s == 0.0


@pytest.mark.parametrize("field", ["backlog_s", "age_s", "mean_s", "time_constant_s"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_an_impossible_backlog_is_refused_by_field(field: str, value: float) -> None:
    message = edge_pb2.Backlog(backlog_s=1.0, age_s=0.0, mean_s=0.0, time_constant_s=1.0)
    setattr(message, field, value)
    with pytest.raises(BadMessageError, match=field):
        convert.backlog_from_wire(message, 0.0)


def test_a_time_constant_of_zero_is_refused() -> None:
    with pytest.raises(BadMessageError, match="time_constant_s"):
        convert.backlog_from_wire(edge_pb2.Backlog(), 0.0)


def test_a_header_crosses() -> None:
    header = TensorHeader((1, 64, 15, 15), "float16", "uint4", "zstd", 0.25, 9)
    assert convert.header_from_wire(convert.header_to_wire(header)) == header


@pytest.mark.parametrize("field", ["dtype", "representation", "codec"])
@pytest.mark.parametrize("value", [0, 99])
def test_an_unknown_header_is_refused(field: str, value: int) -> None:
    message = convert.header_to_wire(TensorHeader((1, 2), "float32", "float32"))
    setattr(message, field, value)
    with pytest.raises(TensorError, match="unknown to this version"):
        convert.header_from_wire(message)


def _equal(one: Plan, other: Plan) -> bool:
    names = [name for name in Plan.__slots__ if name != "table"]
    return all(getattr(one, n) == getattr(other, n) for n in names) and np.array_equal(one.table, other.table)


@pytest.mark.parametrize(
    "plan",
    [
        _plan(),
        _plan(edge_id=None, edge_address=None),
        _plan(contingency=Contingency((), None), exits_run=()),
        _plan(contingency=Contingency((0.5,), 3), observation=Observation.EACH_EPOCH),
        _plan(band_edges_s=(), table=np.zeros((3, 5, 4, 1), np.uint8)),
        _plan(age_edges_s=(0.1, 0.2), table=np.arange(3 * 5 * 4 * 3 * 3, dtype=np.uint8).reshape(3, 5, 4, 3, 3) % 4),
    ],
)
def test_a_plan_crosses_whole(plan: Plan) -> None:
    message = twin_pb2.Plan.FromString(convert.plan_to_wire(plan, None, 0.0).SerializeToString())
    assert _equal(convert.plan_from_wire(message), plan)
    assert not message.HasField("backlog")
    assert not message.HasField("busy_uplink")


def test_what_a_plan_says_for_a_busy_uplink_crosses_with_it() -> None:
    busy = BusyUplink(0.03, (0.1,), np.arange(3 * 5 * 4 * 2, dtype=np.uint8).reshape(3, 5, 4, 2) % 4)
    message = convert.plan_to_wire(_plan(busy_uplink=busy), None, 0.0)
    read = convert.plan_from_wire(twin_pb2.Plan.FromString(message.SerializeToString())).busy_uplink
    assert read is not None
    assert (read.from_s, read.band_edges_s) == (0.03, (0.1,))
    np.testing.assert_array_equal(read.table, busy.table)
    message.busy_uplink.table_zstd = b"junk"
    with pytest.raises(BadMessageError, match="table_zstd"):
        convert.plan_from_wire(message)
    message.busy_uplink.table_shape.append(1)
    with pytest.raises(BadMessageError, match="table_shape"):
        convert.plan_from_wire(message)


def test_a_plan_brings_the_backlog_of_its_edge() -> None:
    message = convert.plan_to_wire(_plan(), BacklogState(0.8, at_s=9.0), now_s=9.5)
    assert convert.backlog_from_wire(message.backlog, 20.0).at_s == 19.5


def test_a_plan_of_a_large_table_is_small_on_the_wire() -> None:
    table = np.zeros((9, 41, 4, 20), np.uint8)
    table[:, 20:] = 2
    plan = _plan(table=table, band_edges_s=tuple(range(19)))
    assert len(convert.plan_to_wire(plan, None, 0.0).SerializeToString()) < 1000


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("plan_id", 0, "plan_id"),
        ("model_digest", b"short", "model_digest"),
        ("observation", 0, "observation"),
        ("observation", 99, "observation"),
        ("table_zstd", b"junk", "table_zstd"),
        ("table_zstd", bytes(compress(bytes(179), "zstd")), "table_zstd"),
        ("table_zstd", bytes(compress(bytes(181), "zstd")), "table_zstd"),
    ],
)
def test_a_plan_that_cannot_be_read_is_refused_by_field(field: str, value: object, says: str) -> None:
    message = convert.plan_to_wire(_plan(), None, 0.0)
    setattr(message, field, value)
    with pytest.raises(BadMessageError, match=says):
        convert.plan_from_wire(message)


@pytest.mark.parametrize("shape", [(), (3, 5, 4), (3, 5, 3, 3), (0, 5, 4, 3), (3, 5, 4, 65), (10_000, 1_000, 4, 60)])
def test_a_table_of_impossible_shape_is_refused_before_it_is_unpacked(shape: tuple[int, ...]) -> None:
    message = convert.plan_to_wire(_plan(), None, 0.0)
    del message.table_shape[:]
    message.table_shape.extend(shape)
    with pytest.raises(BadMessageError, match="table_shape"):
        convert.plan_from_wire(message)


@pytest.mark.parametrize("shape", [(3, 5, 4, 3), (3, 5, 4, 3, 33), (3, 5, 4, 3, 0), (3, 5, 4, 3, 2, 1)])
def test_a_table_with_ages_needs_an_axis_of_ages(shape: tuple[int, ...]) -> None:
    message = convert.plan_to_wire(_plan(age_edges_s=(0.1,), table=np.zeros((3, 5, 4, 3, 2), np.uint8)), None, 0.0)
    del message.table_shape[:]
    message.table_shape.extend(shape)
    with pytest.raises(BadMessageError, match=r"table_shape.*age bands"):
        convert.plan_from_wire(message)


def _edge(**changes: object) -> ListedEdge:
    values: dict[str, object] = {
        "edge_id": "hall-1",
        "address": "10.0.0.2:7100",
        "tail_s": (0.03, 0.01),
        "backlog": BacklogState(0.2, 50.0, 0.2),
    }
    return ListedEdge(**{**values, **changes})


def test_a_list_of_edges_survives_the_wire_with_its_readings_on_the_other_clock() -> None:
    edges = (_edge(), _edge(edge_id="hall-2", address="[::1]:7100"))
    read = convert.edges_from_wire(convert.edges_to_wire(edges, 51.0), 7.0)
    assert read == tuple(replace(edge, backlog=BacklogState(0.2, 6.0, 0.2)) for edge in edges)
    assert convert.edges_from_wire(twin_pb2.EdgeList(), 7.0) == ()


@pytest.mark.parametrize(
    ("edges", "field"),
    [
        ([_edge(edge_id=f"e{k}", address=f"h:{k + 1}") for k in range(MOST_LISTED + 1)], "edges"),
        ([_edge(), _edge(address="h:2")], "edges.edge_id"),
        ([_edge(), _edge(edge_id="hall-2")], "edges.address"),
        ([_edge(edge_id="")], "edges.edge_id"),
        ([_edge(address="")], "edges.address"),
        ([_edge(address="hall")], "edges.address"),
        ([_edge(tail_s=(math.nan,))], "edges.tail_s"),
        ([_edge(tail_s=(0.1,) * 5000)], "edges.tail_s"),
        ([_edge(backlog=BacklogState(math.inf, 50.0, 0.2))], "backlog"),
    ],
)
def test_an_impossible_list_of_edges_is_refused_by_the_name_of_its_field(edges: list[ListedEdge], field: str) -> None:
    with pytest.raises(BadMessageError, match=re.escape(field)):
        convert.edges_from_wire(convert.edges_to_wire(edges, 51.0), 7.0)


@pytest.mark.parametrize(
    "link",
    [EdgeLink("hall-1", 1e6, 0.002, True), EdgeLink("hall-1", None, None, False), EdgeLink("h", None, 0.1, True)],
)
def test_a_way_to_an_edge_survives_the_wire(link: EdgeLink) -> None:
    assert convert.link_from_wire(convert.link_to_wire(link)) == link


@pytest.mark.parametrize(
    "changes",
    [{"edge_id": ""}, {"edge_id": "e" * 64}, {"goodput_bytes_per_s": math.nan}, {"round_trip_s": -1.0}],
)
def test_an_impossible_way_to_an_edge_is_refused_by_the_name_of_its_field(changes: dict[str, object]) -> None:
    message = twin_pb2.EdgeLink(**{"edge_id": "hall-1", **changes})
    with pytest.raises(BadMessageError, match=f"links.{next(iter(changes))}"):
        convert.link_from_wire(message)
