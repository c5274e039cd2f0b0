"""The table of who may call what, against one written down by hand, and every way in which a name may not fit."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import twinsplit.oip.v2
import twinsplit.rpc.v1
from twinsplit.access.rights import (
    ANYONE,
    EDGE_RIGHTS,
    HEALTH,
    RIGHTS,
    Caller,
    Scope,
    WithoutRole,
    caller_of,
    identity_of,
)
from twinsplit.certificates.subject import Role
from twinsplit.errors import NotAllowedError

# "own": under the own name only.
WRITTEN = """
method                               device  edge  twin  operator
TwinService/AttachDevice             own     -     -     -
TwinService/AttachEdge               -       own   -     -
TwinService/ReleaseDevice            own     -     -     -
TwinService/GetTwin                  own     -     all   all
TwinService/DescribeService          own     -     all   all
TwinService/ListTwins                -       -     all   all
TwinService/WatchTwins               -       -     all   all
TwinService/SetDesired               -       -     all   all
TwinService/ExportTraces             -       -     all   all
TwinService/ListWeights              -       -     all   all
TwinService/ExportReplay             -       -     all   all
EdgeService/Infer                    own     -     -     -
EdgeService/Describe                 all     all   all   all
DeviceService/Submit                 own     -     -     all
DeviceService/GetStatus              own     -     -     all
GRPCInferenceService/ServerLive      all     all   all   all
GRPCInferenceService/ServerReady     all     all   all   all
GRPCInferenceService/ServerMetadata  all     all   all   all
GRPCInferenceService/ModelReady      own     -     -     all
GRPCInferenceService/ModelMetadata   own     -     -     all
GRPCInferenceService/ModelInfer      own     -     -     all
"""
AT_EDGES = """
GRPCInferenceService/ModelReady      all     all   all   all
GRPCInferenceService/ModelMetadata   all     all   all   all
GRPCInferenceService/ModelInfer      own     all   -     -
"""
LINES = [line.split() for line in WRITTEN.strip().splitlines()]
ROLES = [Role(word) for word in LINES[0][1:]]


def cells(lines: list[list[str]]) -> list[tuple[str, Role, str]]:
    packages = {"GRPCInferenceService": "inference"}
    return [
        (f"/{packages.get(line[0].partition('/')[0], 'twinsplit.rpc.v1')}.{line[0]}", role, cell)
        for line in lines
        for role, cell in zip(ROLES, line[1:], strict=True)
    ]


CELLS = cells(LINES[1:])
EDGE_CELLS = cells([line.split() for line in AT_EDGES.strip().splitlines()])


def methods() -> Iterator[str]:
    """Every RPC that any file of the protocols declares."""
    for package in (twinsplit.rpc.v1, twinsplit.oip.v2):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if module.name.endswith("_pb2"):
                for service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values():
                    yield from (f"/{service.full_name}/{method.name}" for method in service.methods)


def test_every_rpc_has_its_row_and_its_line_here() -> None:
    assert set(RIGHTS) == set(methods())
    assert {method for method, _, _ in CELLS} == set(methods())
    assert set(ROLES) == set(Role)


@pytest.mark.parametrize(("method", "role", "cell"), CELLS)
def test_a_role_may_call_what_is_written_and_nothing_else(method: str, role: Role, cell: str) -> None:
    if cell == "-":
        with pytest.raises(NotAllowedError, match=f"role {role.value} may not call {method.rpartition('/')[2]}"):
            caller_of(method, (role, "x"), WithoutRole.EVERYTHING)
    else:
        assert caller_of(method, (role, "x"), WithoutRole.HEALTH) == Caller(role, "x", Scope(cell))


@pytest.mark.parametrize(("method", "role", "cell"), EDGE_CELLS)
def test_at_an_edge_the_inference_protocol_is_a_way_to_its_tails(method: str, role: Role, cell: str) -> None:
    if cell == "-":
        with pytest.raises(NotAllowedError, match=f"role {role.value} may not call"):
            caller_of(method, (role, "x"), WithoutRole.EVERYTHING, EDGE_RIGHTS)
    else:
        assert caller_of(method, (role, "x"), WithoutRole.HEALTH, EDGE_RIGHTS) == Caller(role, "x", Scope(cell))


def test_all_else_is_the_same_at_an_edge() -> None:
    changed = {method for method, _, _ in EDGE_CELLS}
    assert {m: row for m, row in EDGE_RIGHTS.items() if m not in changed} == {
        m: row for m, row in RIGHTS.items() if m not in changed
    }
    assert set(EDGE_RIGHTS) == set(RIGHTS)
    by_stream = EDGE_RIGHTS["/twinsplit.rpc.v1.EdgeService/Infer"]
    by_protocol = EDGE_RIGHTS["/inference.GRPCInferenceService/ModelInfer"]
    assert {role: scope for role, scope in by_protocol.items() if role is not Role.EDGE} == by_stream


@pytest.mark.parametrize("role", Role)
def test_what_has_no_row_nobody_may_call(role: Role) -> None:
    with pytest.raises(NotAllowedError):
        caller_of("/twinsplit.rpc.v1.TwinService/Format", (role, "x"), WithoutRole.EVERYTHING)


@pytest.mark.parametrize("method", sorted(HEALTH))
def test_health_is_open_to_every_certificate(method: str) -> None:
    assert caller_of(method, None, WithoutRole.HEALTH) == ANYONE
    assert caller_of(method, (Role.DEVICE, "cam"), WithoutRole.HEALTH).name == "cam"


@pytest.mark.parametrize("method", sorted(RIGHTS))
def test_a_certificate_without_a_role_may_do_what_the_setting_says(method: str) -> None:
    with pytest.raises(NotAllowedError, match="names no role"):
        caller_of(method, None, WithoutRole.HEALTH)
    assert caller_of(method, None, WithoutRole.EVERYTHING) == ANYONE


def test_whose_right_is_for_its_own_name_may_not_use_another() -> None:
    device = Caller(Role.DEVICE, "cam", Scope.OWN)
    device.must_be("cam")
    for other in ("cam2", "Cam", "", "cam/", "*"):
        with pytest.raises(NotAllowedError, match="device cam"):
            device.must_be(other)
    Caller(Role.OPERATOR, "ops").must_be("cam")
    ANYONE.must_be("cam")


@pytest.mark.parametrize(
    ("patterns", "is_in"),
    [(["*"], True), (["cam-1"], True), (["cam-2", "cam-?"], True), (["cam"], False), (["CAM-1"], False), ([], False)],
)
def test_an_allow_list_goes_by_patterns_of_the_whole_name(patterns: list[str], is_in: bool) -> None:
    caller = Caller(Role.DEVICE, "cam-1", Scope.OWN)
    if is_in:
        caller.must_match(patterns)
    else:
        with pytest.raises(NotAllowedError):
            caller.must_match(patterns)
    ANYONE.must_match(patterns)


@pytest.mark.parametrize(
    ("uris", "found"),
    [
        (["twinsplit://device/cam-1"], (Role.DEVICE, "cam-1")),
        (["spiffe://x/y", "twinsplit://edge/e"], (Role.EDGE, "e")),
        (["twinsplit://device/a", "twinsplit://operator/b"], None),
        (["twinsplit://root/a"], None),
        (["twinsplit://device/"], None),
        (["twinsplit://device/a/b"], None),
        (["twinsplit://device/../b"], None),
        (["https://device/a"], None),
        ([], None),
    ],
)
def test_who_one_is_stands_in_exactly_one_uri(uris: list[str], found: object) -> None:
    assert identity_of(uris) == found
