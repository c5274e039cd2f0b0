"""One ended task under every decision that it could have taken (design sections 5 and 6), and how it is kept.

Bytes are a header of fixed fields, the device's name, the arrays in the order of their declaration and, from version 2
on, what the task met; little-endian, with a checksum behind it all: nothing in them is ever executed, and what was
damaged is refused.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_service.workload.conditions import Conditions
from twinsplit.errors import ReplayError
from twinsplit.types import Decision

Floats = NDArray[np.float32]

TENSOR, INPUT = 0, 1
"""Columns of everything that is (K, 2): the payload that an offload sends."""

_MAGIC = b"TSRP"
_VERSION = 2
_READ_VERSIONS = (1, 2)
"""Those of version 1 have no conditions."""
_HEADER = struct.Struct("<4sHHHHHQd32s8d")
_CHECKSUM = struct.Struct("<I")
_MOST_EPOCHS = 4096


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Replayed:
    """A task at its decision epochs 0, 1, ... K - 1, K - 1 being the last one that the device can reach.

    Times and payoffs in seconds, powers and energies in watts and joules. ``nan``: impossible. No payoff
    knows a deadline.
    """

    device_id: str
    task_id: int
    at_s: float
    """Service start: Unix time, or simulated time."""
    model_digest: str
    """Hex."""
    taken_epoch: int
    """Epoch at which the task really stopped."""
    taken: Decision
    """What it did there; CONTINUE: it went through to the end of the network."""
    alpha_s: float
    beta_s_per_joule: float
    task_rate_per_s: float
    busy_share: float
    waiting_factor: float
    """Price of a second of caused waiting."""
    waited_s: float
    """Generation to service start."""
    finish_s: float
    """Payoff of the whole network's answer at the last epoch; ``nan``: the device holds only the head."""
    compute_watts: float
    evidence: NDArray[np.int16]  # (K,) evidence state after the exit of that epoch, where it is run
    seen: NDArray[np.bool_]  # (K,) False: the task never came here, and its evidence was drawn
    reached_s: Floats  # (K,) service start to the epoch
    queue: Floats  # (K,) tasks waiting
    backlog_s: Floats  # (K,) edge's backlog, own tail left out
    uplink_busy_s: Floats  # (K,) until earlier offloads are sent
    arrived_work_s: Floats  # (K, 3) work arrived at the edge in the last 0.25, 1, 4 s, own tail left out
    exit_s: Floats  # (K,) alpha * P(right | evidence); nan: no exit has run
    base_tensor: Floats  # (K,) P0 of the boundary tensor in the open loop
    base_input: Floats  # (K,) P0 of the input
    base_going_on: Floats  # (K,) C0; at the last epoch what ends there: finish_s or nan
    step_cost_s: Floats  # (K - 1,) realised price of going on from the epoch to the next
    caused_s: Floats  # (K - 1,) waiting that others had meanwhile, before it is priced
    offload_s: Floats  # (K, 2) realised utility to go of sending tensor or input
    latency_s: Floats  # (K, 2) epoch to the edge's answer
    edge_wait_s: Floats  # (K, 2) part of it that was waiting at the edge
    accuracy: Floats  # (K, 2) P(right) of that answer
    transmit_joules: Floats  # (K, 2) energy of encoding and sending
    conditions: Conditions | None = None
    """What a rule needs to be evaluated again on this task; ``None``: it was not recorded."""

    @property
    def epochs(self) -> int:
        """K."""
        return len(self.evidence)

    @property
    def deadline_s(self) -> float | None:
        """The deadline under which it was decided; ``None``: without one, or not recorded."""
        return None if self.conditions is None else self.conditions.deadline_s

    def to_bytes(self) -> bytes:
        """The record as it is kept."""
        name = self.device_id.encode()
        header = _HEADER.pack(
            _MAGIC,
            _VERSION,
            self.epochs,
            len(name),
            self.taken_epoch,
            int(self.taken),
            self.task_id,
            self.at_s,
            bytes.fromhex(self.model_digest),
            *(getattr(self, field) for field in _NUMBERS),
        )
        arrays = (
            np.ascontiguousarray(getattr(self, field), dtype=kind).tobytes() for field, kind, _ in _arrays(self.epochs)
        )
        met = b"" if self.conditions is None else self.conditions.to_bytes()
        body = b"".join((header, name, *arrays, met))
        return body + _CHECKSUM.pack(zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> Replayed:
        """The record that :meth:`to_bytes` wrote.

        Raises:
            ReplayError: it is damaged, or of another version.
        """
        body, checksum = data[: -_CHECKSUM.size], data[-_CHECKSUM.size :]
        if len(body) < _HEADER.size or _CHECKSUM.pack(zlib.crc32(body)) != checksum:
            raise ReplayError("a replayed task is damaged and is left out; nothing else is lost")
        magic, version, epochs, name_bytes, taken_epoch, taken, task_id, at_s, digest, *numbers = _HEADER.unpack_from(
            body
        )
        if magic != _MAGIC or version not in _READ_VERSIONS:
            raise ReplayError(f"a replayed task is of version {version}, this build reads {_VERSION}; it is left out")
        layout = _arrays(epochs)
        sizes = [np.dtype(kind).itemsize * int(np.prod(shape)) for _, kind, shape in layout]
        met_at = _HEADER.size + name_bytes + sum(sizes)
        is_whole = len(body) == met_at or (version > 1 and len(body) > met_at)
        if not (1 <= epochs <= _MOST_EPOCHS and taken_epoch < epochs and taken in tuple(Decision) and is_whole):
            raise ReplayError("a replayed task does not fit its own header and is left out; nothing else is lost")
        at = _HEADER.size + name_bytes
        arrays: dict[str, Any] = {}
        for (field, kind, shape), size in zip(layout, sizes, strict=True):
            arrays[field] = np.frombuffer(body, dtype=kind, count=int(np.prod(shape)), offset=at).reshape(shape)
            at += size
        return cls(
            device_id=body[_HEADER.size : _HEADER.size + name_bytes].decode("utf-8", "replace"),
            task_id=task_id,
            at_s=at_s,
            model_digest=digest.hex(),
            taken_epoch=taken_epoch,
            taken=Decision(taken),
            **dict(zip(_NUMBERS, numbers, strict=True)),
            **arrays,
            conditions=Conditions.from_bytes(body[met_at:]) if len(body) > met_at else None,
        )


_NUMBERS = (
    "alpha_s",
    "beta_s_per_joule",
    "task_rate_per_s",
    "busy_share",
    "waiting_factor",
    "waited_s",
    "finish_s",
    "compute_watts",
)


def _arrays(epochs: int) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """Name, element type and shape of every array, in the order of their bytes."""
    return (
        ("evidence", "<i2", (epochs,)),
        ("seen", "|b1", (epochs,)),
        *((name, "<f4", (epochs,)) for name in ("reached_s", "queue", "backlog_s", "uplink_busy_s")),
        ("arrived_work_s", "<f4", (epochs, 3)),
        *((name, "<f4", (epochs,)) for name in ("exit_s", "base_tensor", "base_input", "base_going_on")),
        *((name, "<f4", (epochs - 1,)) for name in ("step_cost_s", "caused_s")),
        *(
            (name, "<f4", (epochs, 2))
            for name in ("offload_s", "latency_s", "edge_wait_s", "accuracy", "transmit_joules")
        ),
    )
