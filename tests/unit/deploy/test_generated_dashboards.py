"""The committed dashboards are what their code makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.grafana.boards import __main__ as command


@pytest.mark.slow
def test_the_json_is_up_to_date() -> None:
    texts = command.texts()
    assert {path.name for path in command.FOLDER.glob("*.json")} == texts.keys()
    stale = [name for name, text in texts.items() if (command.FOLDER / name).read_text() != text]
    assert stale == [], "run python -m deploy.grafana.boards"


def test_a_stale_file_is_found_and_then_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    monkeypatch.setattr(command, "texts", lambda: {"fleet.json": "{}\n"})
    assert command.main(["--check"]) == 1
    assert "fleet.json" in capsys.readouterr().err
    assert command.main([]) == 0
    assert command.main(["--check"]) == 0
