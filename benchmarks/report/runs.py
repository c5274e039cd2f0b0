"""What is run for the report: every document of results with the command that writes it, in full and in small."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results import RESULTS_FOLDER
from twinsplit.errors import StorageError

ROOT = Path(__file__).resolve().parents[2]
_SCENARIOS = "benchmarks/scenarios"
_HEAVY_STEP = (
    f"sim regime {_SCENARIOS}/heavy-tailed.yaml --set step_at_s=1333 --set step_load_share=0.8 "
    "--set step_uplink_bytes_per_s=15000"
)

Documents = Mapping[str, Mapping[str, Any]]
"""By name; one that was never written is not there."""


@dataclass(frozen=True, slots=True)
class Run:
    """One document of results."""

    name: str
    """Its file is NAME.json."""
    full: str
    """Arguments of ``twinsplit``."""
    quick: str
    minutes: float
    """The full one takes on two cores, about."""

    def words(self, *, is_quick: bool, json_path: Path) -> list[str]:
        """Arguments of ``twinsplit`` that write ``json_path``."""
        return [*shlex.split(self.quick if is_quick else self.full), "--json", json_place(json_path)]

    def command(self, *, is_quick: bool, json_path: Path) -> str:
        """As it is typed, in the root of a checkout."""
        return shlex.join(["twinsplit", *self.words(is_quick=is_quick, json_path=json_path)])


RUNS = (
    Run("grid", "sim grid --seeds 5", "sim grid --quick --seeds 2", 60),
    Run("foresight", "sim foresight --seeds 5", "sim foresight --quick --seeds 2", 3),
    Run(
        "optimum",
        f"sim run {_SCENARIOS}/markov.yaml --rules one-time,one-time-threshold-best,load-only,open-loop,learned,"
        "clairvoyant,optimum --seeds 10",
        f"sim run {_SCENARIOS}/markov.yaml --rules one-time,open-loop,optimum --seeds 2 --set tasks=500",
        5,
    ),
    Run("learning-curve", "sim learning --seeds 5", "sim learning --quick --seeds 2", 15),
    Run("regime", "sim regime --seeds 5", "sim regime --quick --seeds 2", 10),
    # Cut from 8 seeds, for want of time.
    Run("regime-heavy-tailed", f"{_HEAVY_STEP} --seeds 3 --set tasks=4000", f"{_HEAVY_STEP} --quick --seeds 1", 15),
    Run(
        "regime-kind",
        f"sim regime {_SCENARIOS}/regime-kind.yaml --seeds 6",
        f"sim regime {_SCENARIOS}/regime-kind.yaml --quick --seeds 1",
        7,
    ),
    Run("pruning", "sim pruning --seeds 5", "sim pruning --quick --seeds 2", 15),
    # 1,500 tasks instead of the scenario's 4,000, for want of time.
    Run(
        "signalling",
        f"sim signalling {_SCENARIOS}/demo.yaml --seeds 5 --set tasks=1500 --set warm_up_tasks=100",
        f"sim signalling {_SCENARIOS}/demo.yaml --quick --seeds 2 --set tasks=400",
        10,
    ),
    # One seed each, for want of time.
    Run(
        "signalling-fleet",
        f"sim signalling {_SCENARIOS}/fleet.yaml --quick --seeds 1 --set devices=10000 --set edges=400 "
        "--set tasks=200000 --set warm_up_tasks=20000",
        f"sim signalling {_SCENARIOS}/fleet.yaml --quick --seeds 2 --set tasks=600 --set warm_up_tasks=100",
        45,
    ),
    Run(
        "signalling-fleet-slow-links",
        f"sim signalling {_SCENARIOS}/fleet-slow-links.yaml --quick --only plans,polled --seeds 1 "
        "--set devices=10000 --set edges=400 --set tasks=240000 --set warm_up_tasks=20000",
        f"sim signalling {_SCENARIOS}/fleet-slow-links.yaml --quick --only plans,polled --seeds 1 "
        "--set tasks=600 --set warm_up_tasks=100",
        20,
    ),
    Run(
        "signalling-testbed",
        f"bench testbed {_SCENARIOS}/demo.yaml --rules one-time,multi-step --polled multi-step --seeds 3 --seconds 60 "
        "--set devices=4",
        f"bench testbed {_SCENARIOS}/demo.yaml --rules multi-step --polled multi-step --seeds 1 --seconds 5 "
        "--set devices=2",
        11,
    ),
    Run(
        "fidelity",
        "bench fidelity --rules edge-only,multi-step --seeds 5 --seconds 60",
        "bench fidelity --rules multi-step --seeds 1 --seconds 15",
        13,
    ),
    Run(
        "deadlines",
        f"sim deadlines {_SCENARIOS}/demo.yaml --deadlines 0.08,0.1,0.15,0.2,0.3,0.5 --seeds 5",
        f"sim deadlines {_SCENARIOS}/demo.yaml --deadlines 0.1,0.4 --seeds 2 --set tasks=250",
        10,
    ),
)


def json_place(path: Path) -> str:
    """``path`` as it is typed in the root of a checkout."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def run_named(name: str) -> Run:
    """The run that writes a document."""
    return next(run for run in RUNS if run.name == name)


def carry_out(
    runs: Iterable[Run],
    folder: Path,
    *,
    is_quick: bool,
    say: Callable[[str], None],
    call: Callable[[list[str]], int] | None = None,
) -> list[str]:
    """Carry out ``runs`` one after the other, each a process of its own, and tell those that failed by name.

    Args:
        folder: where the documents go.
        call: runs a command line in the root and tells its exit code.
    """
    call = _call if call is None else call
    failed = []
    for run in runs:
        path = folder / f"{run.name}.json"
        say(run.command(is_quick=is_quick, json_path=path))
        # The script beside this Python: a document holds the command line by which it was made.
        program = str(Path(sys.executable).with_name("twinsplit"))
        if call([program, *run.words(is_quick=is_quick, json_path=path)]) != 0:
            failed.append(run.name)
    return failed


def documents_in(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Documents that are there, by name.

    Raises:
        StorageError: one cannot be read.
    """
    found = {}
    for run in RUNS:
        path = folder / f"{run.name}.json"
        if path.exists():
            found[run.name] = _document(path)
    return found


def folder_of_results() -> Path:
    """Where the committed documents are."""
    return RESULTS_FOLDER


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: {error}; run it again") from None
    if not isinstance(document, dict):
        raise StorageError(f"{path}: holds no document of results; run it again")
    return document


def _call(words: list[str]) -> int:
    return subprocess.run(words, cwd=ROOT, check=False).returncode
