"""The page: links, what is missing, commands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.cli import bench
from benchmarks.report.command import report
from benchmarks.report.goals import GOALS
from benchmarks.report.page import Place, make_page, missing, page_text, recorded_command
from benchmarks.report.runs import RUNS, carry_out, documents_in, run_named
from benchmarks.report.sections import SECTIONS, Section
from tests.unit.benchmarks import report_documents
from twinsplit.cli import twinsplit
from twinsplit.errors import SettingsError, StorageError

LINK = re.compile(r"\]\(([^)]+)\)")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder with one of each document."""
    data = tmp_path / "data"
    data.mkdir()
    for name, document in report_documents.every().items():
        (data / f"{name}.json").write_text(json.dumps(document))
    return Place(tmp_path / "page", data, is_quick=False)


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.document)
def test_figures_of_a_document_are_small_pictures_beside_the_page(place: Place, section: Section) -> None:
    assert make_page(place, documents_in(place.data), [section.document]) == []
    pictures = list(place.page.glob("*.png"))
    assert {path.stem for path in pictures} == {drawing.name for drawing in section.drawings}
    for path in pictures:
        assert path.stat().st_size < 150_000
        with Image.open(path) as picture:
            assert 300 < picture.width <= 1300


def test_the_page_shows_every_figure_and_no_link_leads_nowhere(place: Place) -> None:
    text = page_text(place, documents_in(place.data))
    targets = LINK.findall(text)
    drawn = [f"{drawing.name}.png" for section in SECTIONS for drawing in section.drawings]
    assert [target for target in targets if target.endswith(".png")] == drawn
    others = [target for target in targets if not target.endswith(".png")]
    assert others
    assert [target for target in others if not (place.page / target).resolve().exists()] == []
    assert "Missing" not in text


def test_without_data_every_figure_is_named_as_missing_with_its_command(tmp_path: Path) -> None:
    text = page_text(Place(tmp_path, tmp_path, is_quick=False), {})
    for section in SECTIONS:
        assert f"**Missing**: {section.document} was not measured. It is measured by `twinsplit " in text
    assert all(drawing in text for drawing in missing({}))
    assert text.count("not measured |") == len(GOALS)


def test_what_a_quick_run_leaves_out_is_named(tmp_path: Path) -> None:
    documents = {"signalling": report_documents.signalling(is_quick=True)}
    assert {"mirror-errors", "disturbances"} <= set(missing(documents))
    assert "messages-against-cost" not in missing(documents)
    assert "**Missing**: mirror-errors." in page_text(Place(tmp_path, tmp_path, is_quick=True), documents)


def test_every_goal_stands_on_the_page_with_its_verdict(place: Place) -> None:
    text = page_text(place, report_documents.every())
    assert all(f"| {goal.text} | " in text for goal in GOALS)
    missed = next(line for line in text.splitlines() if "a grid of at least 3 task rates" in line)
    assert "**MISSED**" in missed
    assert "Cause: " in missed


def test_recorded_commands_tell_no_places_of_the_machine(place: Place) -> None:
    command = report_documents.grid()["provenance"]["command"]
    assert recorded_command(command) == "twinsplit sim grid --seeds 2"
    assert recorded_command("-c sim grid --json /somewhere/grid.json") == "twinsplit sim grid"
    assert "/somewhere" not in page_text(place, report_documents.every())


def test_commands_are_those_that_made_the_documents(place: Place) -> None:
    documents = report_documents.every()
    documents["grid"]["provenance"]["command"] = "twinsplit sim grid --seeds 3 --workers 1 --json /somewhere/grid.json"
    full = run_named("grid").command(is_quick=False, json_path=place.data / "grid.json")
    text = page_text(place, documents)
    assert f"\ntwinsplit sim grid --seeds 3 --json {place.data / 'grid.json'}\n" in text
    assert f"\n{full}\n" not in text
    assert f"It runs `{full}`" in text, "anew it would be measured by another"

    heavy = run_named("regime-heavy-tailed")
    words = shlex.split(heavy.full)
    command = shlex.join(["twinsplit", *words[:3], *words[-2:], *words[3:-2]])
    documents[heavy.name]["provenance"]["command"] = command
    text = page_text(place, documents)
    assert f"\n{command} --json " in text
    assert f"`{heavy.command(is_quick=False, json_path=place.data / f'{heavy.name}.json')}`" not in text, "the same run"


def test_how_long_the_runs_took_stands_on_the_page_as_far_as_it_is_known(tmp_path: Path) -> None:
    documents = {name: report_documents.every()[name] for name in ("grid", "optimum", "fidelity")}
    for name, took_s in (("grid", 100), ("optimum", 23)):
        documents[name]["provenance"]["took_s"] = took_s
    text = page_text(Place(tmp_path, tmp_path, is_quick=True), documents)
    assert "`make report QUICK=1` measures and draws this page; its runs took 123 s." in text
    rows = {line.split(" | ")[0]: line for line in text.splitlines() if "2026-11-24 20:00:00 UTC" in line}
    assert " UTC | 100 | " in rows["| grid"]
    assert " UTC | not recorded | " in rows["| fidelity"]


def leaf_of(words: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = twinsplit
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, words
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
@pytest.mark.parametrize("is_quick", [False, True])
def test_every_run_is_a_command_line_that_there_is(run: Any, is_quick: bool, tmp_path: Path) -> None:
    words = run.words(is_quick=is_quick, json_path=tmp_path / "found.json")
    command, rest = leaf_of(words)
    with command.make_context(command.name, rest) as context:
        assert context.params["json_path"] == tmp_path / "found.json"


def test_every_run_has_a_section_and_every_figure_a_name_of_its_own() -> None:
    names = [drawing.name for section in SECTIONS for drawing in section.drawings]
    assert len(set(names)) == len(names)
    assert [section.document for section in SECTIONS] == [run.name for run in RUNS]


def test_runs_that_fail_are_told_and_the_others_are_carried_out(tmp_path: Path) -> None:
    called: list[list[str]] = []

    def call(words: list[str]) -> int:
        called.append(words)
        return int("deadlines" in words)

    failed = carry_out(RUNS, tmp_path, is_quick=True, say=lambda _: None, call=call)
    assert failed == ["deadlines"]
    assert [words[-1] for words in called] == [str(tmp_path / f"{run.name}.json") for run in RUNS]
    assert all(Path(words[0]).name == "twinsplit" for words in called)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_document_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "grid.json").write_text(text)
    with pytest.raises(StorageError, match=r"grid\.json"):
        documents_in(tmp_path)


def test_the_command_draws_what_is_there_and_tells_what_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(report, ["--quick", "--draw-only", "--out", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "missing: cost-by-load" in result.output
    assert re.search(r"\nTook \d+ s\.\n$", result.output)
    assert (tmp_path / "index.md").exists()


def test_an_unknown_document_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(report, ["--only", "wishes", "--out", str(tmp_path)])
    assert isinstance(result.exception, SettingsError)
    assert bench.commands["report"] is report
