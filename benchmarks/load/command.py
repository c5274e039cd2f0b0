"""``twinsplit bench load``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.results import RESULTS_FOLDER
from twinsplit.errors import StorageError
from twinsplit.numbers import FiniteRange

_ROOT = Path(__file__).resolve().parents[2]
_MOST_GENERATORS = 4
_folder = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--quick", is_flag=True, help="Few points of 3 s each: does it work, not how much is held.")
@click.option("--part", type=click.Choice(["edge", "twin", "both"]), default="both", show_default=True,
              help="What is measured; of the other part the page keeps the figures that there are.")  # fmt: skip
@click.option("--cut", type=click.IntRange(min=0), default=0, show_default=True, help="Cut whose tails are sent.")
@click.option(
    "--deadline-s",
    type=FiniteRange(min=0, min_open=True),
    default=0.25,
    show_default=True,
    help="From a task's arrival at its device to when its answer is of no use, seconds.",
)
@click.option(
    "--generators",
    type=click.IntRange(1, _MOST_GENERATORS),
    default=min(_MOST_GENERATORS, os.cpu_count() or 1),
    show_default="a core each, at most 4",
    help="Processes over which devices are spread.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of everything that is drawn.")
@click.option("--results", type=_folder, help="Folder of load-edge.json and load-twin.json.  [benchmarks/results]")
@click.option("--page", type=_folder, help="Folder of load.md and its figures.  [docs]")
def load(
    quick: bool,
    part: str,
    cut: int,
    deadline_s: float,
    generators: int,
    seed: int,
    results: Path | None,
    page: Path | None,
) -> None:
    """How much one edge and one twin service hold, and that more does not bring them down.

    Everything runs on this machine over loopback. With --quick results and page go to build/load unless told otherwise.
    """
    from contextlib import ExitStack

    from benchmarks.load import edge_points, twin_points
    from benchmarks.load import page as pages
    from benchmarks.provenance import provenance
    from benchmarks.results import ResultFile
    from benchmarks.testbed.scenarios import SHIPPED_MODEL

    def say(text: str) -> None:
        click.echo(text, err=True)

    results = results or (_ROOT / "build" / "load" if quick else RESULTS_FOLDER)
    page = page or (_ROOT / "build" / "load" if quick else _ROOT / "docs")
    # One core is the service's.
    others = min(generators, max(1, (os.cpu_count() or 1) - 1))
    edge = edge_points.EdgeLoad(SHIPPED_MODEL, cut=cut, deadline_s=deadline_s, generators=others, seed=seed)
    twin = twin_points.TwinLoad(SHIPPED_MODEL, generators=others, seed=seed)
    if quick:
        edge, twin = edge_points.quick(edge), twin_points.quick(twin)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "edge": lambda: edge_points.measure(edge, say),
        "twin": lambda: twin_points.measure(twin, say),
    }
    about = provenance(seeds=[seed])
    documents: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        files = {}
        for name in parts:
            path = results / f"load-{name}.json"
            if part in (name, "both"):
                files[name] = stack.enter_context(ResultFile(path))
            else:
                documents[name] = _kept(path)
        for name, file in files.items():
            documents[name] = {"provenance": about, "results": {"is_quick": quick} | parts[name]()}
            file.write(documents[name])
    both = documents["edge"], documents["twin"]
    for figure, data in pages.figures(*both).items():
        (page / figure).parent.mkdir(parents=True, exist_ok=True)
        (page / figure).write_bytes(data)
    with ResultFile(page / "load.md") as file:
        file.write_text(pages.page(*both))
    for name, lines in (("edge", edge_points.lines), ("twin", twin_points.lines)):
        for line in lines(documents[name]["results"]) if name in files else ():
            click.echo(line)


def _kept(path: Path) -> dict[str, Any]:
    """Figures of an earlier run.

    Raises:
        StorageError: there are none.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        raise StorageError(f"{path} holds no figures of an earlier run; measure both parts") from None
    return found
