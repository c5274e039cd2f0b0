"""Other users of the edge as a process of their own: ``python -m benchmarks.testbed.load`` (started by the testbed).

The product's load generator (``twinsplit edge load``) with given arrivals and a start at a given instant, so that
every rule meets the same load at the same time. Prints ``ready`` when it can start, then waits on standard input for
the instant on the monotonic clock; ends at SIGTERM or when its input closes, and prints its summary as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from edge.load import LoadGenerator, LoadSummary
from edge.load_pattern import LoadShape, Pattern, read_trace
from edge.load_payloads import load_tails
from twinsplit.telemetry.logs import configure_logging
from twinsplit.transport.channel import await_reachable, open_channel

READY = "ready"
REACH_TIMEOUT_S = 60.0


def arguments(address: str, model: Path, trace: Path, seed: int, service_s: float, seconds: float) -> list[str]:
    """Command line of this module.

    Args:
        trace: arrivals, an offset in seconds on each line.
        seed: of what is asked.
        service_s: of one inference at the edge.
    """
    order = {
        "address": address,
        "model": str(model),
        "trace": str(trace),
        "seed": seed,
        "service_s": service_s,
        "seconds": seconds,
    }
    return ["-m", "benchmarks.testbed.load", json.dumps(order)]


async def _main(order: dict[str, Any]) -> LoadSummary:
    address, seed = str(order["address"]), int(order["seed"])
    shape = LoadShape(Pattern.TRACE, trace_s=read_trace(Path(order["trace"])))
    tails = load_tails(Path(order["model"]), seed=seed)
    async with open_channel(address, max_message_bytes=tails.max_message_bytes) as channel:
        await await_reachable(channel, address, timeout_s=REACH_TIMEOUT_S)
        generator = LoadGenerator(channel, address, tails, shape, seed, service_s=order["service_s"])
        print(READY, flush=True)
        line = await asyncio.to_thread(sys.stdin.readline)
        if line.strip():
            await asyncio.sleep(max(0.0, float(line) - time.monotonic()))
            run = asyncio.ensure_future(generator.run(order["seconds"]))
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, run.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await run
        return generator.summary


if __name__ == "__main__":
    configure_logging("warning")
    print(json.dumps(asyncio.run(_main(json.loads(sys.argv[1]))).as_dict()), flush=True)
