"""``python -m device`` is ``twinsplit device run``."""

from twinsplit.cli import main

if __name__ == "__main__":
    main(["device", "run"])
