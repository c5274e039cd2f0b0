"""What a hop costs: tails by an edge that runs them itself, beside edges that hand them to engines on the same machine.

All edges are processes of their own and get the same payloads over the same stream, in turns whose order is drawn anew
each time. Engines: another edge of ours, Triton and MLServer (``make engines``). Then each edge gets tails at random
instants, and what it foretold on arrival of every tail is compared with the wait that the tail met.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.engines.mlserver import running_mlserver
from benchmarks.engines.triton import running_triton, tails_repository
from benchmarks.samples import described, ms
from edge.load import LoadGenerator
from edge.load_pattern import LoadShape, Pattern
from edge.load_payloads import load_tails
from twinsplit.errors import TwinsplitError
from twinsplit.model.check import relative_difference
from twinsplit.model.export.tails import export_tails
from twinsplit.model.payload import encode_payload
from twinsplit.model.profile import made_up_input
from twinsplit.model.runtime import SegmentRuntime
from twinsplit.tensor import EncodedTensor, decode
from twinsplit.transport.channel import open_channel
from twinsplit.transport.limits import tensor_message_bytes
from twinsplit.transport.tail_stream import InferRequest, InferResponse, infer_call

TURN_CALLS = 12
TURN_WARM_UP = 2
"""Calls of a turn that bring the processes back into the caches and are not counted."""
LOAD = 0.7
"""Of what one worker of the engine does."""
LOOK_S = 0.5
SLOWDOWN = "30"
TOLERANCE = 1e-4
_ERROR_METRIC = "twinsplit_engine_backlog_error_seconds"


@dataclass(frozen=True, slots=True)
class EdgeProcess:
    """An edge and where its metrics are."""

    address: str
    http_address: str


def measure(
    model: Path, *, rounds: int = 200, load_s: float = 15.0, seed: int = 1, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Times of every way and cut, ratios to ``local``, and the error of every way's backlog.

    Raises:
        PeerError: the servers are not installed, or do not start.
    """
    runtime = SegmentRuntime.load(model, threads=1, with_exits=False)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        progress("starting another edge, Triton and MLServer")
        export_tails(model, folder / "tails", weights="inside")
        repository = tails_repository(model, folder / "repository")
        other = stack.enter_context(_running_edge(model)).address
        triton = stack.enter_context(running_triton(repository, folder / "triton"))
        mlserver = stack.enter_context(running_mlserver(folder / "tails", folder / "mlserver"))
        engines = {"local": [], "edge": ["--engine", f"oip://{other}"], "mlserver": [], "triton": []}
        engines["mlserver"] = ["--engine", f"oip://{mlserver.address}"]
        engines["triton"] = ["--engine", f"oip://{triton.address}", "--engine-metrics", str(triton.metrics_url)]
        edges = {name: stack.enter_context(_running_edge(model, *given)) for name, given in engines.items()}
        rows = asyncio.run(_rows(runtime, edges, rounds, seed, progress))
        # Engines that mostly sleep: their queues are not disturbed by whatever else this machine does.
        slow = [stack.enter_context(_running_edge(model, "--emulate-slowdown", SLOWDOWN)).address for _ in range(2)]
        for name, addresses in (("slow edge", slow[:1]), ("two slow", slow)):
            given = ["--engine", f"oip://{','.join(addresses)}"]
            edges[name] = stack.enter_context(_running_edge(model, *given))
        backlog = {}
        for name, edge in edges.items():
            progress(f"backlog of {name}")
            backlog[name] = asyncio.run(_under_load(model, edge, load_s, seed))
    return {"rounds": rounds, "load": LOAD, "load_s": load_s, "rows": rows, "backlog": backlog}


def lines(found: dict[str, Any]) -> list[str]:
    """Tables for people."""
    out = [f"{'cut':>3} {'bytes':>8}  {'engine':<9} {'median ms':>10} {'p95 ms':>8}  ratio to local (p95)"]
    for row in found["rows"]:
        for name, way in row["ways"].items():
            cells = f"{ms(way['median_s']):>10} {ms(way['p95_s']):>8}  {way['ratio']:.2f} ({way['p95_ratio']:.2f})"
            out.append(f"{row['cut']:>3} {row['bytes']:>8}  {name:<9} {cells}")
    out.append(f"{'engine':<9} {'tails':>6} {'mean wait ms':>13} {'error of the wait foretold ms':>30}")
    for name, way in found["backlog"].items():
        error = "" if way["error_s"] is None else ms(way["error_s"])
        out.append(f"{name:<9} {way['answered']:>6} {ms(way['mean_wait_s']):>13} {error:>30}")
    return out


async def _rows(
    runtime: SegmentRuntime,
    edges: dict[str, EdgeProcess],
    rounds: int,
    seed: int,
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    count = runtime.manifest.segment_count
    tensor = made_up_input(runtime.manifest).tensor
    rows = []
    for cut in range(count):
        progress(f"cut {cut}")
        payload, expected = _payload(runtime, cut, tensor)
        times: dict[str, list[float]] = {name: [] for name in edges}
        while min(map(len, times.values())) < rounds:
            for name in rng.sample(sorted(edges), len(edges)):
                times[name] += await _turn(edges[name].address, runtime, cut, payload, expected)
        ways = {name: described(found) for name, found in times.items()}
        local = ways["local"]
        for way in ways.values():
            way["ratio"] = way["median_s"] / local["median_s"]
            way["p95_ratio"] = way["p95_s"] / local["p95_s"]
        rows.append({"cut": cut, "bytes": payload.wire_bytes, "ways": ways})
        tensor = runtime.run_segment(cut, tensor)
    return rows


def _payload(runtime: SegmentRuntime, cut: int, tensor: NDArray[Any]) -> tuple[EncodedTensor, NDArray[Any]]:
    kinds = runtime.manifest.cuts[cut].representations
    plain = next(i for i, each in enumerate(kinds) if (each.kind, each.codec) == ("float32", "none"))
    expected = runtime.run_tail(cut, tensor)
    assert expected is not None, "nobody has cancelled it"
    return encode_payload(runtime.manifest, cut, plain, tensor, None), expected


async def _turn(
    address: str, runtime: SegmentRuntime, cut: int, payload: EncodedTensor, expected: NDArray[Any]
) -> list[float]:
    """Times of some calls one after the other, seconds."""
    now_s = asyncio.get_running_loop().time
    limit = 2 * tensor_message_bytes([runtime.manifest])
    times = []
    async with open_channel(address, None, max_message_bytes=limit) as channel:
        call = infer_call(channel)
        for number in range(1, TURN_CALLS + 1):
            began_s = now_s()
            await call.write(InferRequest(number, runtime.digest, cut, tensor=payload))
            response = await call.read()
            times.append(now_s() - began_s)
            if not isinstance(response, InferResponse) or response.tensor is None:
                raise TwinsplitError(f"the edge gives no answer: {getattr(response, 'error', None)}")
            output = decode(response.tensor.header, response.tensor.data, expected.size)
            if relative_difference(output, expected) > TOLERANCE:
                raise TwinsplitError(f"the edge at {address} gives another answer")
        await call.done_writing()
    return times[TURN_WARM_UP:]


async def _under_load(model: Path, edge: EdgeProcess, seconds: float, seed: int) -> dict[str, Any]:
    """Random arrivals at one edge: the wait that tails met there, and how far off the wait foretold was."""
    tails = load_tails(model, cut=1, representation="float32", frames=None, seed=seed, budget_s=None)
    shape = LoadShape(Pattern("poisson"), LOAD, 1.0, 1.8, (), 1.0)
    async with open_channel(edge.address, None, max_message_bytes=16 << 20) as channel:
        generator = LoadGenerator(channel, edge.address, tails, shape, seed)
        load = asyncio.ensure_future(generator.run(seconds))
        errors_s = []
        while not load.done():
            await asyncio.wait([load], timeout=LOOK_S)
            error_s = await asyncio.to_thread(_error_s, edge.http_address)
            errors_s += [] if error_s is None else [error_s]
        await load
        summary = generator.summary
    return {
        "answered": summary.answered,
        "mean_wait_s": summary.mean_queue_wait_s,
        "mean_service_s": summary.mean_service_s,
        "error_s": sum(errors_s) / len(errors_s) if errors_s else None,
    }


def _error_s(http_address: str) -> float | None:
    """Mean error of the waits that the edge foretold lately; ``None``: it runs its tails itself."""
    with urllib.request.urlopen(f"http://{http_address}/metrics") as answer:  # nosec B310 # always http
        families = text_string_to_metric_families(answer.read().decode())
    found = [each.value for family in families for each in family.samples if each.name == _ERROR_METRIC]
    return float(found[0]) if found else None


@contextmanager
def _running_edge(model: Path, *given: str) -> Iterator[EdgeProcess]:
    places = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--log-format", "json"]
    command = [sys.executable, "-m", "edge", "--models", str(model), *places, *given]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said: list[str] = []
            for line in process.stderr:
                said.append(line)
                if line.startswith("{") and (found := json.loads(line))["event"] == "edge-serving":
                    yield EdgeProcess(str(found["address"]), str(found["http_address"]))
                    break
            else:
                raise TwinsplitError(f"the edge did not start: {''.join(said[-3:])}")
        finally:
            process.kill()
            process.communicate()
