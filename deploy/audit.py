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
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
_OPTIONS = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")
_LONGEST_S = 600.0


def verdict(dependencies: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Exit code and lines for people, from what pip-audit says of each package."""
    audited = [each for each in dependencies if "skip_reason" not in each]
    if not audited:
        return 0, [
            "NOT AUDITED: the advisory service cannot be reached, or knows none of the packages; run make audit again "
            "where https://pypi.org/pypi/NAME/VERSION/json answers"
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


def main() -> int:
    """Ask and tell."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS), *_OPTIONS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LONGEST_S)
    except subprocess.TimeoutExpired:
        output = ""
    else:
        output = done.stdout
        if done.returncode not in (0, 1) or "No module named" in done.stderr:
            sys.stderr.write(done.stderr)
            return 2
    code, lines = verdict(dependencies_in(output))
    sys.stdout.write("\n".join(lines) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
