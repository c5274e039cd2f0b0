from twinsplit.rpc.v1 import edge_pb2 as _edge_pb2
from twinsplit.rpc.v1 import errors_pb2 as _errors_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_DEVICE: _ClassVar[Outcome]
    OUTCOME_EXIT: _ClassVar[Outcome]
    OUTCOME_EDGE: _ClassVar[Outcome]
    OUTCOME_DROPPED: _ClassVar[Outcome]
    OUTCOME_FAILED: _ClassVar[Outcome]

class Payload(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAYLOAD_UNSPECIFIED: _ClassVar[Payload]
    PAYLOAD_TENSOR: _ClassVar[Payload]
    PAYLOAD_INPUT: _ClassVar[Payload]

class Observation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OBSERVATION_UNSPECIFIED: _ClassVar[Observation]
    OBSERVATION_EACH_EPOCH: _ClassVar[Observation]
    OBSERVATION_SERVICE_START: _ClassVar[Observation]

class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_UNSPECIFIED: _ClassVar[Source]
    SOURCE_LIVE: _ClassVar[Source]
    SOURCE_REPORTED: _ClassVar[Source]
    SOURCE_PREDICTED: _ClassVar[Source]
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_DEVICE: Outcome
OUTCOME_EXIT: Outcome
OUTCOME_EDGE: Outcome
OUTCOME_DROPPED: Outcome
OUTCOME_FAILED: Outcome
PAYLOAD_UNSPECIFIED: Payload
PAYLOAD_TENSOR: Payload
PAYLOAD_INPUT: Payload
OBSERVATION_UNSPECIFIED: Observation
OBSERVATION_EACH_EPOCH: Observation
OBSERVATION_SERVICE_START: Observation
SOURCE_UNSPECIFIED: Source
SOURCE_LIVE: Source
SOURCE_REPORTED: Source
SOURCE_PREDICTED: Source

class ClockEcho(_message.Message):
    __slots__ = ("sent_s", "echo_sent_s", "echo_received_s")
    SENT_S_FIELD_NUMBER: _ClassVar[int]
    ECHO_SENT_S_FIELD_NUMBER: _ClassVar[int]
    ECHO_RECEIVED_S_FIELD_NUMBER: _ClassVar[int]
    sent_s: float
    echo_sent_s: float
    echo_received_s: float
    def __init__(self, sent_s: _Optional[float] = ..., echo_sent_s: _Optional[float] = ..., echo_received_s: _Optional[float] = ...) -> None: ...

class AttachDeviceRequest(_message.Message):
    __slots__ = ("clock", "hello", "manifest", "task", "start", "progress", "heartbeat", "poll", "live", "error")
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    POLL_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    clock: ClockEcho
    hello: DeviceHello
    manifest: ManifestUpload
    task: TaskReport
    start: StartReport
    progress: ProgressReport
    heartbeat: DeviceHeartbeat
    poll: PollRequest
    live: LiveReport
    error: _errors_pb2.Error
    def __init__(self, clock: _Optional[_Union[ClockEcho, _Mapping]] = ..., hello: _Optional[_Union[DeviceHello, _Mapping]] = ..., manifest: _Optional[_Union[ManifestUpload, _Mapping]] = ..., task: _Optional[_Union[TaskReport, _Mapping]] = ..., start: _Optional[_Union[StartReport, _Mapping]] = ..., progress: _Optional[_Union[ProgressReport, _Mapping]] = ..., heartbeat: _Optional[_Union[DeviceHeartbeat, _Mapping]] = ..., poll: _Optional[_Union[PollRequest, _Mapping]] = ..., live: _Optional[_Union[LiveReport, _Mapping]] = ..., error: _Optional[_Union[_errors_pb2.Error, _Mapping]] = ...) -> None: ...

class AttachDeviceResponse(_message.Message):
    __slots__ = ("clock", "lease_s", "welcome", "plan", "backlog", "renewal", "poll", "live", "error", "edges")
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    RENEWAL_FIELD_NUMBER: _ClassVar[int]
    POLL_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    clock: ClockEcho
    lease_s: float
    welcome: Welcome
    plan: Plan
    backlog: BacklogUpdate
    renewal: LeaseRenewal
    poll: PollResponse
    live: LiveRequest
    error: _errors_pb2.Error
    edges: EdgeList
    def __init__(self, clock: _Optional[_Union[ClockEcho, _Mapping]] = ..., lease_s: _Optional[float] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., backlog: _Optional[_Union[BacklogUpdate, _Mapping]] = ..., renewal: _Optional[_Union[LeaseRenewal, _Mapping]] = ..., poll: _Optional[_Union[PollResponse, _Mapping]] = ..., live: _Optional[_Union[LiveRequest, _Mapping]] = ..., error: _Optional[_Union[_errors_pb2.Error, _Mapping]] = ..., edges: _Optional[_Union[EdgeList, _Mapping]] = ...) -> None: ...

class DeviceHello(_message.Message):
    __slots__ = ("device_id", "model_digest", "segment_s", "exit_s", "encode_s", "tensors_only", "fixed_edge_address", "goodput_bytes_per_s", "round_trip_s", "last_plan_id", "compute_watts", "transmit_watts", "is_polled", "version", "report_threshold_s", "speed_share", "attachment_epoch")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_S_FIELD_NUMBER: _ClassVar[int]
    EXIT_S_FIELD_NUMBER: _ClassVar[int]
    ENCODE_S_FIELD_NUMBER: _ClassVar[int]
    TENSORS_ONLY_FIELD_NUMBER: _ClassVar[int]
    FIXED_EDGE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    GOODPUT_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_S_FIELD_NUMBER: _ClassVar[int]
    LAST_PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_WATTS_FIELD_NUMBER: _ClassVar[int]
    TRANSMIT_WATTS_FIELD_NUMBER: _ClassVar[int]
    IS_POLLED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REPORT_THRESHOLD_S_FIELD_NUMBER: _ClassVar[int]
    SPEED_SHARE_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    model_digest: bytes
    segment_s: _containers.RepeatedScalarFieldContainer[float]
    exit_s: _containers.RepeatedScalarFieldContainer[float]
    encode_s: _containers.RepeatedCompositeFieldContainer[EncodeTime]
    tensors_only: bool
    fixed_edge_address: str
    goodput_bytes_per_s: float
    round_trip_s: float
    last_plan_id: int
    compute_watts: float
    transmit_watts: float
    is_polled: bool
    version: str
    report_threshold_s: float
    speed_share: float
    attachment_epoch: int
    def __init__(self, device_id: _Optional[str] = ..., model_digest: _Optional[bytes] = ..., segment_s: _Optional[_Iterable[float]] = ..., exit_s: _Optional[_Iterable[float]] = ..., encode_s: _Optional[_Iterable[_Union[EncodeTime, _Mapping]]] = ..., tensors_only: _Optional[bool] = ..., fixed_edge_address: _Optional[str] = ..., goodput_bytes_per_s: _Optional[float] = ..., round_trip_s: _Optional[float] = ..., last_plan_id: _Optional[int] = ..., compute_watts: _Optional[float] = ..., transmit_watts: _Optional[float] = ..., is_polled: _Optional[bool] = ..., version: _Optional[str] = ..., report_threshold_s: _Optional[float] = ..., speed_share: _Optional[float] = ..., attachment_epoch: _Optional[int] = ...) -> None: ...

class EncodeTime(_message.Message):
    __slots__ = ("cut", "representation_index", "encode_s")
    CUT_FIELD_NUMBER: _ClassVar[int]
    REPRESENTATION_INDEX_FIELD_NUMBER: _ClassVar[int]
    ENCODE_S_FIELD_NUMBER: _ClassVar[int]
    cut: int
    representation_index: int
    encode_s: float
    def __init__(self, cut: _Optional[int] = ..., representation_index: _Optional[int] = ..., encode_s: _Optional[float] = ...) -> None: ...

class ManifestUpload(_message.Message):
    __slots__ = ("manifest_json",)
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    manifest_json: bytes
    def __init__(self, manifest_json: _Optional[bytes] = ...) -> None: ...

class EndedTask(_message.Message):
    __slots__ = ("task_id", "outcome", "reason", "arrived_age_s", "started_age_s", "ended_age_s", "epoch_s", "stop_epoch", "evidence", "exit_index", "payload", "representation_index", "wire_bytes", "encode_s", "upload_s", "edge_queue_s", "edge_service_s", "energy_joules", "exit_confidence", "exit_agrees", "degraded", "plan_id", "label", "confidence", "thumbnail_jpeg", "energy_source", "queue_length", "edge_id", "sent_on")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_AGE_S_FIELD_NUMBER: _ClassVar[int]
    STARTED_AGE_S_FIELD_NUMBER: _ClassVar[int]
    ENDED_AGE_S_FIELD_NUMBER: _ClassVar[int]
    EPOCH_S_FIELD_NUMBER: _ClassVar[int]
    STOP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    EXIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    REPRESENTATION_INDEX_FIELD_NUMBER: _ClassVar[int]
    WIRE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ENCODE_S_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_S_FIELD_NUMBER: _ClassVar[int]
    EDGE_QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    EDGE_SERVICE_S_FIELD_NUMBER: _ClassVar[int]
    ENERGY_JOULES_FIELD_NUMBER: _ClassVar[int]
    EXIT_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    EXIT_AGREES_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    THUMBNAIL_JPEG_FIELD_NUMBER: _ClassVar[int]
    ENERGY_SOURCE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    EDGE_ID_FIELD_NUMBER: _ClassVar[int]
    SENT_ON_FIELD_NUMBER: _ClassVar[int]
    task_id: int
    outcome: Outcome
    reason: str
    arrived_age_s: float
    started_age_s: float
    ended_age_s: float
    epoch_s: _containers.RepeatedScalarFieldContainer[float]
    stop_epoch: int
    evidence: int
    exit_index: int
    payload: Payload
    representation_index: int
    wire_bytes: int
    encode_s: float
    upload_s: float
    edge_queue_s: float
    edge_service_s: float
    energy_joules: float
    exit_confidence: _containers.RepeatedScalarFieldContainer[float]
    exit_agrees: bool
    degraded: bool
    plan_id: int
    label: str
    confidence: float
    thumbnail_jpeg: bytes
    energy_source: str
    queue_length: int
    edge_id: str
    sent_on: int
    def __init__(self, task_id: _Optional[int] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., reason: _Optional[str] = ..., arrived_age_s: _Optional[float] = ..., started_age_s: _Optional[float] = ..., ended_age_s: _Optional[float] = ..., epoch_s: _Optional[_Iterable[float]] = ..., stop_epoch: _Optional[int] = ..., evidence: _Optional[int] = ..., exit_index: _Optional[int] = ..., payload: _Optional[_Union[Payload, str]] = ..., representation_index: _Optional[int] = ..., wire_bytes: _Optional[int] = ..., encode_s: _Optional[float] = ..., upload_s: _Optional[float] = ..., edge_queue_s: _Optional[float] = ..., edge_service_s: _Optional[float] = ..., energy_joules: _Optional[float] = ..., exit_confidence: _Optional[_Iterable[float]] = ..., exit_agrees: _Optional[bool] = ..., degraded: _Optional[bool] = ..., plan_id: _Optional[int] = ..., label: _Optional[str] = ..., confidence: _Optional[float] = ..., thumbnail_jpeg: _Optional[bytes] = ..., energy_source: _Optional[str] = ..., queue_length: _Optional[int] = ..., edge_id: _Optional[str] = ..., sent_on: _Optional[int] = ...) -> None: ...

class TaskReport(_message.Message):
    __slots__ = ("ended", "started", "queue_length", "state")
    ENDED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ended: _containers.RepeatedCompositeFieldContainer[EndedTask]
    started: StartReport
    queue_length: int
    state: DeviceState
    def __init__(self, ended: _Optional[_Iterable[_Union[EndedTask, _Mapping]]] = ..., started: _Optional[_Union[StartReport, _Mapping]] = ..., queue_length: _Optional[int] = ..., state: _Optional[_Union[DeviceState, _Mapping]] = ...) -> None: ...

class StartReport(_message.Message):
    __slots__ = ("task_id", "started_age_s", "queue_length", "first_epoch")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STARTED_AGE_S_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    FIRST_EPOCH_FIELD_NUMBER: _ClassVar[int]
    task_id: int
    started_age_s: float
    queue_length: int
    first_epoch: int
    def __init__(self, task_id: _Optional[int] = ..., started_age_s: _Optional[float] = ..., queue_length: _Optional[int] = ..., first_epoch: _Optional[int] = ...) -> None: ...

class ProgressReport(_message.Message):
    __slots__ = ("task_id", "epoch", "reached_age_s", "queue_length")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REACHED_AGE_S_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    task_id: int
    epoch: int
    reached_age_s: float
    queue_length: int
    def __init__(self, task_id: _Optional[int] = ..., epoch: _Optional[int] = ..., reached_age_s: _Optional[float] = ..., queue_length: _Optional[int] = ...) -> None: ...

class DeviceState(_message.Message):
    __slots__ = ("goodput_bytes_per_s", "round_trip_s", "segment_s", "exit_s", "is_edge_reachable", "is_degraded", "entered", "lost", "cpu_share", "memory_share", "temperature_celsius", "is_throttled", "speed_share", "links")
    GOODPUT_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_S_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_S_FIELD_NUMBER: _ClassVar[int]
    EXIT_S_FIELD_NUMBER: _ClassVar[int]
    IS_EDGE_REACHABLE_FIELD_NUMBER: _ClassVar[int]
    IS_DEGRADED_FIELD_NUMBER: _ClassVar[int]
    ENTERED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    CPU_SHARE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_SHARE_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_CELSIUS_FIELD_NUMBER: _ClassVar[int]
    IS_THROTTLED_FIELD_NUMBER: _ClassVar[int]
    SPEED_SHARE_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    goodput_bytes_per_s: float
    round_trip_s: float
    segment_s: _containers.RepeatedScalarFieldContainer[float]
    exit_s: _containers.RepeatedScalarFieldContainer[float]
    is_edge_reachable: bool
    is_degraded: bool
    entered: int
    lost: int
    cpu_share: float
    memory_share: float
    temperature_celsius: float
    is_throttled: bool
    speed_share: float
    links: _containers.RepeatedCompositeFieldContainer[EdgeLink]
    def __init__(self, goodput_bytes_per_s: _Optional[float] = ..., round_trip_s: _Optional[float] = ..., segment_s: _Optional[_Iterable[float]] = ..., exit_s: _Optional[_Iterable[float]] = ..., is_edge_reachable: _Optional[bool] = ..., is_degraded: _Optional[bool] = ..., entered: _Optional[int] = ..., lost: _Optional[int] = ..., cpu_share: _Optional[float] = ..., memory_share: _Optional[float] = ..., temperature_celsius: _Optional[float] = ..., is_throttled: _Optional[bool] = ..., speed_share: _Optional[float] = ..., links: _Optional[_Iterable[_Union[EdgeLink, _Mapping]]] = ...) -> None: ...

class EdgeLink(_message.Message):
    __slots__ = ("edge_id", "goodput_bytes_per_s", "round_trip_s", "is_reachable")
    EDGE_ID_FIELD_NUMBER: _ClassVar[int]
    GOODPUT_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_S_FIELD_NUMBER: _ClassVar[int]
    IS_REACHABLE_FIELD_NUMBER: _ClassVar[int]
    edge_id: str
    goodput_bytes_per_s: float
    round_trip_s: float
    is_reachable: bool
    def __init__(self, edge_id: _Optional[str] = ..., goodput_bytes_per_s: _Optional[float] = ..., round_trip_s: _Optional[float] = ..., is_reachable: _Optional[bool] = ...) -> None: ...

class DeviceHeartbeat(_message.Message):
    __slots__ = ("queue_length", "started", "state")
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    queue_length: int
    started: StartReport
    state: DeviceState
    def __init__(self, queue_length: _Optional[int] = ..., started: _Optional[_Union[StartReport, _Mapping]] = ..., state: _Optional[_Union[DeviceState, _Mapping]] = ...) -> None: ...

class PollRequest(_message.Message):
    __slots__ = ("task_id", "epoch", "evidence", "queue_length", "age_s", "uplink_busy_s")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    UPLINK_BUSY_S_FIELD_NUMBER: _ClassVar[int]
    task_id: int
    epoch: int
    evidence: int
    queue_length: int
    age_s: float
    uplink_busy_s: float
    def __init__(self, task_id: _Optional[int] = ..., epoch: _Optional[int] = ..., evidence: _Optional[int] = ..., queue_length: _Optional[int] = ..., age_s: _Optional[float] = ..., uplink_busy_s: _Optional[float] = ...) -> None: ...

class PollResponse(_message.Message):
    __slots__ = ("task_id", "epoch", "decision")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    task_id: int
    epoch: int
    decision: int
    def __init__(self, task_id: _Optional[int] = ..., epoch: _Optional[int] = ..., decision: _Optional[int] = ...) -> None: ...

class LiveRequest(_message.Message):
    __slots__ = ("read_id",)
    READ_ID_FIELD_NUMBER: _ClassVar[int]
    read_id: int
    def __init__(self, read_id: _Optional[int] = ...) -> None: ...

class LiveReport(_message.Message):
    __slots__ = ("read_id", "queue_length", "started", "epoch", "reached_age_s", "state")
    READ_ID_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REACHED_AGE_S_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    read_id: int
    queue_length: int
    started: StartReport
    epoch: int
    reached_age_s: float
    state: DeviceState
    def __init__(self, read_id: _Optional[int] = ..., queue_length: _Optional[int] = ..., started: _Optional[_Union[StartReport, _Mapping]] = ..., epoch: _Optional[int] = ..., reached_age_s: _Optional[float] = ..., state: _Optional[_Union[DeviceState, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("needs_manifest", "version", "heartbeat_s", "attachment_epoch")
    NEEDS_MANIFEST_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    needs_manifest: bool
    version: str
    heartbeat_s: float
    attachment_epoch: int
    def __init__(self, needs_manifest: _Optional[bool] = ..., version: _Optional[str] = ..., heartbeat_s: _Optional[float] = ..., attachment_epoch: _Optional[int] = ...) -> None: ...

class ReleaseDeviceRequest(_message.Message):
    __slots__ = ("device_id", "attachment_epoch")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    attachment_epoch: int
    def __init__(self, device_id: _Optional[str] = ..., attachment_epoch: _Optional[int] = ...) -> None: ...

class ReleaseDeviceResponse(_message.Message):
    __slots__ = ("was_attached",)
    WAS_ATTACHED_FIELD_NUMBER: _ClassVar[int]
    was_attached: bool
    def __init__(self, was_attached: _Optional[bool] = ...) -> None: ...

class Contingency(_message.Message):
    __slots__ = ("exit_thresholds", "cut")
    EXIT_THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    exit_thresholds: _containers.RepeatedScalarFieldContainer[float]
    cut: int
    def __init__(self, exit_thresholds: _Optional[_Iterable[float]] = ..., cut: _Optional[int] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("plan_id", "model_digest", "rule", "edge_id", "edge_address", "exits_run", "band_edges_s", "table_shape", "table_zstd", "tensor_representations", "input_representations", "lease_s", "contingency", "observation", "backlog", "age_edges_s", "busy_uplink", "attachment_epoch")
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    EDGE_ID_FIELD_NUMBER: _ClassVar[int]
    EDGE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    EXITS_RUN_FIELD_NUMBER: _ClassVar[int]
    BAND_EDGES_S_FIELD_NUMBER: _ClassVar[int]
    TABLE_SHAPE_FIELD_NUMBER: _ClassVar[int]
    TABLE_ZSTD_FIELD_NUMBER: _ClassVar[int]
    TENSOR_REPRESENTATIONS_FIELD_NUMBER: _ClassVar[int]
    INPUT_REPRESENTATIONS_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    CONTINGENCY_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    AGE_EDGES_S_FIELD_NUMBER: _ClassVar[int]
    BUSY_UPLINK_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    plan_id: int
    model_digest: bytes
    rule: str
    edge_id: str
    edge_address: str
    exits_run: _containers.RepeatedScalarFieldContainer[bool]
    band_edges_s: _containers.RepeatedScalarFieldContainer[float]
    table_shape: _containers.RepeatedScalarFieldContainer[int]
    table_zstd: bytes
    tensor_representations: _containers.RepeatedScalarFieldContainer[int]
    input_representations: _containers.RepeatedScalarFieldContainer[int]
    lease_s: float
    contingency: Contingency
    observation: Observation
    backlog: _edge_pb2.Backlog
    age_edges_s: _containers.RepeatedScalarFieldContainer[float]
    busy_uplink: BusyUplink
    attachment_epoch: int
    def __init__(self, plan_id: _Optional[int] = ..., model_digest: _Optional[bytes] = ..., rule: _Optional[str] = ..., edge_id: _Optional[str] = ..., edge_address: _Optional[str] = ..., exits_run: _Optional[_Iterable[bool]] = ..., band_edges_s: _Optional[_Iterable[float]] = ..., table_shape: _Optional[_Iterable[int]] = ..., table_zstd: _Optional[bytes] = ..., tensor_representations: _Optional[_Iterable[int]] = ..., input_representations: _Optional[_Iterable[int]] = ..., lease_s: _Optional[float] = ..., contingency: _Optional[_Union[Contingency, _Mapping]] = ..., observation: _Optional[_Union[Observation, str]] = ..., backlog: _Optional[_Union[_edge_pb2.Backlog, _Mapping]] = ..., age_edges_s: _Optional[_Iterable[float]] = ..., busy_uplink: _Optional[_Union[BusyUplink, _Mapping]] = ..., attachment_epoch: _Optional[int] = ...) -> None: ...

class BusyUplink(_message.Message):
    __slots__ = ("from_s", "band_edges_s", "table_shape", "table_zstd")
    FROM_S_FIELD_NUMBER: _ClassVar[int]
    BAND_EDGES_S_FIELD_NUMBER: _ClassVar[int]
    TABLE_SHAPE_FIELD_NUMBER: _ClassVar[int]
    TABLE_ZSTD_FIELD_NUMBER: _ClassVar[int]
    from_s: float
    band_edges_s: _containers.RepeatedScalarFieldContainer[float]
    table_shape: _containers.RepeatedScalarFieldContainer[int]
    table_zstd: bytes
    def __init__(self, from_s: _Optional[float] = ..., band_edges_s: _Optional[_Iterable[float]] = ..., table_shape: _Optional[_Iterable[int]] = ..., table_zstd: _Optional[bytes] = ...) -> None: ...

class BacklogUpdate(_message.Message):
    __slots__ = ("backlog",)
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    backlog: _edge_pb2.Backlog
    def __init__(self, backlog: _Optional[_Union[_edge_pb2.Backlog, _Mapping]] = ...) -> None: ...

class EdgeList(_message.Message):
    __slots__ = ("edges",)
    EDGES_FIELD_NUMBER: _ClassVar[int]
    edges: _containers.RepeatedCompositeFieldContainer[ListedEdge]
    def __init__(self, edges: _Optional[_Iterable[_Union[ListedEdge, _Mapping]]] = ...) -> None: ...

class ListedEdge(_message.Message):
    __slots__ = ("edge_id", "address", "tail_s", "backlog")
    EDGE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TAIL_S_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    edge_id: str
    address: str
    tail_s: _containers.RepeatedScalarFieldContainer[float]
    backlog: _edge_pb2.Backlog
    def __init__(self, edge_id: _Optional[str] = ..., address: _Optional[str] = ..., tail_s: _Optional[_Iterable[float]] = ..., backlog: _Optional[_Union[_edge_pb2.Backlog, _Mapping]] = ...) -> None: ...

class LeaseRenewal(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AttachEdgeRequest(_message.Message):
    __slots__ = ("clock", "hello", "backlog", "heartbeat")
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    clock: ClockEcho
    hello: EdgeHello
    backlog: BacklogReport
    heartbeat: EdgeHeartbeat
    def __init__(self, clock: _Optional[_Union[ClockEcho, _Mapping]] = ..., hello: _Optional[_Union[EdgeHello, _Mapping]] = ..., backlog: _Optional[_Union[BacklogReport, _Mapping]] = ..., heartbeat: _Optional[_Union[EdgeHeartbeat, _Mapping]] = ...) -> None: ...

class AttachEdgeResponse(_message.Message):
    __slots__ = ("clock", "welcome", "error", "interest")
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    INTEREST_FIELD_NUMBER: _ClassVar[int]
    clock: ClockEcho
    welcome: Welcome
    error: _errors_pb2.Error
    interest: BacklogInterest
    def __init__(self, clock: _Optional[_Union[ClockEcho, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., error: _Optional[_Union[_errors_pb2.Error, _Mapping]] = ..., interest: _Optional[_Union[BacklogInterest, _Mapping]] = ...) -> None: ...

class BacklogInterest(_message.Message):
    __slots__ = ("ceiling_s",)
    CEILING_S_FIELD_NUMBER: _ClassVar[int]
    ceiling_s: float
    def __init__(self, ceiling_s: _Optional[float] = ...) -> None: ...

class EdgeHello(_message.Message):
    __slots__ = ("edge_id", "advertise_address", "models", "version", "report_threshold_s", "backlog", "other_addresses")
    EDGE_ID_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REPORT_THRESHOLD_S_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    OTHER_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    edge_id: str
    advertise_address: str
    models: _containers.RepeatedCompositeFieldContainer[EdgeModel]
    version: str
    report_threshold_s: float
    backlog: BacklogReport
    other_addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, edge_id: _Optional[str] = ..., advertise_address: _Optional[str] = ..., models: _Optional[_Iterable[_Union[EdgeModel, _Mapping]]] = ..., version: _Optional[str] = ..., report_threshold_s: _Optional[float] = ..., backlog: _Optional[_Union[BacklogReport, _Mapping]] = ..., other_addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class EdgeModel(_message.Message):
    __slots__ = ("model_digest", "tail_s")
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TAIL_S_FIELD_NUMBER: _ClassVar[int]
    model_digest: bytes
    tail_s: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, model_digest: _Optional[bytes] = ..., tail_s: _Optional[_Iterable[float]] = ...) -> None: ...

class BacklogReport(_message.Message):
    __slots__ = ("backlog", "arrived_work_s", "speed_factor", "queue_length", "busy_share", "arrivals")
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_WORK_S_FIELD_NUMBER: _ClassVar[int]
    SPEED_FACTOR_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    BUSY_SHARE_FIELD_NUMBER: _ClassVar[int]
    ARRIVALS_FIELD_NUMBER: _ClassVar[int]
    backlog: _edge_pb2.Backlog
    arrived_work_s: _containers.RepeatedScalarFieldContainer[float]
    speed_factor: float
    queue_length: int
    busy_share: float
    arrivals: ArrivalLog
    def __init__(self, backlog: _Optional[_Union[_edge_pb2.Backlog, _Mapping]] = ..., arrived_work_s: _Optional[_Iterable[float]] = ..., speed_factor: _Optional[float] = ..., queue_length: _Optional[int] = ..., busy_share: _Optional[float] = ..., arrivals: _Optional[_Union[ArrivalLog, _Mapping]] = ...) -> None: ...

class ArrivalLog(_message.Message):
    __slots__ = ("age_s", "work_s", "device", "task_id", "device_ids")
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    WORK_S_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
    age_s: _containers.RepeatedScalarFieldContainer[float]
    work_s: _containers.RepeatedScalarFieldContainer[float]
    device: _containers.RepeatedScalarFieldContainer[int]
    task_id: _containers.RepeatedScalarFieldContainer[int]
    device_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, age_s: _Optional[_Iterable[float]] = ..., work_s: _Optional[_Iterable[float]] = ..., device: _Optional[_Iterable[int]] = ..., task_id: _Optional[_Iterable[int]] = ..., device_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class EdgeHeartbeat(_message.Message):
    __slots__ = ("backlog",)
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    backlog: BacklogReport
    def __init__(self, backlog: _Optional[_Union[BacklogReport, _Mapping]] = ...) -> None: ...

class TwinField(_message.Message):
    __slots__ = ("name", "reported", "predicted", "desired", "age_s", "error", "source")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REPORTED_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    reported: float
    predicted: float
    desired: float
    age_s: float
    error: float
    source: Source
    def __init__(self, name: _Optional[str] = ..., reported: _Optional[float] = ..., predicted: _Optional[float] = ..., desired: _Optional[float] = ..., age_s: _Optional[float] = ..., error: _Optional[float] = ..., source: _Optional[_Union[Source, str]] = ...) -> None: ...

class TwinDocument(_message.Message):
    __slots__ = ("device_id", "version", "is_attached", "model_digest", "fields", "plan", "outcomes", "reasons", "mirror_accuracy", "plan_revisions", "messages_per_task", "plan_id", "links", "attachment_epoch")
    class OutcomesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ReasonsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class PlanRevisionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class MessagesPerTaskEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IS_ATTACHED_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    MIRROR_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    PLAN_REVISIONS_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_PER_TASK_FIELD_NUMBER: _ClassVar[int]
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    version: int
    is_attached: bool
    model_digest: bytes
    fields: _containers.RepeatedCompositeFieldContainer[TwinField]
    plan: Plan
    outcomes: _containers.ScalarMap[str, int]
    reasons: _containers.ScalarMap[str, int]
    mirror_accuracy: float
    plan_revisions: _containers.ScalarMap[str, int]
    messages_per_task: _containers.ScalarMap[str, float]
    plan_id: int
    links: _containers.RepeatedCompositeFieldContainer[EdgeLink]
    attachment_epoch: int
    def __init__(self, device_id: _Optional[str] = ..., version: _Optional[int] = ..., is_attached: _Optional[bool] = ..., model_digest: _Optional[bytes] = ..., fields: _Optional[_Iterable[_Union[TwinField, _Mapping]]] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., outcomes: _Optional[_Mapping[str, int]] = ..., reasons: _Optional[_Mapping[str, int]] = ..., mirror_accuracy: _Optional[float] = ..., plan_revisions: _Optional[_Mapping[str, int]] = ..., messages_per_task: _Optional[_Mapping[str, float]] = ..., plan_id: _Optional[int] = ..., links: _Optional[_Iterable[_Union[EdgeLink, _Mapping]]] = ..., attachment_epoch: _Optional[int] = ...) -> None: ...

class EdgeDocument(_message.Message):
    __slots__ = ("edge_id", "advertise_address", "is_attached", "model_digests", "fields")
    EDGE_ID_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    IS_ATTACHED_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    edge_id: str
    advertise_address: str
    is_attached: bool
    model_digests: _containers.RepeatedScalarFieldContainer[bytes]
    fields: _containers.RepeatedCompositeFieldContainer[TwinField]
    def __init__(self, edge_id: _Optional[str] = ..., advertise_address: _Optional[str] = ..., is_attached: _Optional[bool] = ..., model_digests: _Optional[_Iterable[bytes]] = ..., fields: _Optional[_Iterable[_Union[TwinField, _Mapping]]] = ...) -> None: ...

class GetTwinRequest(_message.Message):
    __slots__ = ("device_id", "live_if_older_than_s", "timeout_s")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    LIVE_IF_OLDER_THAN_S_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    live_if_older_than_s: float
    timeout_s: float
    def __init__(self, device_id: _Optional[str] = ..., live_if_older_than_s: _Optional[float] = ..., timeout_s: _Optional[float] = ...) -> None: ...

class GetTwinResponse(_message.Message):
    __slots__ = ("twin", "is_live")
    TWIN_FIELD_NUMBER: _ClassVar[int]
    IS_LIVE_FIELD_NUMBER: _ClassVar[int]
    twin: TwinDocument
    is_live: bool
    def __init__(self, twin: _Optional[_Union[TwinDocument, _Mapping]] = ..., is_live: _Optional[bool] = ...) -> None: ...

class DescribeServiceRequest(_message.Message):
    __slots__ = ("device_id", "model_digest")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    model_digest: bytes
    def __init__(self, device_id: _Optional[str] = ..., model_digest: _Optional[bytes] = ...) -> None: ...

class DescribeServiceResponse(_message.Message):
    __slots__ = ("version", "unix_ns", "max_message_bytes", "rule", "edges", "is_device_attached", "device_model_digest")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    IS_DEVICE_ATTACHED_FIELD_NUMBER: _ClassVar[int]
    DEVICE_MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    version: str
    unix_ns: int
    max_message_bytes: int
    rule: str
    edges: _containers.RepeatedCompositeFieldContainer[AttachedEdge]
    is_device_attached: bool
    device_model_digest: bytes
    def __init__(self, version: _Optional[str] = ..., unix_ns: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., rule: _Optional[str] = ..., edges: _Optional[_Iterable[_Union[AttachedEdge, _Mapping]]] = ..., is_device_attached: _Optional[bool] = ..., device_model_digest: _Optional[bytes] = ...) -> None: ...

class AttachedEdge(_message.Message):
    __slots__ = ("edge_id", "advertise_address", "has_model", "other_addresses")
    EDGE_ID_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HAS_MODEL_FIELD_NUMBER: _ClassVar[int]
    OTHER_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    edge_id: str
    advertise_address: str
    has_model: bool
    other_addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, edge_id: _Optional[str] = ..., advertise_address: _Optional[str] = ..., has_model: _Optional[bool] = ..., other_addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class ListTwinsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListTwinsResponse(_message.Message):
    __slots__ = ("twins", "edges", "rule")
    TWINS_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    twins: _containers.RepeatedCompositeFieldContainer[TwinDocument]
    edges: _containers.RepeatedCompositeFieldContainer[EdgeDocument]
    rule: str
    def __init__(self, twins: _Optional[_Iterable[_Union[TwinDocument, _Mapping]]] = ..., edges: _Optional[_Iterable[_Union[EdgeDocument, _Mapping]]] = ..., rule: _Optional[str] = ...) -> None: ...

class WatchTwinsRequest(_message.Message):
    __slots__ = ("interval_s",)
    INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    interval_s: float
    def __init__(self, interval_s: _Optional[float] = ...) -> None: ...

class WatchTwinsResponse(_message.Message):
    __slots__ = ("twins", "edges", "rule")
    TWINS_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    twins: _containers.RepeatedCompositeFieldContainer[TwinDocument]
    edges: _containers.RepeatedCompositeFieldContainer[EdgeDocument]
    rule: str
    def __init__(self, twins: _Optional[_Iterable[_Union[TwinDocument, _Mapping]]] = ..., edges: _Optional[_Iterable[_Union[EdgeDocument, _Mapping]]] = ..., rule: _Optional[str] = ...) -> None: ...

class SetDesiredRequest(_message.Message):
    __slots__ = ("device_id", "version", "alpha_s", "beta_s_per_joule", "deadline_s")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ALPHA_S_FIELD_NUMBER: _ClassVar[int]
    BETA_S_PER_JOULE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    version: int
    alpha_s: float
    beta_s_per_joule: float
    deadline_s: float
    def __init__(self, device_id: _Optional[str] = ..., version: _Optional[int] = ..., alpha_s: _Optional[float] = ..., beta_s_per_joule: _Optional[float] = ..., deadline_s: _Optional[float] = ...) -> None: ...

class SetDesiredResponse(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class ExportTracesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExportTracesResponse(_message.Message):
    __slots__ = ("lines_zstd",)
    LINES_ZSTD_FIELD_NUMBER: _ClassVar[int]
    lines_zstd: bytes
    def __init__(self, lines_zstd: _Optional[bytes] = ...) -> None: ...

class ListWeightsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WeightsVersion(_message.Message):
    __slots__ = ("model_digest", "version", "state", "created_unix_ns", "scores_json")
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    SCORES_JSON_FIELD_NUMBER: _ClassVar[int]
    model_digest: bytes
    version: int
    state: str
    created_unix_ns: int
    scores_json: str
    def __init__(self, model_digest: _Optional[bytes] = ..., version: _Optional[int] = ..., state: _Optional[str] = ..., created_unix_ns: _Optional[int] = ..., scores_json: _Optional[str] = ...) -> None: ...

class ListWeightsResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[WeightsVersion]
    def __init__(self, versions: _Optional[_Iterable[_Union[WeightsVersion, _Mapping]]] = ...) -> None: ...

class ExportReplayRequest(_message.Message):
    __slots__ = ("model", "limit")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    model: str
    limit: int
    def __init__(self, model: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ExportReplayResponse(_message.Message):
    __slots__ = ("model_digest", "manifest_json", "records")
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    model_digest: bytes
    manifest_json: bytes
    records: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, model_digest: _Optional[bytes] = ..., manifest_json: _Optional[bytes] = ..., records: _Optional[_Iterable[bytes]] = ...) -> None: ...
