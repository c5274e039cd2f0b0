"""Links and headings of the documents."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|(?:src|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


def _prose(document: Path) -> str:
    return _FENCED.sub("", document.read_text(encoding="utf-8"))


def _anchors(document: Path) -> set[str]:
    """The fragments of the headings, as forges make them."""
    headings = (re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in _HEADING.findall(_prose(document)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    broken = []
    for target in (first or second for first, second in _LINK.findall(_prose(document))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        place = (document.parent / unquote(name)).resolve() if name else document
        if not place.exists() or (fragment and place.suffix == ".md" and fragment not in _anchors(place)):
            broken.append(target)
    assert broken == []


def test_every_document_can_be_reached_from_the_index() -> None:
    start = ROOT / "docs/index.md"
    reached, waiting = {start}, [start]
    while waiting:
        document = waiting.pop()
        for target in (first or second for first, second in _LINK.findall(_prose(document))):
            place = (document.parent / unquote(target.partition("#")[0])).resolve()
            if place.suffix == ".md" and place.is_file() and place not in reached:
                reached.add(place)
                waiting.append(place)
    assert set((ROOT / "docs").rglob("*.md")) - reached == set()
