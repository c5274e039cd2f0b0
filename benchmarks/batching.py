"""Throughput of an edge with 64 busy streams: tails in batches against tails one by one.

The edge is a process of its own. Every stream sends the next payload when its answer is in, so that the edge always has
work waiting; all send the same cut. Both ways are run several times in random order. Answers are compared with those of
the same segments run one at a time.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
from numpy.typing import NDArray

from benchmarks.networks import light_network, whole_network
from edge.models import first_batched_cut
from twinsplit.errors import TwinsplitError
from twinsplit.model.build import CutSettings, build_model
from twinsplit.model.check import relative_difference
from twinsplit.model.payload import encode_payload
from twinsplit.model.profile import made_up_input
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.tensor import EncodedTensor, decode
from twinsplit.transport.channel import open_channel
from twinsplit.transport.limits import tensor_message_bytes
from twinsplit.transport.tail_stream import InferRequest, InferResponse, infer_call

STREAMS = 64
MOST = 16
_CHANNELS = 8
_STRENGTHS = (1.0, 0.7, 0.4)
"""Payloads differ from stream to stream, so that an answer given to another one is seen."""
_WARM_UP_SHARE = 0.5
"""Part of the time before counting begins, added to it: batch sizes are learnt in it."""


Payload = tuple[EncodedTensor, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Subject:
    """One network, split so that its segments take batches."""

    name: str
    folder: Path
    cuts: tuple[int, ...]


def subjects(shipped: Path, folder: Path, seed: int) -> list[Subject]:
    """The shipped network, and AlexNet with its large fully connected layers.

    Raises:
        ModelError: the shipped model folder cannot be used.
    """
    found = []
    for name, whole in (
        (shipped.parent.name, whole_network(shipped, folder)),
        ("alexnet-224", light_network("bvlc_alexnet", folder, seed)),
    ):
        cutting = CutSettings(is_batch=True)
        manifest = build_model(whole, folder / "models" / name, name=name, cutting=cutting).manifest
        last = manifest.segment_count - 1
        found.append(Subject(name, folder / "models" / name, tuple(sorted({0, last // 2, last}))))
    return found


def measure(
    shipped: Path,
    *,
    rounds: int = 3,
    seconds: float = 5.0,
    seed: int = 1,
    progress: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """One row per network and cut: answers per second without and with batches, and how far answers differ.

    ``seconds``: of each of the ``rounds`` of both ways.

    Raises:
        ModelError: the shipped model folder cannot be used.
    """
    rows = []
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        for subject in subjects(shipped, Path(temporary), seed):
            runtime = SegmentRuntime.load(subject.folder, threads=1, with_exits=False)
            first = first_batched_cut(runtime)
            for cut in subject.cuts:
                progress(f"{subject.name}, cut {cut}")
                payloads = [_payload(runtime, cut, strength) for strength in _STRENGTHS]
                row: dict[str, Any] = {"network": subject.name, "cut": cut, "bytes": payloads[0][0].wire_bytes}
                row["is_batched"] = first is not None and cut >= first
                row |= _both(subject.folder, runtime, cut, payloads, rounds, seconds, draw)
                rows.append(row)
    return {"streams": STREAMS, "batch_most": MOST, "rounds": rounds, "seconds": seconds, "rows": rows}


def lines(found: dict[str, Any]) -> list[str]:
    """A table for people."""
    return [
        f"{'network':<18} {'cut':>3} {'alone /s':>9} {'batched /s':>10} {'ratio':>6} "
        f"{'of rounds':>14}  largest difference",
        *(
            f"{row['network']:<18} {row['cut']:>3} {row['alone_per_s']:>9.0f} {row['batched_per_s']:>10.0f} "
            f"{row['ratio']:>6.2f} {_range(row['ratios']):>14}  {row['batched_difference']:.1e}"
            f"{'' if row['is_batched'] else '  (take one)'}"
            for row in found["rows"]
        ),
    ]


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def _both(
    folder: Path,
    runtime: SegmentRuntime,
    cut: int,
    payloads: Sequence[Payload],
    rounds: int,
    seconds: float,
    draw: random.Random,
) -> dict[str, Any]:
    """Medians of both ways, the median of the ratios within a round, and these ratios."""
    ways = {"alone": 1, "batched": MOST}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    differences: dict[str, float] = dict.fromkeys(ways, 0.0)
    for _ in range(rounds):
        for way in draw.sample(list(ways), len(ways)):
            with _running_edge(folder, ways[way]) as address:
                per_s, difference = asyncio.run(_load(address, runtime, cut, payloads, seconds))
            rates[way].append(per_s)
            differences[way] = max(differences[way], difference)
    ratios = [batched / alone for batched, alone in zip(rates["batched"], rates["alone"], strict=True)]
    return {
        **{f"{way}_per_s": statistics.median(found) for way, found in rates.items()},
        **{f"{way}_difference": found for way, found in differences.items()},
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def _payload(runtime: SegmentRuntime, cut: int, strength: float) -> Payload:
    """A payload after ``cut``, of an input of some strength, and the network's output for it."""
    manifest = runtime.manifest
    tensor = made_up_input(manifest).tensor * np.float32(strength)
    for index in range(cut):
        tensor = runtime.run_segment(index, tensor)
    plain = next(i for i, r in enumerate(manifest.cuts[cut].representations) if r.kind == "float32")
    expected = runtime.run_tail(cut, tensor)
    assert expected is not None, "nobody has cancelled it"
    return encode_payload(manifest, cut, plain, tensor, None), expected


@contextmanager
def _running_edge(model: Path, most: int) -> Iterator[str]:
    places = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--log-format", "json"]
    command = [sys.executable, "-m", "edge", "--models", str(model), "--batch-most", str(most), *places]
    command += ["--queue-capacity", str(2 * STREAMS)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("{") and (found := json.loads(line))["event"] == "edge-serving":
                    yield str(found["address"])
                    break
            else:
                raise TwinsplitError("the edge did not start")
        finally:
            process.kill()
            process.communicate()


async def _load(
    address: str,
    runtime: SegmentRuntime,
    cut: int,
    payloads: Sequence[Payload],
    seconds: float,
) -> tuple[float, float]:
    """Answers per second, and the largest difference of an answer."""
    limit = 2 * tensor_message_bytes([runtime.manifest])
    count_from_s = time.monotonic() + _WARM_UP_SHARE * seconds
    end_s = count_from_s + seconds
    counted, largest = 0, 0.0

    async def stream(channel: grpc.aio.Channel, payload: EncodedTensor, expected: NDArray[Any]) -> None:
        nonlocal counted, largest
        call = infer_call(channel)
        request_id = 0
        while time.monotonic() < end_s:
            request_id += 1
            await call.write(InferRequest(request_id, runtime.digest, cut, 0.0, tensor=payload))
            response = await call.read()
            if not isinstance(response, InferResponse) or response.tensor is None:
                raise TwinsplitError(f"the edge gives no answer: {getattr(response, 'error', None)}")
            output = decode(response.tensor.header, response.tensor.data, expected.size)
            largest = max(largest, float(relative_difference(output, expected)))
            counted += count_from_s <= time.monotonic() < end_s
        call.cancel()

    channels = [open_channel(address, None, max_message_bytes=limit) for _ in range(_CHANNELS)]
    try:
        await asyncio.gather(*(stream(channels[k % _CHANNELS], *payloads[k % len(payloads)]) for k in range(STREAMS)))
    finally:
        await asyncio.gather(*(channel.close(None) for channel in channels))
    return counted / seconds, largest
