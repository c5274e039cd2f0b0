"""A model without ONNX Runtime and an executor that runs it in the submitting thread, on a clock of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.computing import LocalComputing
from edge.execution import TailExecutor
from edge.models import HeldModel
from edge.tail_queue import Tail, TailQueue
from edge.tail_work import TailResult, TailWork
from twinsplit.clock import ManualClock
from twinsplit.model.manifest import Manifest, manifest_digest, parse_manifest
from twinsplit.tensor import encode

WIDTH = 8


def make_manifest(segments: int = 3) -> tuple[Manifest, str]:
    tensor = {"shape": [1, WIDTH], "dtype": "float32"}
    entry = {"kind": "float32", "mean_bytes": 32, "encode_s": 0}
    document = {
        "schema_version": 1,
        "name": "chain",
        "version": 1,
        "task": "raw",
        "segments": [{"index": i, "file": f"s{i}.onnx", "sha256": "0" * 64, "macs": 1} for i in range(segments)],
        "cuts": [
            {"index": i, "tensor": tensor | {"name": f"t{i}"}, "representations": [entry]} for i in range(segments + 1)
        ],
    }
    data = json.dumps(document).encode()
    return parse_manifest(data), manifest_digest(data)


class Chain:
    """Every segment adds one to every element and takes ``segment_s`` of the clock."""

    def __init__(self, clock: ManualClock, segment_s: float = 0.01) -> None:
        self.clock = clock
        self.segment_s = segment_s
        self.ran: list[int] = []
        self.before_segment: Callable[[int], None] = lambda _: None

    def run_segment(self, index: int, tensor: NDArray[Any]) -> NDArray[Any]:
        self.before_segment(index)
        self.ran.append(index)
        self.clock.advance(self.segment_s)
        result: NDArray[Any] = tensor + np.float32(1.0)
        return result


class Bench:
    """An executor whose tails run in the submitting thread, so that no test waits."""

    def __init__(self, *, slowdown: float = 1.0, capacity: int = 4) -> None:
        self.clock = ManualClock()
        self.chain = Chain(self.clock)
        self.manifest, self.digest = make_manifest()
        self.model = HeldModel(self.manifest, self.digest, self.chain, (0.01,) * 3, (0.0,) * 3, slowdown)
        self.slept: list[float] = []
        self.queue: TailQueue[TailWork] = TailQueue(capacity, {self.digest: self.model.tail_s}, 0.0)
        self.computing = LocalComputing({self.digest: self.model}, self.clock, self.sleep)
        self.executor = TailExecutor(
            self.queue, {self.digest: self.model}, self.clock, computing=self.computing, inline_s=float("inf")
        )
        self.results: list[TailResult] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)

    def tail(self, *, cut: int = 0, budget_s: float | None = None, data: bytes | None = None) -> Tail[TailWork]:
        payload = encode(np.zeros((1, WIDTH), np.float32), "float32", "none")
        work = TailWork(payload.header, payload.data if data is None else data, self.deliver)
        now_s = self.clock.monotonic_s()
        return Tail(self.digest, cut, "stream", work, now_s, None if budget_s is None else now_s + budget_s)

    def deliver(self, _: Tail[TailWork], result: TailResult) -> None:
        self.results.append(result)

    def run(self, tail: Tail[TailWork]) -> TailResult:
        self.executor.submit(tail)
        return self.results[-1]
