from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_CODE_UNSPECIFIED: _ClassVar[ErrorCode]
    ERROR_CODE_BAD_MESSAGE: _ClassVar[ErrorCode]
    ERROR_CODE_WRONG_DIGEST: _ClassVar[ErrorCode]
    ERROR_CODE_BAD_TENSOR: _ClassVar[ErrorCode]
    ERROR_CODE_OVERSIZE: _ClassVar[ErrorCode]
    ERROR_CODE_UNKNOWN_MODEL: _ClassVar[ErrorCode]
    ERROR_CODE_UNKNOWN_TWIN: _ClassVar[ErrorCode]
    ERROR_CODE_STALE_WRITE: _ClassVar[ErrorCode]
    ERROR_CODE_EDGE_FULL: _ClassVar[ErrorCode]
    ERROR_CODE_DEADLINE: _ClassVar[ErrorCode]
    ERROR_CODE_STOPPING: _ClassVar[ErrorCode]
    ERROR_CODE_BAD_FRAME: _ClassVar[ErrorCode]
    ERROR_CODE_INTERNAL: _ClassVar[ErrorCode]
    ERROR_CODE_NOT_ALLOWED: _ClassVar[ErrorCode]
    ERROR_CODE_PEER_LIMIT: _ClassVar[ErrorCode]
    ERROR_CODE_NO_ANSWER: _ClassVar[ErrorCode]
ERROR_CODE_UNSPECIFIED: ErrorCode
ERROR_CODE_BAD_MESSAGE: ErrorCode
ERROR_CODE_WRONG_DIGEST: ErrorCode
ERROR_CODE_BAD_TENSOR: ErrorCode
ERROR_CODE_OVERSIZE: ErrorCode
ERROR_CODE_UNKNOWN_MODEL: ErrorCode
ERROR_CODE_UNKNOWN_TWIN: ErrorCode
ERROR_CODE_STALE_WRITE: ErrorCode
ERROR_CODE_EDGE_FULL: ErrorCode
ERROR_CODE_DEADLINE: ErrorCode
ERROR_CODE_STOPPING: ErrorCode
ERROR_CODE_BAD_FRAME: ErrorCode
ERROR_CODE_INTERNAL: ErrorCode
ERROR_CODE_NOT_ALLOWED: ErrorCode
ERROR_CODE_PEER_LIMIT: ErrorCode
ERROR_CODE_NO_ANSWER: ErrorCode

class Error(_message.Message):
    __slots__ = ("code", "text")
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    code: ErrorCode
    text: str
    def __init__(self, code: _Optional[_Union[ErrorCode, str]] = ..., text: _Optional[str] = ...) -> None: ...
