"""What an exit's confidence says about being right: bins, calibrated probabilities, priors and transitions.

Made on a split of its own, apart from the frames that accuracy is measured on (design section 5, *Evidence*).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinsplit.errors import FrameError
from twinsplit.model.frames import LabelledFrames
from twinsplit.model.measurement import Progress
from twinsplit.model.preprocessing import prepare
from twinsplit.model.runtime import SegmentRuntime, Session, softmax

DEFAULT_BINS = 8
_PSEUDO_COUNT = 2.0
"""Weight of the overall rate in each bin's, in samples (Laplace's rule, towards the mean instead of one half)."""


@dataclass(frozen=True, slots=True)
class Observations:
    """What exits and whole network said about N samples, for E exits."""

    confidences: NDArray[np.float64]
    """(N, E) largest softmax output."""
    is_exit_right: NDArray[np.bool_]
    """(N, E)"""
    is_whole_right: NDArray[np.bool_]
    """(N,)"""
    is_exit_agreeing: NDArray[np.bool_]
    """(N, E) whether the exit says what the whole network says, right or wrong."""


@dataclass(frozen=True, slots=True)
class ExitCalibration:
    """The calibrated part of an exit in the manifest; see :class:`twinsplit.model.manifest.Exit`."""

    bin_edges: tuple[float, ...]
    p_right: tuple[float, ...]
    p_whole_right: tuple[float, ...]
    prior: tuple[float, ...]
    transitions: dict[int, tuple[tuple[float, ...], ...]]


def observe(
    runtime: SegmentRuntime,
    exits: Sequence[tuple[int, Session]],
    frames: LabelledFrames,
    *,
    what: str,
    progress: Progress | None = None,
) -> Observations:
    """Run the network and its exits over ``frames``; without labels *right* means the whole network's answer.

    Args:
        runtime: all segments.
        exits: (cut it stands at, session), in ascending order.
        frames: frames of any size; those that cannot be read are left out.
        what: name of this work for ``progress``.
        progress: told after every frame.

    Raises:
        FrameError: not one of the frames can be read.
        ComputeError: ONNX Runtime fails.
    """
    manifest = runtime.manifest
    confidences: list[list[float]] = []
    exits_right: list[list[bool]] = []
    exits_agreeing: list[list[bool]] = []
    wholes_right: list[bool] = []
    for number, (_, frame, label) in enumerate(frames, start=1):
        try:
            tensor = prepare(frame, manifest).tensor
        except FrameError:
            continue
        answers: list[tuple[int, float]] = []
        for cut in range(manifest.segment_count + 1):
            for place, session in exits:
                if place == cut:
                    probabilities = softmax(session.run(tensor))
                    answers.append((int(probabilities.argmax()), float(probabilities.max())))
            if cut < manifest.segment_count:
                tensor = runtime.run_segment(cut, tensor)
        whole = int(tensor.reshape(-1).argmax())
        truth = whole if label is None else label
        confidences.append([confidence for _, confidence in answers])
        exits_right.append([index == truth for index, _ in answers])
        exits_agreeing.append([index == whole for index, _ in answers])
        wholes_right.append(whole == truth)
        if progress is not None:
            progress(what, number, len(frames))
    if not confidences:
        raise FrameError(f"none of {len(frames)} frames can be read for {what}")
    return Observations(
        np.asarray(confidences), np.asarray(exits_right), np.asarray(wholes_right), np.asarray(exits_agreeing)
    )


def calibrate(observations: Observations, bins: int = DEFAULT_BINS) -> list[ExitCalibration]:
    """Calibrate every exit in ``bins`` quantile bins of its confidence.

    Probabilities of being right are pulled towards the overall rate by two samples' weight and then made to rise with
    confidence (pool adjacent violators); priors and transition rows are smoothed likewise, so none is 0.
    """
    exit_count = observations.confidences.shape[1]
    edges = [quantile_edges(observations.confidences[:, e], bins) for e in range(exit_count)]
    places = [np.searchsorted(edges[e], observations.confidences[:, e], side="right") for e in range(exit_count)]
    priors = [_smoothed_distribution(np.bincount(places[e], minlength=bins)) for e in range(exit_count)]
    calibrations = []
    for e in range(exit_count):
        transitions = {}
        for later in range(e + 1, exit_count):
            counts = np.zeros((bins, bins))
            np.add.at(counts, (places[e], places[later]), 1.0)
            rows = (counts + _PSEUDO_COUNT * priors[later]) / (counts.sum(axis=1, keepdims=True) + _PSEUDO_COUNT)
            transitions[later] = tuple(_rounded(row) for row in rows)
        calibrations.append(
            ExitCalibration(
                bin_edges=_rounded(edges[e]),
                p_right=_rounded(rates_by_bin(places[e], observations.is_exit_right[:, e], bins)),
                p_whole_right=_rounded(rates_by_bin(places[e], observations.is_whole_right, bins)),
                prior=_rounded(priors[e]),
                transitions=transitions,
            )
        )
    return calibrations


def quantile_edges(confidences: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Inner edges (bins - 1,), ascending, that put as many samples into each bin as ties allow."""
    edges: NDArray[np.float64] = np.quantile(confidences, np.arange(1, bins) / bins)
    return np.round(edges, 6)


def rates_by_bin(places: NDArray[np.integer], is_right: NDArray[np.bool_], bins: int) -> NDArray[np.float64]:
    """P(right | bin) (bins,), smoothed and never falling from one bin to the next."""
    counts = np.bincount(places, minlength=bins).astype(np.float64)
    hits = np.bincount(places, weights=is_right.astype(np.float64), minlength=bins)
    rates = (hits + _PSEUDO_COUNT * is_right.mean()) / (counts + _PSEUDO_COUNT)
    return _rising(rates, counts + _PSEUDO_COUNT)


def _rising(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Closest sequence that never falls, by weighted squares: neighbours that do fall are pooled."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        pools.append((float(value), float(weight), 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (v1, w1, n1), (v2, w2, n2) = pools[-2:]
            pools[-2:] = [((v1 * w1 + v2 * w2) / (w1 + w2), w1 + w2, n1 + n2)]
    return np.concatenate([np.full(n, value) for value, _, n in pools])


def _smoothed_distribution(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    smoothed = counts + _PSEUDO_COUNT / len(counts)
    return np.asarray(smoothed / smoothed.sum())


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(min(1.0, max(0.0, round(float(v), 6))) for v in values)
