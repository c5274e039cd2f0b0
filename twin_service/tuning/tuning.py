"""``twinsplit twin tune`` from recorded tasks to what is printed, drawn and written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from twin_service.tuning.groups import Weighting
from twin_service.tuning.plot import draw, need_matplotlib
from twin_service.tuning.recorded import Recorded, recorded_of
from twin_service.tuning.rerun import recorded_outcomes, rerun
from twin_service.tuning.search import Found, search
from twin_service.tuning.tape import tape_of
from twin_service.tuning.text import tuned_document, tuned_text
from twin_service.tuning.wishes import Figures, Wish, figures_of
from twin_service.workload.records import ReplayBatch
from twinsplit.errors import StorageError
from twinsplit.model.progress_line import ProgressLine


def tuned(
    wish: Wish,
    batches: Callable[[], Iterable[ReplayBatch]],
    *,
    device: str | None = None,
    plot: Path | None = None,
    json_path: Path | None = None,
) -> bool:
    """Search, print, draw and write; whether the wish can be met.

    Raises:
        ConfigurationError: a plot without matplotlib.
        SettingsError: not enough recorded tasks.
        StorageError: a file cannot be written.
        TwinsplitError: whatever ``batches`` raises.
    """
    if plot is not None:
        need_matplotlib()
    for path in (plot, json_path):
        if path is not None:
            _check_writable(path)
    recorded = recorded_of(batches(), device)
    with ProgressLine() as progress:
        found, before = best_weights(recorded, wish, lambda done, total: progress("weights", done, total))
    click.echo(tuned_text(recorded, found, before))
    if plot is not None:
        draw(found, plot)
    if json_path is not None:
        _write(json_path, json.dumps(tuned_document(recorded, found, before), indent=1) + "\n")
    return found.is_met


def best_weights(
    recorded: Recorded, wish: Wish, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> tuple[Found, Figures]:
    """What the search found on recorded tasks, and what these brought as they were.

    Raises:
        ReplayError: a task does not fit the model.
    """
    tape = tape_of(recorded.tasks, recorded.manifest)

    def evaluate(weighting: Weighting) -> Figures:
        return figures_of(rerun(tape, weighting))

    return search(evaluate, wish, tape.newest, progress), figures_of(recorded_outcomes(tape))


def _check_writable(path: Path) -> None:
    """Before long work."""
    target = path if path.exists() else path.parent
    if not os.access(target, os.W_OK):
        raise StorageError(f"{path}: cannot be written; name a file in a folder that is there and can be written")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; name a file that can be written") from None
