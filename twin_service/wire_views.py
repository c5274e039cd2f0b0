"""Views of twins to the wire, for readers, and back, for the commands that show them."""

from __future__ import annotations

from collections.abc import Iterable

from twin_service.fields import FieldView, Source
from twin_service.memory import WeightsRow
from twin_service.views import DeviceView, EdgeView, Listing, ServiceView
from twin_service.workload.records import ReplayBatch
from twinsplit import __version__
from twinsplit.rpc.v1 import twin_pb2
from twinsplit.transport.convert import (
    backlog_from_wire,
    digest_from_wire,
    digest_to_wire,
    link_from_wire,
    link_to_wire,
    plan_from_wire,
    plan_to_wire,
)
from twinsplit.transport.limits import CONTROL_MESSAGE_BYTES

LISTED_FIELDS = frozenset(
    {"epoch", "queue_length", "task_rate_per_s", "busy_share", "goodput_bytes_per_s", "energy_joules"}
)
"""Fields of a device that lists hold."""

SOURCES: dict[Source, twin_pb2.Source] = {
    Source.LIVE: twin_pb2.SOURCE_LIVE,
    Source.REPORTED: twin_pb2.SOURCE_REPORTED,
    Source.PREDICTED: twin_pb2.SOURCE_PREDICTED,
}
_SOURCE_BY_WIRE = {int(wire): source for source, wire in SOURCES.items()}


def device_to_wire(view: DeviceView, now_s: float, *, is_listed: bool = False) -> twin_pb2.TwinDocument:
    """One device's twin at ``now_s``; in a list without its plan and the fields that hardly move."""
    document = twin_pb2.TwinDocument(
        device_id=view.device_id,
        version=view.version,
        is_attached=view.is_attached,
        model_digest=digest_to_wire(view.model_digest),
        fields=[_field_to_wire(field) for field in view.fields if not is_listed or field.name in LISTED_FIELDS],
        outcomes=view.outcomes,
        reasons=view.reasons,
        mirror_accuracy=view.mirror_accuracy,
        plan_revisions=view.plan_revisions,
        messages_per_task=view.messages_per_task,
        plan_id=view.plan_id or 0,
        attachment_epoch=view.attachment_epoch,
    )
    if not is_listed:
        document.links.extend(map(link_to_wire, view.links))
    if view.plan is not None and not is_listed:
        document.plan.CopyFrom(plan_to_wire(view.plan, view.backlog, now_s))
    return document


def service_to_wire(view: ServiceView, model_digest: bytes) -> twin_pb2.DescribeServiceResponse:
    """The twin service; ``model_digest``: of the model that its edges are asked about."""
    return twin_pb2.DescribeServiceResponse(
        version=__version__,
        unix_ns=view.unix_ns,
        max_message_bytes=CONTROL_MESSAGE_BYTES,
        rule=view.rule,
        edges=[
            twin_pb2.AttachedEdge(
                edge_id=edge.edge_id,
                advertise_address=edge.address,
                has_model=model_digest in map(digest_to_wire, edge.model_digests),
                other_addresses=edge.other_addresses,
            )
            for edge in view.edges
        ],
        is_device_attached=view.is_device_attached,
        device_model_digest=digest_to_wire(view.device_model_digest),
    )


def edge_to_wire(view: EdgeView) -> twin_pb2.EdgeDocument:
    """One edge's twin."""
    return twin_pb2.EdgeDocument(
        edge_id=view.edge_id,
        advertise_address=view.address,
        is_attached=view.is_attached,
        model_digests=[digest_to_wire(digest) for digest in view.model_digests],
        fields=[_field_to_wire(field) for field in view.fields],
    )


def device_from_wire(document: twin_pb2.TwinDocument, now_s: float) -> DeviceView:
    """One device's twin as a reader got it at ``now_s``.

    Raises:
        BadMessageError: a field that is impossible.
    """
    plan = document.plan if document.HasField("plan") else None
    return DeviceView(
        device_id=document.device_id,
        version=document.version,
        is_attached=document.is_attached,
        model_digest=digest_from_wire(document.model_digest),
        fields=tuple(_field_from_wire(field) for field in document.fields),
        plan_id=document.plan_id or None,
        plan=None if plan is None else plan_from_wire(plan),
        backlog=None if plan is None or not plan.HasField("backlog") else backlog_from_wire(plan.backlog, now_s),
        outcomes=dict(document.outcomes),
        reasons=dict(document.reasons),
        plan_revisions=dict(document.plan_revisions),
        messages_per_task=dict(document.messages_per_task),
        mirror_accuracy=document.mirror_accuracy if document.HasField("mirror_accuracy") else None,
        links=tuple(map(link_from_wire, document.links)),
        attachment_epoch=document.attachment_epoch,
    )


def edge_from_wire(document: twin_pb2.EdgeDocument) -> EdgeView:
    """One edge's twin as a reader got it."""
    return EdgeView(
        document.edge_id,
        document.advertise_address,
        document.is_attached,
        tuple(digest_from_wire(digest) for digest in document.model_digests),
        tuple(_field_from_wire(field) for field in document.fields),
    )


def listing_from_wire(
    twins: Iterable[twin_pb2.TwinDocument], edges: Iterable[twin_pb2.EdgeDocument], rule: str, now_s: float
) -> Listing:
    """All twins as a reader got them at ``now_s``."""
    return Listing(rule, [device_from_wire(twin, now_s) for twin in twins], [edge_from_wire(edge) for edge in edges])


def _field_to_wire(view: FieldView) -> twin_pb2.TwinField:
    return twin_pb2.TwinField(
        name=view.name,
        reported=view.reported,
        predicted=view.predicted,
        desired=view.desired,
        age_s=view.age_s,
        error=view.error,
        source=SOURCES[view.source],
    )


def _field_from_wire(field: twin_pb2.TwinField) -> FieldView:
    return FieldView(
        field.name,
        field.reported if field.HasField("reported") else None,
        field.predicted if field.HasField("predicted") else None,
        field.desired if field.HasField("desired") else None,
        field.age_s,
        field.error if field.HasField("error") else None,
        _SOURCE_BY_WIRE.get(field.source, Source.REPORTED),
    )


def weights_to_wire(row: WeightsRow) -> twin_pb2.WeightsVersion:
    """A version of learned weights, without the weights themselves."""
    return twin_pb2.WeightsVersion(
        model_digest=digest_to_wire(row.model_digest),
        version=row.version,
        state=row.state,
        created_unix_ns=int(row.created_unix_s * 1e9),
        scores_json=row.scores_json,
    )


def weights_from_wire(version: twin_pb2.WeightsVersion) -> WeightsRow:
    """The same, read."""
    return WeightsRow(
        digest_from_wire(version.model_digest),
        version.version,
        version.state,
        version.created_unix_ns * 1e-9,
        version.scores_json,
        b"",
    )


def replay_to_wire(batch: ReplayBatch) -> twin_pb2.ExportReplayResponse:
    """Recorded tasks, as they are kept."""
    return twin_pb2.ExportReplayResponse(
        model_digest=digest_to_wire(batch.model_digest), manifest_json=batch.manifest_json, records=batch.records
    )


def replay_from_wire(response: twin_pb2.ExportReplayResponse) -> ReplayBatch:
    """The same, read."""
    return ReplayBatch(digest_from_wire(response.model_digest), response.manifest_json, tuple(response.records))
