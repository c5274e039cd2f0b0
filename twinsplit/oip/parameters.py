"""What travels in ``parameters``: names, and the reading of those of a request (docs/open-inference-protocol.md)."""

from __future__ import annotations

import math
from typing import NamedTuple

from twinsplit.errors import BadMessageError
from twinsplit.oip.messages import InferenceRequest, Parameters, Value

PREFIX = "twinsplit_"

# Of requests. All may be missing.
BUDGET = "twinsplit_budget_s"
DEVICE_ID = "twinsplit_device_id"
TASK_ID = "twinsplit_task_id"
PLAN_ID = "twinsplit_plan_id"
MODEL_DIGEST = "twinsplit_model_digest"
REPRESENTATION = "twinsplit_representation"
CODEC = "twinsplit_codec"
SCALE = "twinsplit_scale"
ZERO_POINT = "twinsplit_zero_point"
RAW_SHAPE = "twinsplit_raw_shape"

# Of answers of an edge.
QUEUE_WAIT = "twinsplit_queue_wait_s"
SERVICE = "twinsplit_service_s"
BACKLOG = "twinsplit_backlog_s"
EDGE_ID = "twinsplit_edge_id"

# Of answers of a device, beside task, plan and edge.
OUTCOME = "twinsplit_outcome"
REASON = "twinsplit_reason"
STOP_EPOCH = "twinsplit_stop_epoch"
EXIT = "twinsplit_exit"
PAYLOAD = "twinsplit_payload"
CONFIDENCE = "twinsplit_confidence"
LATENCY = "twinsplit_latency_s"
DEGRADED = "twinsplit_degraded"

REQUEST_PARAMETERS = frozenset(
    {BUDGET, DEVICE_ID, TASK_ID, PLAN_ID, MODEL_DIGEST, REPRESENTATION, CODEC, SCALE, ZERO_POINT, RAW_SHAPE}
)

_MOST_SIZES = 16
_MOST_SHAPE_CHARACTERS = 16 * _MOST_SIZES
_MOST_NUMBER = (1 << 63) - 1


class RequestSays(NamedTuple):
    """What a request says in its parameters; ``None``: it does not say."""

    budget_s: float | None = None
    """Time left until the answer is of no use, seconds; 0 is sent for no limit, as in the tail stream."""
    device_id: str = ""
    task_id: int = 0
    """Number of the task at its device; 0: not told."""
    plan_id: int | None = None
    """Plan by which it was sent; repeated in the answer."""
    model_digest: str | None = None
    """The model must be this one, hex."""
    representation: str | None = None
    codec: str = "none"
    scale: float = 0.0
    zero_point: int = 0
    raw_shape: tuple[int, ...] | None = None
    """Shape after decoding; ``None``: the model's."""


SAYS_NOTHING = RequestSays()


def said_by(request: InferenceRequest) -> RequestSays:
    """What a request says: parameters of its tensors count before its own.

    Raises:
        BadMessageError: see :func:`said_in`.
    """
    given = request.parameters
    for tensor in request.inputs:
        if tensor.parameters:
            given = {**given, **tensor.parameters}
    return said_in(given)


def said_in(parameters: Parameters) -> RequestSays:
    """What a request says; parameters of others' extensions are passed over.

    Raises:
        BadMessageError: a parameter has a value that it cannot, or there is none of ours with that name.
    """
    if not parameters:
        return SAYS_NOTHING
    for name in parameters:
        if name.startswith(PREFIX) and name not in REQUEST_PARAMETERS:
            raise BadMessageError(
                f"parameters: {name[:40]!r} is not one of a request; use one of {', '.join(sorted(REQUEST_PARAMETERS))}"
            )
    plan_id = parameters.get(PLAN_ID)
    digest = parameters.get(MODEL_DIGEST)
    representation = parameters.get(REPRESENTATION)
    shape = parameters.get(RAW_SHAPE)
    return RequestSays(
        _number(BUDGET, parameters.get(BUDGET, 0.0)) or None,
        _text(DEVICE_ID, parameters.get(DEVICE_ID, "")),
        _whole(TASK_ID, parameters.get(TASK_ID, 0)),
        None if plan_id is None else _whole(PLAN_ID, plan_id),
        None if digest is None else _text(MODEL_DIGEST, digest),
        None if representation is None else _text(REPRESENTATION, representation),
        _text(CODEC, parameters.get(CODEC, "none")),
        _number(SCALE, parameters.get(SCALE, 0.0)),
        _whole(ZERO_POINT, parameters.get(ZERO_POINT, 0)),
        None if shape is None else _shape(shape),
    )


def _number(name: str, value: Value) -> float:
    """A number of 0 or more. Text is read, too: not every library writes numbers of floating point."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except ValueError:
        number = math.nan
    if not 0.0 <= number < math.inf:
        raise BadMessageError(f"parameters: {name} is no number of 0 or more; send it as double_param")
    return number


def _whole(name: str, value: Value) -> int:
    number = _number(name, value)
    whole = value if isinstance(value, int) else int(number)
    if whole != number and not isinstance(value, int):
        raise BadMessageError(f"parameters: {name} is no whole number; send it as int64_param")
    if whole > _MOST_NUMBER:
        raise BadMessageError(f"parameters: {name} is above {_MOST_NUMBER}")
    return whole


def _text(name: str, value: Value) -> str:
    if not isinstance(value, str):
        raise BadMessageError(f"parameters: {name} is no text; send it as string_param")
    return value


def _shape(value: Value) -> tuple[int, ...]:
    text = _text(RAW_SHAPE, value)
    try:
        sizes = tuple(int(size) for size in text[:_MOST_SHAPE_CHARACTERS].split(","))
    except ValueError:
        sizes = ()
    if not 0 < len(sizes) <= _MOST_SIZES or len(text) > _MOST_SHAPE_CHARACTERS:
        raise BadMessageError(f"parameters: {RAW_SHAPE} is no shape; send sizes with commas between, such as 1,3,32,32")
    return sizes
