from twinsplit.rpc.v1 import errors_pb2 as _errors_pb2
from twinsplit.rpc.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InferRequest(_message.Message):
    __slots__ = ("request_id", "model_digest", "cut", "budget_s", "cancel", "header", "traceparent", "trace_clock", "padding", "data")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    BUDGET_S_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACE_CLOCK_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    model_digest: bytes
    cut: int
    budget_s: float
    cancel: bool
    header: _tensor_pb2.TensorHeader
    traceparent: str
    trace_clock: TraceClock
    padding: bytes
    data: bytes
    def __init__(self, request_id: _Optional[int] = ..., model_digest: _Optional[bytes] = ..., cut: _Optional[int] = ..., budget_s: _Optional[float] = ..., cancel: _Optional[bool] = ..., header: _Optional[_Union[_tensor_pb2.TensorHeader, _Mapping]] = ..., traceparent: _Optional[str] = ..., trace_clock: _Optional[_Union[TraceClock, _Mapping]] = ..., padding: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class TraceClock(_message.Message):
    __slots__ = ("earliest_arrival_s", "origin_unix_ns")
    EARLIEST_ARRIVAL_S_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    earliest_arrival_s: float
    origin_unix_ns: int
    def __init__(self, earliest_arrival_s: _Optional[float] = ..., origin_unix_ns: _Optional[int] = ...) -> None: ...

class InferResponse(_message.Message):
    __slots__ = ("request_id", "error", "queue_wait_s", "service_s", "backlog", "header", "traced_arrival_s", "padding", "data")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    QUEUE_WAIT_S_FIELD_NUMBER: _ClassVar[int]
    SERVICE_S_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    TRACED_ARRIVAL_S_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    error: _errors_pb2.Error
    queue_wait_s: float
    service_s: float
    backlog: Backlog
    header: _tensor_pb2.TensorHeader
    traced_arrival_s: float
    padding: bytes
    data: bytes
    def __init__(self, request_id: _Optional[int] = ..., error: _Optional[_Union[_errors_pb2.Error, _Mapping]] = ..., queue_wait_s: _Optional[float] = ..., service_s: _Optional[float] = ..., backlog: _Optional[_Union[Backlog, _Mapping]] = ..., header: _Optional[_Union[_tensor_pb2.TensorHeader, _Mapping]] = ..., traced_arrival_s: _Optional[float] = ..., padding: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class Backlog(_message.Message):
    __slots__ = ("backlog_s", "age_s", "mean_s", "time_constant_s")
    BACKLOG_S_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    MEAN_S_FIELD_NUMBER: _ClassVar[int]
    TIME_CONSTANT_S_FIELD_NUMBER: _ClassVar[int]
    backlog_s: float
    age_s: float
    mean_s: float
    time_constant_s: float
    def __init__(self, backlog_s: _Optional[float] = ..., age_s: _Optional[float] = ..., mean_s: _Optional[float] = ..., time_constant_s: _Optional[float] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("edge_id", "model_digests", "backlog", "provider", "version", "unix_ns", "max_message_bytes")
    EDGE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    edge_id: str
    model_digests: _containers.RepeatedScalarFieldContainer[bytes]
    backlog: Backlog
    provider: str
    version: str
    unix_ns: int
    max_message_bytes: int
    def __init__(self, edge_id: _Optional[str] = ..., model_digests: _Optional[_Iterable[bytes]] = ..., backlog: _Optional[_Union[Backlog, _Mapping]] = ..., provider: _Optional[str] = ..., version: _Optional[str] = ..., unix_ns: _Optional[int] = ..., max_message_bytes: _Optional[int] = ...) -> None: ...
