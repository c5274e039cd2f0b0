"""The console's page as files: whole, nothing from outside, no markup made of data, fit for its strict policy."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from twin_service.console.app import PAGE

SCRIPTS = sorted((PAGE / "js").glob("*.js"))
STYLES = sorted((PAGE / "css").glob("*.css"))


class Markup(HTMLParser):
    """Collects what the tests ask about."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.refused: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.links += [value for name in ("src", "href") if (value := named.get(name)) and not value.startswith("#")]
        self.ids += [named["id"]] if named.get("id") else []
        self.refused += [f"{tag} {name}" for name in named if name == "style" or name.startswith("on")]
        self.refused += [tag] if tag == "style" or (tag == "script" and "src" not in named) else []


@pytest.fixture(scope="module")
def markup() -> Markup:
    parser = Markup()
    parser.feed((PAGE / "index.html").read_text())
    return parser


def test_the_page_needs_no_inline_script_or_style(markup: Markup) -> None:
    assert markup.refused == []


def test_everything_it_names_is_its_own_and_there(markup: Markup) -> None:
    assert len(markup.links) > 6
    for link in markup.links:
        assert link.startswith("static/"), link
        assert (PAGE / link.removeprefix("static/")).is_file(), link


def test_every_id_is_there_once(markup: Markup) -> None:
    assert len(set(markup.ids)) == len(markup.ids)
    used = {name for path in SCRIPTS for name in re.findall(r'byId\("([^"]+)"\)', path.read_text())}
    assert used
    assert used <= set(markup.ids)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_make_no_markup_of_data_and_load_nothing(path: Path) -> None:
    text = path.read_text()
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc", text)
    assert not re.findall(r"https?://|//cdn", text)
    for imported in re.findall(r'from "([^"]+)"', text):
        assert (path.parent / imported).is_file(), imported


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.name)
def test_styles_load_nothing(path: Path) -> None:
    assert not re.findall(r"url\(|@import", path.read_text())


def test_what_is_vendored_comes_with_its_licence_and_is_named_in_the_notice() -> None:
    vendored = PAGE / "vendor"
    assert {each.name for each in vendored.iterdir()} == {"uPlot.iife.min.js", "uPlot.min.css", "uPlot-LICENSE"}
    version = re.search(r"uPlot \(v([\d.]+)\)", (vendored / "uPlot.iife.min.js").read_text())
    assert version
    notice = (Path(__file__).parents[3] / "NOTICE").read_text()
    assert f"uPlot {version[1]}" in notice
    words = " ".join((vendored / "uPlot-LICENSE").read_text().split())
    assert words in " ".join(notice.split())
