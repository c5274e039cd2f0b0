"""``twinsplit bench load``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from benchmarks.results import RESULTS_FOLDER

_ROOT = Path(__file__).resolve().parents[2]
_MOST_GENERATORS = 4
_folder = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--quick", is_flag=True, help="Few points of 3 s each: does it work, not how much is held.")
@click.option("--cut", type=click.IntRange(min=0), default=0, show_default=True, help="Cut whose tails are sent.")
@click.option(
    "--deadline-s",
    type=click.FloatRange(min=0, min_open=True),
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
    quick: bool, cut: int, deadline_s: float, generators: int, seed: int, results: Path | None, page: Path | None
) -> None:
    """How much one edge and one twin service hold, and that more does not bring them down.

    Everything runs on this machine over loopback. With --quick results and page go to build/load unless told otherwise.
    """
    from benchmarks.load import edge_points, twin_points
    from benchmarks.load import page as pages
    from benchmarks.provenance import provenance
    from benchmarks.results import ResultFile
    from benchmarks.testbed.scenarios import SHIPPED_MODEL

    def say(text: str) -> None:
        click.echo(text, err=True)

    results = results or (_ROOT / "build" / "load" if quick else RESULTS_FOLDER)
    page = page or (_ROOT / "build" / "load" if quick else _ROOT / "docs")
    edge = edge_points.EdgeLoad(SHIPPED_MODEL, cut=cut, deadline_s=deadline_s, generators=generators, seed=seed)
    twin = twin_points.TwinLoad(SHIPPED_MODEL, generators=generators, seed=seed)
    if quick:
        edge, twin = edge_points.quick(edge), twin_points.quick(twin)
    about = provenance(seeds=[seed])
    with ResultFile(results / "load-edge.json") as edge_file, ResultFile(results / "load-twin.json") as twin_file:
        found_edge = {"is_quick": quick} | edge_points.measure(edge, say)
        found_twin = {"is_quick": quick} | twin_points.measure(twin, say)
        documents = [{"provenance": about, "results": found} for found in (found_edge, found_twin)]
        edge_file.write(documents[0])
        twin_file.write(documents[1])
    for name, data in pages.figures(*documents).items():
        (page / name).parent.mkdir(parents=True, exist_ok=True)
        (page / name).write_bytes(data)
    with ResultFile(page / "load.md") as file:
        file.write_text(pages.page(*documents))
    for line in [*edge_points.lines(found_edge), *twin_points.lines(found_twin)]:
        click.echo(line)
