"""What a refusal may say."""

from __future__ import annotations

import re

from twinsplit.transport.status import INTERNAL_TEXT, MAX_TEXT_CHARACTERS

_INTERNALS = re.compile(
    r"""
    (?:^|[\s'"(:])/\w  # a path
    | \w+/\w+\.\w | \.py\b | ,\ line\ \d+
    | Traceback | \bat\ 0x[0-9a-f]+ | <class | <\w+\ object
    | \b\w*(?:Error|Exception|Warning)\b  # a class
    | \bgoogle\.|\bgrpc\b|\bnumpy\b|\bpydantic\b|\bPIL\b|\bonnxruntime\b|\bzstandard\b|_pb2
    """,
    re.VERBOSE,
)


def check_text(text: str) -> None:
    """See that a text that came over the wire was written for whoever reads it, and tells nothing of the inside."""
    assert 0 < len(text) <= MAX_TEXT_CHARACTERS, text
    assert text != INTERNAL_TEXT, "something failed where it should have refused"
    assert not (found := _INTERNALS.search(text)), f"{found} in {text!r}"
