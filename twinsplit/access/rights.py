"""Who may call what, as one table over the roles in certificates. No input, no output.

Under mutual TLS a peer is whom its certificate names, ``twinsplit://ROLE/NAME``, and whatever the table does not grant
is refused. Without mutual TLS nobody can be told from anybody: then everything is granted, and who reaches the port is
the network's to decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from twinsplit.certificates.subject import Role, subject_of_uri
from twinsplit.errors import NotAllowedError

TWIN_SERVICE = "twinsplit.rpc.v1.TwinService"
EDGE_SERVICE = "twinsplit.rpc.v1.EdgeService"
DEVICE_SERVICE = "twinsplit.rpc.v1.DeviceService"
HEALTH_SERVICE = "grpc.health.v1.Health"
INFERENCE_SERVICE = "inference.GRPCInferenceService"


class Scope(str, Enum):
    """How far a right reaches."""

    OWN = "own"
    """What bears the caller's own name; the handler sees to it with :meth:`Caller.must_be`."""
    ALL = "all"


_READERS = {Role.OPERATOR: Scope.ALL, Role.TWIN: Scope.ALL}
"""Fleet data. Who holds the twin's own key could be the twin: commands beside it may use its certificate."""
_PROGRAMS = {Role.OPERATOR: Scope.ALL, Role.DEVICE: Scope.OWN}
"""Programs beside a device use its certificate."""

RIGHTS: Mapping[str, Mapping[Role, Scope]] = {
    f"/{TWIN_SERVICE}/AttachDevice": {Role.DEVICE: Scope.OWN},
    f"/{TWIN_SERVICE}/AttachEdge": {Role.EDGE: Scope.OWN},
    f"/{TWIN_SERVICE}/ReleaseDevice": {Role.DEVICE: Scope.OWN},
    f"/{TWIN_SERVICE}/GetTwin": {**_READERS, Role.DEVICE: Scope.OWN},
    f"/{TWIN_SERVICE}/DescribeService": {**_READERS, Role.DEVICE: Scope.OWN},
    f"/{TWIN_SERVICE}/ListTwins": _READERS,
    f"/{TWIN_SERVICE}/WatchTwins": _READERS,
    f"/{TWIN_SERVICE}/SetDesired": _READERS,
    f"/{TWIN_SERVICE}/ExportTraces": _READERS,
    f"/{TWIN_SERVICE}/ListWeights": _READERS,
    f"/{TWIN_SERVICE}/ExportReplay": _READERS,
    f"/{EDGE_SERVICE}/Infer": {Role.DEVICE: Scope.OWN},
    f"/{EDGE_SERVICE}/Describe": dict.fromkeys(Role, Scope.ALL),
    f"/{DEVICE_SERVICE}/Submit": _PROGRAMS,
    f"/{DEVICE_SERVICE}/GetStatus": _PROGRAMS,
    f"/{INFERENCE_SERVICE}/ServerLive": dict.fromkeys(Role, Scope.ALL),
    f"/{INFERENCE_SERVICE}/ServerReady": dict.fromkeys(Role, Scope.ALL),
    f"/{INFERENCE_SERVICE}/ServerMetadata": dict.fromkeys(Role, Scope.ALL),
    f"/{INFERENCE_SERVICE}/ModelReady": _PROGRAMS,
    f"/{INFERENCE_SERVICE}/ModelMetadata": _PROGRAMS,
    f"/{INFERENCE_SERVICE}/ModelInfer": _PROGRAMS,
}
"""Method to the roles that may call it. What has no row nobody may call."""

EDGE_RIGHTS: Mapping[str, Mapping[Role, Scope]] = {
    **RIGHTS,
    f"/{INFERENCE_SERVICE}/ModelReady": RIGHTS[f"/{EDGE_SERVICE}/Describe"],
    f"/{INFERENCE_SERVICE}/ModelMetadata": RIGHTS[f"/{EDGE_SERVICE}/Describe"],
    f"/{INFERENCE_SERVICE}/ModelInfer": {**RIGHTS[f"/{EDGE_SERVICE}/Infer"], Role.EDGE: Scope.ALL},
}
"""The same at an edge, where the inference protocol is another way to its tails and not one to a device's frames. An
edge that hands tails on to another one does so for many devices."""

HEALTH = frozenset(f"/{HEALTH_SERVICE}/{method}" for method in ("Check", "List", "Watch"))
"""Open to every certificate of the authority: it says whether the service is up, and nothing else."""


class WithoutRole(str, Enum):
    """What a certificate of the authority that names no role may do."""

    HEALTH = "health"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as far as it is known, and how far its right to this call reaches."""

    role: Role | None = None
    """``None``: unknown, since there is no mutual TLS or its certificate names no role."""
    name: str = ""
    scope: Scope = Scope.ALL

    def must_be(self, name: str) -> None:
        """See that the caller may speak for ``name``.

        Raises:
            NotAllowedError: its certificate is another one's.
        """
        if self.scope is Scope.OWN and name != self.name:
            raise NotAllowedError(
                f"the certificate is that of the {_word(self.role)} {self.name}, which may speak for itself only; use "
                "the certificate of the one that is meant"
            )

    def must_match(self, patterns: Iterable[str]) -> None:
        """See that the caller's name is on a list of patterns such as ``camera-*``; one without a name is not asked.

        Raises:
            NotAllowedError: it is not.
        """
        if self.role is not None and not any(fnmatchcase(self.name, pattern) for pattern in patterns):
            raise NotAllowedError(f"the {_word(self.role)} {self.name} is not among those that are served here")


ANYONE = Caller()
"""Somebody who was let in without a name: everything is open."""


def identity_of(uris: Iterable[str]) -> tuple[Role, str] | None:
    """Role and name in the URIs of a verified certificate; ``None``: it names none, or more than one."""
    found = [subject for uri in uris if (subject := subject_of_uri(uri)) is not None]
    return found[0] if len(found) == 1 else None


def caller_of(
    method: str,
    identity: tuple[Role, str] | None,
    without_role: WithoutRole,
    rights: Mapping[str, Mapping[Role, Scope]] = RIGHTS,
) -> Caller:
    """The caller of ``method`` (``/package.Service/Method``) by its verified certificate and the table ``rights``.

    Raises:
        NotAllowedError: it may not call that.
    """
    if method in HEALTH:
        return ANYONE if identity is None else Caller(*identity)
    if identity is None:
        if without_role is WithoutRole.EVERYTHING:
            return ANYONE
        raise NotAllowedError(
            "the certificate names no role; show one made by `twinsplit certs issue`, or have the service set "
            "--tls-without-role everything"
        )
    role, name = identity
    scope = rights.get(method, {}).get(role)
    if scope is None:
        raise NotAllowedError(f"a certificate of role {role.value} may not call {method.rpartition('/')[2]}")
    return Caller(role, name, scope)


def _word(role: Role | None) -> str:
    return "peer" if role is None else role.value
