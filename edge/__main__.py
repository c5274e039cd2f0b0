"""``python -m edge`` is ``twinsplit edge serve``."""

from twinsplit.cli import main

if __name__ == "__main__":
    main(["edge", "serve"])
