"""What readers of twins get: plain snapshots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twin_service.device_twin import DeviceTwin
from twin_service.documents import Document
from twin_service.edge_twin import EdgeTwin
from twin_service.fields import FieldView
from twinsplit.edge_list import EdgeLink
from twinsplit.plan import Plan
from twinsplit.reckoning import BacklogState


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device's twin at one instant."""

    device_id: str
    version: int
    is_attached: bool
    model_digest: str
    fields: tuple[FieldView, ...]
    plan_id: int | None
    """Id of the plan that stands."""
    plan: Plan | None
    """The plan itself; ``None`` also where only its id was asked for."""
    backlog: BacklogState | None
    """The newest reading that the device holds."""
    outcomes: Mapping[str, int]
    reasons: Mapping[str, int]
    plan_revisions: Mapping[str, int]
    messages_per_task: Mapping[str, float]
    mirror_accuracy: float | None
    links: tuple[EdgeLink, ...] = ()
    """Ways to edges as last told, for a device that has a list of them; not in lists."""
    attachment_epoch: int = 0
    """Number of its newest attachment that this replica knows of; 0: none."""


@dataclass(frozen=True, slots=True)
class EdgeView:
    """One edge's twin at one instant."""

    edge_id: str
    address: str
    is_attached: bool
    model_digests: tuple[str, ...]
    fields: tuple[FieldView, ...]
    other_addresses: tuple[str, ...] = ()
    """Under which devices reach it, too; only where the service itself is described."""


@dataclass(frozen=True, slots=True)
class ServiceView:
    """The twin service at one instant, with regard to one device and one model."""

    rule: str
    unix_ns: int
    """The service's clock."""
    edges: Sequence[EdgeView]
    """Those attached, by name."""
    is_device_attached: bool
    device_model_digest: str
    """What the device announced last; empty: it never attached."""


@dataclass(frozen=True, slots=True)
class Listing:
    """All twins at one instant."""

    rule: str
    devices: Sequence[DeviceView]
    edges: Sequence[EdgeView]


def device_view(document: Document, device: DeviceTwin | None, now_s: float) -> DeviceView:
    """The twin of ``document``; ``device`` is ``None`` where it has not attached since the service started."""
    standing = None if device is None else device.standing
    ended = max(document.ended, 1)
    return DeviceView(
        device_id=document.device_id,
        version=document.version,
        is_attached=device is not None and device.is_attached,
        model_digest=document.model_digest,
        fields=() if device is None else device.status.views(now_s, document.desired.by_field()),
        plan_id=None if standing is None else standing.plan.plan_id,
        plan=None if standing is None else standing.plan,
        backlog=None if standing is None else standing.held,
        outcomes=dict(document.outcomes),
        reasons=dict(document.reasons),
        plan_revisions=dict(document.plan_revisions),
        messages_per_task={kind: count / ended for kind, count in sorted(document.messages.items())},
        mirror_accuracy=None if device is None else device.status.mirror.accuracy,
        links=() if device is None else tuple(device.status.links.values()),
        attachment_epoch=document.epoch,
    )


def edge_view(edge: EdgeTwin, now_s: float) -> EdgeView:
    """The twin of an edge."""
    others = tuple(sorted(edge.addresses - {edge.address}))
    return EdgeView(edge.edge_id, edge.address, edge.is_attached, tuple(edge.models), edge.views(now_s), others)
