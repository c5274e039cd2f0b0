"""Writes the dashboards, or checks that they are what this code makes.

python -m deploy.grafana.boards            write them
python -m deploy.grafana.boards --check    say which are out of date, exit code 1
"""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.boards import decisions, device, fleet, signalling

FOLDER = Path(__file__).resolve().parents[1] / "dashboards"
BOARDS = {"fleet": fleet, "device": device, "decisions": decisions, "signalling": signalling}


def texts() -> dict[str, str]:
    """The JSON of every dashboard by the name of its file."""
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {f"{name}.json": encoder.encode(module.board().build()) + "\n" for name, module in BOARDS.items()}


def main(arguments: list[str]) -> int:
    """Write or check all dashboards."""
    stale = []
    for name, text in texts().items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(text, encoding="utf-8")
    if stale and "--check" in arguments:
        sys.stderr.write(f"out of date: {', '.join(stale)}; run python -m deploy.grafana.boards\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
