"""ModelInfer of the Open Inference Protocol: our edge beside our own stream, and beside other servers of the protocol.

One network per payload size, the same for all: the tail reads every element once and computes little, so that what is
measured is the way there and back. The edge is a process of its own, each way has a program of its own, and they take
turns in an order drawn anew each time, so that whatever disturbs the machine disturbs all of them alike:

- ``stream``: the edge's own stream, as devices use it;
- ``oip``: ModelInfer of the edge by an ordinary program: gRPC and protobuf as the libraries give them, blocking calls;
- ``oip-own``: the same calls by twinsplit's own messages, as one edge hands tails to another;
- ``bare``: the program of ``oip`` at a ``grpc.aio`` server that does nothing, which ``oip`` cannot be below;
- each other server by its name: as ``oip``, the very same program. The Triton that is started here runs tails by its
  Python backend.

``oip`` is judged against the faster one of the other servers.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.oip_networks import SENT, SIZES, expected, shape_of, write_models
from benchmarks.oip_program import TURN_CALLS, Task
from benchmarks.samples import described, ms
from twinsplit.errors import PeerError, SettingsError, TwinsplitError
from twinsplit.model.manifest import manifest_digest, read_manifest
from twinsplit.oip.names import tail_name
from twinsplit.transport.address import Address

OURS = ("stream", "oip", "oip-own")
BARE = "bare"
TURN_WARM_UP = 2
"""Calls of a turn that bring the processes back into the caches and are not counted."""
TOLERANCE = 1e-3
WARM_UP_TURNS = 3

Progress = Callable[[str], None]


def measure(
    rounds: int,
    *,
    seed: int = 1,
    against: Mapping[str, str] | None = None,
    with_engines: bool = False,
    sizes: Sequence[int] = SIZES,
    progress: Progress = lambda _text: None,
) -> dict[str, Any]:
    """One row per payload size: times of every way, and ratios.

    Args:
        rounds: calls of each way and size that are counted, at least.
        seed: of the order.
        against: other servers, name to HOST:PORT; they hold what :func:`export` writes.
        with_engines: start Triton and MLServer, too.
        sizes: of payloads, bytes.

    Raises:
        PeerError: a server is not installed, or does not answer.
    """
    draw = random.Random(seed)
    turns = WARM_UP_TURNS + math.ceil(rounds / (TURN_CALLS - TURN_WARM_UP))
    rows = []
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        progress("writing the networks")
        models = dict(zip(sizes, write_models(folder / "models", sizes), strict=True))
        others = dict(against or {})
        if with_engines:
            progress("starting Triton and MLServer")
            others |= running.enter_context(_engines(list(models.values()), folder))
        edge = running.enter_context(_running_edge(folder / "models"))
        addresses = {**dict.fromkeys(OURS, edge), BARE: running.enter_context(_running_bare()), **others}
        programs = {way: running.enter_context(_program(way, address)) for way, address in addresses.items()}
        for size in sizes:
            progress(f"{size} bytes")
            manifest, data = read_manifest(models[size])
            task = Task(tail_name(manifest.name, 1), SENT, shape_of(size), manifest_digest(data), 1)
            output = expected(task.tensor)
            taken: dict[str, list[list[float]]] = {way: [] for way in programs}
            for turn in range(turns):
                for way in draw.sample(sorted(programs), len(programs)):
                    found = _turn(programs[way], way, task, output)
                    if turn >= WARM_UP_TURNS:
                        taken[way].append(found)
            rows.append(_row(size, taken, tuple(others)))
    return {"rounds": rounds, "others": sorted(others), "rows": rows}


def export(folder: Path) -> None:
    """Write the networks' tails as ``NAME.from_cut_1/1/model.onnx``, for servers that are started by hand.

    Raises:
        StorageError: ``folder`` cannot be written.
    """
    from twinsplit.model.export.tails import export_tails

    with tempfile.TemporaryDirectory() as temporary:
        for model in write_models(Path(temporary)):
            export_tails(model, folder)


def named_addresses(texts: Sequence[str]) -> dict[str, str]:
    """Name to address of each ``NAME=HOST:PORT``.

    Raises:
        SettingsError: one is not of that form, or its name is taken.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, _, address = text.partition("=")
        if not name.isidentifier() or name in found or name in (*OURS, BARE):
            raise SettingsError(f"--against {text}: write NAME=HOST:PORT, each with a name of its own")
        found[name] = str(Address.parse(address))
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """A table for people."""
    ways = [*OURS, BARE, *found["others"]]
    out = [f"{'bytes':>9}  " + "  ".join(f"{way + ' ms (p95)':>18}" for way in ways)]
    for row in found["rows"]:
        cells = (f"{ms(row[way]['median_s'])} ({ms(row[way]['p95_s'])})" for way in ways)
        out.append(f"{row['bytes']:>9}  " + "  ".join(f"{cell:>18}" for cell in cells))
    out.append("")
    for row in found["rows"]:
        over = ", ".join(f"over {way}: {_ratio_text(row[f'oip_over_{way}'])}" for way in ("stream", BARE))
        out.append(f"{row['bytes']:>9}  oip {over}")
        against = row.get("oip_over_fastest")
        if against is not None:
            median = f"{_ratio_text(against['median'])} of {against['median_of']}"
            p95 = f"p95 {against['p95_ratio']:.2f} of {against['p95_of']}"
            out.append(
                f"{'':>9}  oip over the faster other: {median}, {p95}  {'met' if against['is_met'] else 'MISSED'}"
            )
    return out


def _row(size: int, taken: Mapping[str, Sequence[Sequence[float]]], others: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"bytes": size}
    for way, turns in taken.items():
        row[way] = described([second for turn in turns for second in turn])
    row["oip_over_stream"] = _ratio(taken["oip"], taken["stream"])
    row["oip_over_bare"] = _ratio(taken["oip"], taken[BARE])
    if others:
        median_of = min(others, key=lambda way: float(row[way]["median_s"]))
        p95_of = min(others, key=lambda way: float(row[way]["p95_s"]))
        median, p95_ratio = _ratio(taken["oip"], taken[median_of]), row["oip"]["p95_s"] / row[p95_of]["p95_s"]
        row["oip_over_fastest"] = {
            "median": median,
            "median_of": median_of,
            "p95_ratio": p95_ratio,
            "p95_of": p95_of,
            "is_met": bool(median["ratio"] <= 1.0 and p95_ratio <= 1.0),
        }
    return row


def _ratio(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Ratio of the medians, and quartiles of the ratios of turns that followed each other."""
    ratio = statistics.median(s for turn in ours for s in turn) / statistics.median(s for turn in theirs for s in turn)
    by_turn = [statistics.median(a) / statistics.median(b) for a, b in zip(ours, theirs, strict=True)]
    low, _, high = statistics.quantiles(by_turn, n=4) if len(by_turn) > 1 else (ratio,) * 3
    return {"ratio": ratio, "quartiles": [low, high]}


def _ratio_text(found: Mapping[str, Any]) -> str:
    low, high = found["quartiles"]
    return f"{found['ratio']:.2f} (turns {low:.2f} to {high:.2f})"


def _turn(program: subprocess.Popen[str], way: str, task: Task, output: NDArray[np.float32]) -> list[float]:
    """Times of one turn, seconds.

    Raises:
        PeerError: the program has ended, or the server answers something else.
    """
    pipe(program.stdin).write(json.dumps(task._asdict()) + "\n")
    pipe(program.stdin).flush()
    line = pipe(program.stdout).readline()
    if not line:
        raise PeerError(f"{way}: its program has ended; what it said stands above")
    found = json.loads(line)
    if way != BARE and not np.allclose(found["output"], output.reshape(-1), rtol=TOLERANCE, atol=TOLERANCE):
        raise PeerError(f"{way}: {task.model} gives another output than the network")
    times: list[float] = found["times_s"]
    return times[TURN_WARM_UP:]


def pipe(stream: IO[str] | None) -> IO[str]:
    """A stream that was asked for."""
    assert stream is not None
    return stream


@contextmanager
def _program(way: str, address: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.oip_program", way, address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def _running_bare() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.oip_bare"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield pipe(process.stdout).readline().strip()
        finally:
            process.kill()


@contextmanager
def _running_edge(models: Path) -> Iterator[str]:
    places = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--log-format", "json"]
    command = [sys.executable, "-m", "edge", "--models", str(models), *places]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in pipe(process.stderr):
                if line.startswith("{") and (found := json.loads(line))["event"] == "edge-serving":
                    yield str(found["address"])
                    break
            else:
                raise TwinsplitError("the edge did not start")
        finally:
            process.kill()
            process.communicate()


@contextmanager
def _engines(models: Sequence[Path], folder: Path) -> Iterator[dict[str, str]]:
    """Triton and MLServer with the tails of ``models``, name to address."""
    from benchmarks.engines.mlserver import running_mlserver
    from benchmarks.engines.triton import running_triton, tails_repository
    from twinsplit.model.export.tails import export_tails

    repository = folder / "triton"
    repository.mkdir()
    for model in models:
        export_tails(model, folder / "tails")
        for tail in sorted(tails_repository(model, folder / "one" / model.name).iterdir()):
            tail.rename(repository / tail.name)
    workspace = folder / "engines"
    workspace.mkdir()
    with running_triton(repository, workspace) as triton, running_mlserver(folder / "tails", workspace) as mlserver:
        yield {"triton": triton.address, "mlserver": mlserver.address}
