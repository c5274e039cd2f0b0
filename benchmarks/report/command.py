"""``twinsplit bench report``, and the same as ``python -m benchmarks.report``."""

from __future__ import annotations

import time
from pathlib import Path

import click


@click.command()
@click.option("--quick", is_flag=True, help="The small version, measured in under 5 minutes on two cores.")
@click.option("--run/--draw-only", "does_run", default=None, help="Measure first.  [only with --quick]")
@click.option("--only", multiple=True, metavar="NAME", help="Measure and draw this document alone; may be repeated.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Of the page.  [docs/report; with --quick build/report]",
)
def report(quick: bool, does_run: bool | None, only: tuple[str, ...], out: Path | None) -> None:
    """Figures and tables of what was measured, on one page; results are in benchmarks/results, quick ones beside it."""
    from benchmarks.report.page import PAGE_NAME, Place, make_page
    from benchmarks.report.runs import ROOT, RUNS, carry_out, documents_in, folder_of_results
    from twinsplit.errors import SettingsError, TwinsplitError

    began_s = time.monotonic()
    unknown = set(only) - {run.name for run in RUNS}
    if unknown:
        raise SettingsError(f"--only {min(unknown)}: there are {', '.join(run.name for run in RUNS)}")
    page = (out or ROOT / ("build/report" if quick else "docs/report")).absolute()
    data = page / "data" if quick else folder_of_results()
    failed: list[str] = []
    if quick if does_run is None else does_run:
        chosen = [run for run in RUNS if run.name in only or not only]
        failed = carry_out(chosen, data, is_quick=quick, say=click.echo)
    absent = make_page(Place(page, data, quick), documents_in(data), only)
    click.echo(f"{page / PAGE_NAME}" + (f"; missing: {', '.join(absent)}" if absent else ""))
    click.echo(f"Took {time.monotonic() - began_s:.0f} s.")
    if failed:
        raise TwinsplitError(f"these runs failed: {', '.join(failed)}; see above")
