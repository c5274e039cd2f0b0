"""``make audit`` fails on findings, and never calls it clean where nobody was asked."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy import audit
from deploy.audit import dependencies_in, verdict

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CLEAN = {"name": "click", "version": "8.5.1", "vulns": []}
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}
FOUND = {
    "name": "pillow",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}, {"id": "PYSEC-2", "fix_versions": []}],
}


@pytest.mark.parametrize(
    ("dependencies", "code", "said"),
    [
        ([CLEAN], 0, "1 packages audited, 0 known"),
        ([CLEAN, SKIPPED], 0, "unknown to the advisory service: torch"),
        ([SKIPPED], 0, "NOT AUDITED"),
        ([], 0, "NOT AUDITED"),
        ([CLEAN, FOUND], 1, "pillow 1.0: PYSEC-1, mended in 1.1"),
        ([SKIPPED, FOUND], 1, "PYSEC-2, mended in no version"),
    ],
)
def test_what_was_found_decides_and_what_was_not_asked_is_said(
    dependencies: list[dict[str, Any]], code: int, said: str
) -> None:
    found_code, lines = verdict(dependencies)
    assert found_code == code
    assert said in "\n".join(lines)


@pytest.mark.parametrize("output", ["", "Traceback (most recent call last):", "[]", "{}"])
def test_no_answer_is_no_dependency(output: str) -> None:
    assert dependencies_in(output) == []
    assert dependencies_in(json.dumps({"dependencies": [CLEAN]})) == [CLEAN]


def test_the_linters_exceptions_have_reasons(root: Path) -> None:
    text = (root / "pyproject.toml").read_text()
    skips = tomllib.loads(text)["tool"]["bandit"]["skips"]
    for name in skips:
        (line,) = [line for line in text.splitlines() if f'"{name}"' in line]
        assert len(line.partition("#")[2].split()) > 4, name


@pytest.mark.parametrize("answers", [True, False])
def test_one_package_is_asked_for_before_all(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []

    def asked(requirements: Path) -> list[dict[str, Any]]:
        files.append(requirements.read_text().splitlines())
        return [CLEAN] if answers else [SKIPPED]

    monkeypatch.setattr(audit, "asked", asked)
    assert audit.main() == 0
    assert [line.partition("==")[0] for line in files[0]] == ["click"]
    assert [len(lines) > 100 for lines in files[1:]] == [True] * answers
