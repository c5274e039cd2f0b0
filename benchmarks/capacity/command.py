"""``twinsplit bench capacity``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from benchmarks.results import RESULTS_FOLDER
from twinsplit.numbers import FiniteRange

_ROOT = Path(__file__).resolve().parents[2]
_folder = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option(
    "--task-rate",
    type=FiniteRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Tasks per second of one device.",
)
@click.option(
    "--results", type=_folder, default=RESULTS_FOLDER, help="Folder of what was measured.  [benchmarks/results]"
)
@click.option(
    "--page", type=_folder, help="Folder of capacity.md and its figure.  [with another rate: none; else docs]"
)
def capacity(task_rate: float, results: Path, page: Path | None) -> None:
    """What 1,000, 100,000 and 10 million devices need, calculated from what was measured; nothing is run.

    With a rate of its own it is only printed, unless --page names a folder, where capacity.json goes, too.
    """
    from benchmarks.capacity import calculation
    from benchmarks.capacity import page as pages
    from benchmarks.capacity.inputs import NEEDED
    from benchmarks.capacity.needs import Assumptions
    from benchmarks.provenance import provenance
    from benchmarks.results import ResultFile

    assumed = Assumptions(task_rate_per_s=task_rate)
    documents = {name: _read(results / f"{name}.json") for name in NEEDED}
    found = calculation.calculated(documents, assumed)
    for line in calculation.lines(found):
        click.echo(line)
    is_usual = assumed == Assumptions()
    if page is None and not is_usual:
        return
    document = {"provenance": provenance(seeds=[]), "results": found}
    place = page or _ROOT / "docs"
    for name, data in pages.figures(document).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    with ResultFile(place / "capacity.md") as text, ResultFile((page or results) / "capacity.json") as file:
        text.write_text(pages.page(document))
        file.write(document)


def _read(path: Path) -> dict[str, Any]:
    from twinsplit.errors import StorageError

    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise StorageError(f"{path}: no figures there; docs/capacity.md says what measures them") from None
    return found
