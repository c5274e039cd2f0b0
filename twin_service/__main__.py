"""``python -m twin_service`` is ``twinsplit twin serve``."""

from twinsplit.cli import main

if __name__ == "__main__":
    main(["twin", "serve"])
