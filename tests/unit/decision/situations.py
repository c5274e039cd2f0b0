"""Situations for tests of the decision theory: a made-up manifest and random numbers around it."""

from __future__ import annotations

import numpy as np

from twin_service.decision.situation import Situation, Weights
from twinsplit.model.manifest import Cut, Exit, Manifest, RepresentationEntry, Segment, TensorSpec

DIGEST = "0" * 64
BINS = 4


def manifest_of(
    segments: int = 5, exits: tuple[int, ...] = (1, 2), device_segments: int | None = None, seed: int = 0
) -> Manifest:
    rng = np.random.default_rng(seed)

    def distribution(count: int) -> tuple[float, ...]:
        return tuple(rng.dirichlet(np.ones(count)))

    cuts = []
    for k in range(segments + 1):
        sizes = rng.uniform(500, 8000, 2)
        entries = tuple(
            RepresentationEntry(
                kind=kind, codec="zstd", mean_bytes=size, encode_s=rng.uniform(0, 0.01), loss=rng.uniform(0, 0.004)
            )
            for kind, size in zip(("uint8", "uint4"), sizes, strict=True)
        )
        spec = TensorSpec(name=f"t{k}", shape=(1, 8), dtype="float32")
        cuts.append(Cut(index=k, tensor=spec, representations=entries))
    return Manifest(
        schema_version=1,
        name="made-up",
        version=1,
        task="classification",
        segments=tuple(Segment(index=i, file=f"s{i}.onnx", sha256=DIGEST, macs=1) for i in range(segments)),
        cuts=tuple(cuts),
        exits=tuple(
            Exit(
                index=i,
                after_segment=k,
                file=f"e{i}.onnx",
                sha256=DIGEST,
                macs=1,
                accuracy=0.7 + 0.1 * i,
                bin_edges=tuple(np.linspace(0.3, 0.9, BINS - 1)),
                p_right=tuple(np.sort(rng.uniform(0.3, 0.99, BINS))),
                p_whole_right=tuple(np.sort(rng.uniform(0.6, 0.99, BINS))),
                prior=distribution(BINS),
                transitions={j: tuple(distribution(BINS) for _ in range(BINS)) for j in range(i + 1, len(exits))},
            )
            for i, k in enumerate(exits)
        ),
        device_segments=device_segments,
        whole_accuracy=0.9,
        accuracy_basis="labels",
    )


def situation_of(manifest: Manifest, seed: int, *, tensors_only: bool = False, has_edge: bool = True) -> Situation:
    rng = np.random.default_rng(seed)
    m = manifest.segment_count
    tails = np.cumsum(rng.uniform(0.001, 0.02, m))[::-1]
    return Situation(
        manifest,
        Weights(
            alpha_s=rng.choice([0.5, 2.5]), beta_s_per_joule=rng.choice([0.0, 0.05, 0.3]), is_waiting_priced_up=True
        ),
        tuple(rng.uniform(0.005, 0.2, manifest.held_segments)),
        tuple(rng.uniform(0.0, 0.01, len(manifest.exits))),
        {},
        tuple(tails) if has_edge else None,
        goodput_bytes_per_s=10 ** rng.uniform(4, 6.5),
        overhead_s=rng.uniform(0.0, 0.05),
        task_rate_per_s=rng.uniform(0.1, 5.0),
        busy_share=rng.uniform(0.0, 1.0),
        uplink_busy_s=rng.choice([0.0, 0.05]),
        is_tensors_only=tensors_only,
        backlog_mean_s=rng.uniform(0.0, 0.4),
        backlog_time_constant_s=rng.uniform(0.1, 2.0),
    )
