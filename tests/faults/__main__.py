"""``make faults``: the whole matrix with real processes, its figures as JSON, and `N passed, M failed` at the end.

python -m tests.faults [--json benchmarks/results/faults.json] [--only WORD ...] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.provenance import provenance
from benchmarks.testbed.stopping import Stopping
from device.breaker import BreakerSettings
from tests.faults.catalogue import cells
from tests.faults.cell_run import FAULT_S, RECOVERY_S, TOLERANCE_S, WAITING_BOUND_S, CellResult
from tests.faults.matrix import Matrix
from tests.faults.stage import ANSWER_TIMEOUT_S, RULE, SEGMENT_S
from twinsplit.transport.limits import RECONNECT_FIRST_S, RECONNECT_LAST_S


def settings_document() -> dict[str, Any]:
    """Under what settings the figures hold."""
    breaker = BreakerSettings()
    return {
        "rule": RULE,
        "segment_s": SEGMENT_S,
        "answer_timeout_s": ANSWER_TIMEOUT_S,
        "fault_s": FAULT_S,
        "tolerance_s": TOLERANCE_S,
        "waiting_bound_s": WAITING_BOUND_S,
        "recovery_bound_s": RECOVERY_S,
        "breaker": {
            "failures_to_open": breaker.failures_to_open,
            "open_s": breaker.open_s,
            "max_open_s": breaker.max_open_s,
        },
        "reconnect_first_s": RECONNECT_FIRST_S,
        "reconnect_last_s": RECONNECT_LAST_S,
    }


def line_of(number: int, count: int, result: CellResult) -> str:
    """How a cell ended, for people."""
    outcomes = ", ".join(f"{share} {name}" for name, share in sorted(result.outcomes.items()))
    name = f"{result.service} {result.fault} {result.moment}"
    found = f"waiting {result.waiting_s:.2f} s, recovery {result.recovery_s:.2f} s; {result.entered} tasks: {outcomes}"
    broken = f", {result.broken} broken off" if result.broken else ""
    verdict = "FAILED: " + "; ".join(result.problems) if result.problems else "passed"
    return f"{number:3}/{count} {name:38} {found}{broken}; {verdict}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where a cell failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--only", nargs="*", default=[], help="only cells whose name has all of these words")
    parser.add_argument("--keep", type=Path, help="keep logs and task records there")
    options = parser.parse_args(arguments)
    chosen = [cell for cell in cells() if all(word in cell.name.split() for word in options.only)]
    began_s, results = time.monotonic(), []
    stopping = Stopping()
    stopping.install()
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twinsplit-faults-")))
        matrix = Matrix(folder)
        stack.callback(matrix.close)
        print(f"{len(chosen)} cells, about {len(chosen) * 7 / 60:.0f} minutes", flush=True)
        for number, cell in enumerate(chosen, 1):
            results.append(matrix.run(cell))
            print(line_of(number, len(chosen), results[-1]), flush=True)
    stopping.remove()
    if options.json is not None:
        document = {
            "provenance": provenance(seeds=[]),
            "settings": settings_document(),
            "seconds": round(time.monotonic() - began_s, 1),
            "cells": [result.document() for result in results],
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    failed = sum(bool(result.problems) for result in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
