"""What the doctor says of several replicas of the twin."""

from __future__ import annotations

from device.doctor.finding import Verdict
from device.doctor.replicas import replica_findings
from twinsplit.replicas.rendezvous import ranked
from twinsplit.rpc.v1 import twin_pb2

REPLICAS = ("a:7000", "b:7000")
FIRST, SECOND = ranked("cam", REPLICAS)


def answer(*edges: str, is_attached: bool = False) -> twin_pb2.DescribeServiceResponse:
    return twin_pb2.DescribeServiceResponse(
        edges=[twin_pb2.AttachedEdge(edge_id=edge) for edge in edges], is_device_attached=is_attached
    )


def test_it_says_where_the_device_belongs_and_is() -> None:
    (found,) = replica_findings("cam", REPLICAS, {FIRST: answer("hall"), SECOND: answer("hall", is_attached=True)})
    assert found.verdict is Verdict.OK
    assert found.text == f"2 of 2 replicas answer; cam prefers {FIRST} and is attached to {SECOND}"


def test_where_one_does_not_answer_it_says_so() -> None:
    (found,) = replica_findings("cam", REPLICAS, {SECOND: answer("hall")})
    assert (found.verdict, found.text) == (
        Verdict.OK,
        f"1 of 2 replicas answer; cam prefers {FIRST} and is attached to none",
    )


def test_two_that_hold_the_device_are_bad() -> None:
    both = {address: answer(is_attached=True) for address in REPLICAS}
    (found,) = replica_findings("cam", REPLICAS, both)
    assert found.verdict is Verdict.BAD
    assert "a:7000 and b:7000 each hold it" in found.text


def test_an_edge_that_misses_a_replica_is_bad() -> None:
    _, found = replica_findings("cam", REPLICAS, {FIRST: answer("hall", "dock"), SECOND: answer("dock")})
    assert (found.verdict, found.text) == (
        Verdict.BAD,
        f"hall is not attached to {SECOND}, whose plans leave it out",
    )
