"""A file of JSON lines, followed while another process writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class LineFollower:
    """Gives each whole line once; what is not a JSON object is passed over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.objects: list[dict[str, Any]] = []
        """All so far."""
        self.last_text = ""
        """The last whole line, JSON or not."""

    def new_objects(self) -> list[dict[str, Any]]:
        """Objects of the lines that were completed since the last call; none where there is no file yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        found = []
        for line in whole.decode(errors="replace").splitlines():
            self.last_text = line
            parsed = _parsed(line)
            if isinstance(parsed, dict):
                found.append(parsed)
        self.objects += found
        return found


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
