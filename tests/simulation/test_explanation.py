"""The pictures of docs/explanation are drawn from a run of the services' own objects, and show what the page says."""

import re
from pathlib import Path

import numpy as np
import pytest

from docs import figures
from twinsplit.types import NO_EVIDENCE, Decision

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found() -> figures.Run:
    return figures.run()


def test_the_page_shows_every_figure_and_no_other() -> None:
    page = (ROOT / "docs/explanation/how-it-decides.md").read_text()
    assert set(re.findall(r"\((\w+)\.png\)", page)) == set(figures.FIGURES)


@pytest.mark.parametrize("name", figures.FIGURES)
def test_every_figure_can_be_drawn(name: str, found: figures.Run) -> None:
    assert figures.FIGURES[name](found).axes


def test_both_sides_reckon_alike_between_messages(found: figures.Run) -> None:
    looks = found.looks
    assert len(looks.at_s) > 500
    apart = np.abs(np.array(looks.twin_backlog_s) - np.array(looks.true_backlog_s))
    assert apart.mean() < np.array(looks.true_backlog_s).max()
    in_service = np.isfinite(looks.true_epoch)
    assert (np.array(looks.true_epoch)[in_service] == np.array(looks.twin_epoch)[in_service]).mean() > 0.8


def test_the_plan_goes_by_evidence_and_backlog(found: figures.Run) -> None:
    standing = found.deciding.core.devices["device-0"].standing
    assert standing is not None
    decisions = {
        Decision(standing.plan.table[epoch, evidence, 0, band])
        for epoch in range(3)
        for evidence in range(standing.plan.table.shape[1])
        if evidence != NO_EVIDENCE or epoch == 0
        for band in range(standing.plan.table.shape[3])
    }
    assert {Decision.CONTINUE, Decision.EXIT, Decision.OFFLOAD_TENSOR} <= decisions
