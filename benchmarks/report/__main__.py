"""``python -m benchmarks.report``."""

import sys

from benchmarks.report.command import report
from twinsplit.cli import main

if __name__ == "__main__":
    main(["bench", report.name or ""], sys.argv[1:])
