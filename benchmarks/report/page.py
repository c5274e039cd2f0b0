"""The page: goals, sections, commands, what is emulated."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.provenance import shown_commit
from benchmarks.report.causes import CAUSES
from benchmarks.report.goals import Judged, Verdict, judged
from benchmarks.report.looks import png
from benchmarks.report.runs import ROOT, RUNS, Documents, Run, json_place, run_named
from benchmarks.report.sections import EMULATED, SECTIONS, Drawing, Section
from benchmarks.report.text import listed, table
from benchmarks.results import ResultFile
from twinsplit.errors import StorageError

PAGE_NAME = "index.md"
_LEFT_OUT = ("--json", "--workers")
"""Of recorded command lines: places on the machine, and what results do not depend on."""

Write = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a report is made."""

    page: Path
    """Folder of the page and its figures."""
    data: Path
    """Folder of the documents."""
    is_quick: bool

    def link(self, target: Path) -> str:
        """Of ``target``, as seen from the page."""
        return os.path.relpath(target, self.page)


def make_page(place: Place, documents: Documents, only: Iterable[str] = ()) -> list[str]:
    """Draw all figures, write the page and tell what is missing on it.

    Args:
        only: documents whose figures are drawn anew; others stay as they are. Empty: all.

    Raises:
        StorageError: the page cannot be written.
    """
    wanted = set(only) or {section.document for section in SECTIONS}
    try:
        place.page.mkdir(parents=True, exist_ok=True)
        for section in SECTIONS:
            if section.document in documents and section.document in wanted:
                for drawing in _drawn(section, documents):
                    (place.page / f"{drawing.name}.png").write_bytes(png(drawing.draw(documents[section.document])))
    except OSError as error:
        raise StorageError(f"{error.filename}: {error.strerror}; free space or name another --out") from None
    with ResultFile(place.page / PAGE_NAME) as file:
        file.write_text(page_text(place, documents))
    return missing(documents)


def missing(documents: Documents) -> list[str]:
    """Figures that cannot be drawn, by name."""
    return [
        drawing.name
        for section in SECTIONS
        for drawing in section.drawings
        if section.document not in documents or not drawing.is_there(documents[section.document])
    ]


def page_text(place: Place, documents: Documents) -> str:
    """The page in Markdown."""
    goals = judged(documents)
    parts = [
        f"# Report{' (quick)' if place.is_quick else ''}",
        _opening(place, documents, goals),
        "## Goals",
        _goals(place, goals),
        *(part for section in SECTIONS for part in _section(place, section, documents)),
        "## What is simulated and what is emulated",
        _emulated(place),
        "## Commands, seeds, machine",
        _commands(place, documents),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(place: Place, documents: Documents, goals: list[Judged]) -> str:
    counts = {verdict: sum(each.verdict is verdict for each in goals) for verdict in Verdict}
    text = (
        "Which of a task's decisions pay, and by how much: every rule that twinsplit knows, in simulated time and on "
        "real processes. "
        f"Of {counts[Verdict.MET] + counts[Verdict.MISSED]} goals that could be judged {counts[Verdict.MET]} are met "
        f"and {counts[Verdict.MISSED]} missed."
    )
    if place.is_quick:
        text += " This is the small version: few cells, few tasks, few seeds; goals are those of the full one."
    if "grid" in documents:
        claims = documents["grid"]["claims"]
        text += (
            f" The learned rule takes {100.0 * claims['gain_over_one_time_median']['found']:.1f} % off the cost of "
            "deciding once (one-time) in the median cell and closes "
            f"{100.0 * claims['gap_closed_median']['found']:.1f} % of the gap to a clairvoyant."
        )
    absent = missing(documents)
    if absent:
        text += f"\n\n**Missing figures**: {', '.join(absent)}; each is named below with the command that measures it."
    return text


def _goals(place: Place, goals: list[Judged]) -> str:
    rows = []
    for each in goals:
        found = each.found
        if each.verdict is Verdict.MISSED and not place.is_quick:
            found += f". Cause: {CAUSES.get(each.goal.key, 'not yet known')}"
        rows.append((each.goal.text, each.verdict.value, found))
    return table(("goal", "verdict", "found"), rows, left=3)


def _section(place: Place, section: Section, documents: Documents) -> Iterator[str]:
    yield f"## {section.title}"
    yield section.text
    document = documents.get(section.document)
    if document is None:
        yield f"**Missing**: {section.document} was not measured. {_measured_by(place, section.document)}"
        return
    there = _drawn(section, documents)
    for drawing in section.drawings:
        if drawing in there:
            yield f"![{drawing.name.replace('-', ' ')}]({drawing.name}.png)"
            yield f"*{drawing.caption}*"
        else:
            yield f"**Missing**: {drawing.name}. This run did not vary what it shows; the full one does."
    yield section.table(document)
    yield f"Data: [{section.document}.json]({place.link(place.data / f'{section.document}.json')})"


def _drawn(section: Section, documents: Documents) -> list[Drawing]:
    document = documents[section.document]
    return [drawing for drawing in section.drawings if drawing.is_there(document)]


def _measured_by(place: Place, name: str) -> str:
    return f"It is measured by `{run_named(name).command(is_quick=place.is_quick, json_path=_data_file(place, name))}`."


def _data_file(place: Place, name: str) -> Path:
    return place.data / f"{name}.json"


def _emulated(place: Place) -> str:
    how_to = ROOT / "docs" / "how-to"
    return EMULATED.format(simulator=place.link(how_to / "simulator.md"), testbed=place.link(how_to / "testbed.md"))


def _commands(place: Place, documents: Documents) -> str:
    there = [run for run in RUNS if run.name in documents]
    if not there:
        return _how_it_is_made(place, documents)
    commands = [_made_by(place, run.name, documents[run.name]) for run in there]
    lines = [
        _how_it_is_made(place, documents),
        "The commands that made the documents, in the root of a checkout:",
        "```sh\n" + "\n".join(commands) + "\n```",
        "What the documents say of themselves:",
        table(
            ("document", "commit", "seeds", "begun", "took, s", "load before", "tasks/s of a core"),
            [_origin(run.name, documents[run.name]) for run in there],
            left=2,
        ),
    ]
    machines = {_machine(document["provenance"]) for document in documents.values()}
    lines += [f"Machine and versions: {text}." for text in sorted(machines)]
    return "\n\n".join(lines)


def _made_by(place: Place, name: str, document: Mapping[str, Any]) -> str:
    """The command that made a document, as it recorded it."""
    command = recorded_command(document["provenance"]["command"])
    return f"{command} --json {json_place(_data_file(place, name))}"


def _how_it_is_made(place: Place, documents: Documents) -> str:
    if place.is_quick:
        took_s = sum(document["provenance"].get("took_s", 0) for document in documents.values())
        return f"`make report QUICK=1` measures and draws this page; its runs took {took_s} s."
    hours = sum(run.minutes for run in RUNS) / 60.0
    anew = [
        f"`{run.command(is_quick=False, json_path=_data_file(place, run.name))}`"
        for run in RUNS
        if run.name in documents and not _is_made_by(run, documents[run.name])
    ]
    otherwise = f" It runs {', '.join(anew)} instead of what is below." if anew else ""
    return (
        "`make report` draws this page from the committed data; `make report RUN=1` measures all of it anew, in about "
        f"{hours:.1f} hours on two cores.{otherwise}"
    )


def _is_made_by(run: Run, document: Mapping[str, Any]) -> bool:
    """Whether a document was made by the full run, options in any order."""
    _, *words = shlex.split(recorded_command(document["provenance"]["command"]))
    return sorted(words) == sorted(shlex.split(run.full))


def _origin(name: str, document: Mapping[str, Any]) -> tuple[str, ...]:
    about = document["provenance"]
    speed = document.get("tasks_per_second")
    return (
        name,
        shown_commit(about["commit"], 10),
        _seeds(about["seeds"]),
        about["written_at"].replace("T", " ").replace("+00:00", " UTC"),
        str(about.get("took_s", "not recorded")),
        f"{about['machine']['load_average']:g}",
        "" if speed is None else f"{speed:,.0f}",
    )


def recorded_command(command: str) -> str:
    """A recorded command line without what is of its machine alone."""
    # Started by `python -c`, the program has no name of its own.
    words = ["twinsplit" if word == "-c" else word for word in shlex.split(command)]
    kept = [w for w, before in zip(words, ["", *words[:-1]], strict=True) if not {w, before} & set(_LEFT_OUT)]
    return shlex.join(kept)


def _seeds(seeds: list[int]) -> str:
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _machine(about: Mapping[str, Any]) -> str:
    machine = about["machine"]
    packages = listed([f"{name} {version}" for name, version in about["versions"].items()], 20)
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, kernel {machine['system']}; "
        f"twinsplit {about['version']}; {packages}"
    )
