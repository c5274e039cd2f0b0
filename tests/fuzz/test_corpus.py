"""The corpus as a whole: large enough, every message known by one name, and no two alike."""

from __future__ import annotations

from collections import Counter
from itertools import chain

from tests.fuzz import bad_answers, bad_frames, bad_inferences, bad_reports, bad_tails
from tests.fuzz.test_live_twin import bad_calls

DIGEST = "ab" * 32


def test_the_corpus_is_large_and_says_what_each_message_is() -> None:
    parts = {
        "edge": list(bad_tails.bad_tails(DIGEST)),
        "edge: inferences": list(bad_inferences.bad_inferences()),
        "twin: devices": [*bad_reports.bad_device_hellos(), *bad_reports.bad_device_reports()],
        "twin: edges": [*bad_reports.bad_edge_hellos(), *bad_reports.bad_edge_reports()],
        "twin: calls": [bad for _, bad in bad_calls(1)],
        "device: frames": list(bad_frames.bad_submissions()),
        "device: twin": list(bad_frames.bad_twin_messages(DIGEST)),
        "device: edge": [*bad_answers.bad_answers(1), *bad_answers.unreadable_answers(1)],
    }
    assert {part: len(cases) for part, cases in parts.items() if len(cases) < 30} == {}
    assert sum(map(len, parts.values())) >= 200
    for cases in parts.values():
        assert [name for name, count in Counter(bad.name for bad in cases).items() if count > 1] == []
    assert len({bad.code for bad in chain.from_iterable(parts.values())}) >= 7
