"""Known vulnerabilities in the versions that constraints.txt pins, as pip-audit finds them.

    python deploy/audit.py

Ends with 1 where one is known. Where the advisory service (PyPI's JSON API) cannot be reached, or knows none of the
packages, nothing was audited: that is said, and ends with 0, since builds without a way out must go on; pip-audit
itself would call it "no known vulnerabilities".
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
_OPTIONS = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")
_LONGEST_S = 600.0
_PROBE = "click=="


def verdict(dependencies: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Exit code and lines for people, from what pip-audit says of each package."""
    audited = [each for each in dependencies if "skip_reason" not in each]
    if not audited:
        return 0, [
            "NOT AUDITED: PyPI's JSON API, which has the advisories, does not answer here, or knows none of the "
            "packages; run make audit where it does"
        ]
    found = [
        f"{each['name']} {each['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'no version'}"
        for each in audited
        for found in each["vulns"]
    ]
    skipped = sorted(each["name"] for each in dependencies if "skip_reason" in each)
    lines = [*found, f"{len(audited)} packages audited, {len(found)} known vulnerabilities"]
    if skipped:
        lines.append(f"not audited, unknown to the advisory service: {', '.join(skipped)}")
    return (1 if found else 0), lines


def dependencies_in(output: str) -> list[dict[str, Any]]:
    """What pip-audit wrote; nothing where it got no answer and wrote none."""
    try:
        found: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return []
    return found


def asked(requirements: Path) -> list[dict[str, Any]]:
    """What pip-audit says of each package; nothing without an answer.

    Raises:
        RuntimeError: pip-audit itself does not run.
    """
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), *_OPTIONS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LONGEST_S)
    except subprocess.TimeoutExpired:
        return []
    if "No module named" in done.stderr:
        raise RuntimeError(done.stderr)
    return dependencies_in(done.stdout)


def main() -> int:
    """Ask and tell."""
    pins = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    with tempfile.TemporaryDirectory() as folder:
        # One package first: where nobody answers, two hundred need not be asked for.
        probe = Path(folder) / "probe.txt"
        probe.write_text(next(pin for pin in pins if pin.startswith(_PROBE)) + "\n", encoding="utf-8")
        found = asked(probe)
    if any("skip_reason" not in each for each in found):
        found = asked(CONSTRAINTS)
    code, lines = verdict(found)
    sys.stdout.write("\n".join(lines) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
