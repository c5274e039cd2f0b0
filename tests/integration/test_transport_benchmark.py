"""The benchmark of the tail stream runs, each way in processes of its own, and judges by its goals."""

import pytest

from benchmarks import transport


@pytest.mark.slow
def test_every_size_and_way_is_measured_and_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "WARM_UP_TURNS", 0)
    found = transport.measure(3)
    assert [row["bytes"] for row in found["rows"]] == list(transport.SIZES)
    for row in found["rows"]:
        for way in transport.METHODS:
            assert 0.0 < row[way]["median_s"] <= row[way]["p95_s"]
        ratio, extra_s = transport.MEDIAN_GOAL
        bare_s = row["bare"]["median_s"]
        is_met = row["ours"]["median_s"] <= max(ratio * bare_s, bare_s + extra_s)
        assert row["median_s_is_met"] == is_met
