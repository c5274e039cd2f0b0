"""What a refusal may say."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.fuzz.mutations import Bad
from twinsplit.rpc.v1.errors_pb2 import Error
from twinsplit.transport.status import INTERNAL_TEXT, MAX_TEXT_CHARACTERS, code_of, error_from_wire

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


def wrong_about(bad: Bad, refusals: Sequence[Error]) -> list[str]:
    """What is to say about what came back of a message that must be refused once, by its name."""
    for refusal in refusals:
        check_text(refusal.text)
    codes = [code_of(error_from_wire(refusal)) for refusal in refusals]
    is_right = codes == [bad.code] and bad.word in refusals[0].text
    return [] if is_right else [f"{bad.name}: {[refusal.text for refusal in refusals] or 'taken'}"]
