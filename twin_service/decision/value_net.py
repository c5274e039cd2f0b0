"""The net of the two learned corrections, as it is served: numpy only (design section 5).

A small multilayer perceptron with rectified hidden layers. Its last layer starts at zero, so that an untrained net
corrects nothing. Torch trains it elsewhere; neither serving nor reading it needs torch, and reading executes nothing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.features import FEATURE_NAMES
from twinsplit.errors import WeightsError

HEADS = 2
CONTINUING, OFFLOADING = 0, 1
"""Columns of the output: g_C on the value of going on, g_P on what offloading brings, seconds."""
HIDDEN = (32, 32)

_MAGIC = b"TSVN"
_VERSION = 2
"""Nets of version 1 were taught what plans do not know, and lost by it: they may not serve."""
_HEADER = struct.Struct("<4sHHI")  # magic, version, number of layers, checksum of the features' names
_SIZES = struct.Struct("<HH")  # inputs, outputs of a layer
_CHECKSUM = struct.Struct("<I")
_MAX_LAYERS = 8
_ROWS_AT_ONCE = 512
"""Larger products are spread over threads, which wait for one another on a busy machine many times longer."""

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weights (inputs, outputs) and offsets (outputs,)."""


@dataclass(frozen=True, slots=True, eq=False)
class ValueNet:
    """Weights of one version. Immutable: a new version is a new object."""

    layers: tuple[Layer, ...]

    @property
    def feature_count(self) -> int:
        """Inputs."""
        return len(self.layers[0][0])

    @classmethod
    def zero(cls, seed: int = 0) -> ValueNet:
        """An untrained net: hidden layers drawn by ``seed``, corrections all zero."""
        rng = np.random.default_rng(seed)
        sizes = (len(FEATURE_NAMES), *HIDDEN)
        layers = [
            (
                (rng.standard_normal((before, after)) * np.sqrt(2.0 / before)).astype(np.float32),
                np.zeros(after, np.float32),
            )
            for before, after in pairwise(sizes)
        ]
        return cls((*layers, (np.zeros((sizes[-1], HEADS), np.float32), np.zeros(HEADS, np.float32))))

    def blind_to(self, names: Collection[str]) -> ValueNet:
        """The same net, to which these features change nothing; they stay among its inputs."""
        (weights, offsets), *others = self.layers
        is_seen = ~np.isin(FEATURE_NAMES, tuple(names))
        return ValueNet(((weights * is_seen[:, None], offsets), *others))

    def correct(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Corrections g_C and g_P of rows (N, feature_count), seconds.  # (N, 2)"""
        if len(features) > _ROWS_AT_ONCE:
            parts = range(0, len(features), _ROWS_AT_ONCE)
            return np.concatenate([self._forward(features[at : at + _ROWS_AT_ONCE]) for at in parts])
        return self._forward(features)

    def _forward(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        *hidden, (weights, offsets) = self.layers
        values = features
        for hidden_weights, hidden_offsets in hidden:
            values = values @ hidden_weights
            values += hidden_offsets
            np.maximum(values, 0.0, out=values)
        found: NDArray[np.float32] = values @ weights
        found += offsets
        return found

    def correct_point(self, features: NDArray[np.float32]) -> tuple[float, float]:
        """The same for one row (feature_count,)."""
        going_on, offloading = self._forward(features).tolist()
        return going_on, offloading

    def to_bytes(self) -> bytes:
        """Header, sizes, raw little-endian float32, checksum."""
        parts = [_HEADER.pack(_MAGIC, _VERSION, len(self.layers), _FEATURES)]
        parts += [_SIZES.pack(*weights.shape) for weights, _ in self.layers]
        parts += [np.ascontiguousarray(array, "<f4").tobytes() for layer in self.layers for array in layer]
        body = b"".join(parts)
        return body + _CHECKSUM.pack(zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> ValueNet:
        """The net that :meth:`to_bytes` wrote.

        Raises:
            WeightsError: damaged, of another version or of other features, or with numbers that are none.
        """
        body, checksum = data[: -_CHECKSUM.size], data[-_CHECKSUM.size :]
        if len(body) < _HEADER.size or _CHECKSUM.pack(zlib.crc32(body)) != checksum:
            raise WeightsError("learned weights are damaged; they are not used, and what is learnt anew replaces them")
        magic, version, count, features = _HEADER.unpack_from(body)
        if (magic, version, features) != (_MAGIC, _VERSION, _FEATURES):
            raise WeightsError(
                "learned weights were made by another version of twinsplit; they are not used, and what is learnt anew "
                "replaces them"
            )
        at = _HEADER.size
        sizes = []
        if 1 <= count <= _MAX_LAYERS and len(body) >= at + count * _SIZES.size:
            sizes = [_SIZES.unpack_from(body, at + index * _SIZES.size) for index in range(count)]
            at += count * _SIZES.size
        ends = [len(FEATURE_NAMES), *(outputs for _, outputs in sizes)]
        fits = bool(sizes) and ends[:-1] == [inputs for inputs, _ in sizes] and ends[-1] == HEADS and min(ends) > 0
        if not fits or len(body) != at + 4 * sum((inputs + 1) * outputs for inputs, outputs in sizes):
            raise WeightsError("learned weights do not fit their own header; they are not used")
        layers = []
        for inputs, outputs in sizes:
            weights = np.frombuffer(body, "<f4", inputs * outputs, at).reshape(inputs, outputs).astype(np.float32)
            at += weights.nbytes
            offsets = np.frombuffer(body, "<f4", outputs, at).astype(np.float32)
            at += offsets.nbytes
            layers.append((weights, offsets))
        net = cls(tuple(layers))
        if not net.is_finite:
            raise WeightsError("learned weights hold numbers that are none (NaN or infinite); they are not used")
        return net

    @property
    def is_finite(self) -> bool:
        """Whether every weight is a number."""
        return all(bool(np.isfinite(array).all()) for layer in self.layers for array in layer)


_FEATURES = zlib.crc32(",".join(FEATURE_NAMES).encode())
