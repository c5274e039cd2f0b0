"""The benchmark of the Open Inference Protocol beside a real Triton and MLServer: all give the network's output."""

from __future__ import annotations

import pytest

from benchmarks import oip


def test_every_way_is_measured_and_ours_is_judged_by_the_faster_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oip, "WARM_UP_TURNS", 1)
    found = oip.measure(9, sizes=(9000,), with_engines=True)
    assert found["others"] == ["mlserver", "triton"]
    (row,) = found["rows"]
    for way in (*oip.OURS, oip.BARE, "triton", "mlserver"):
        assert row[way]["count"] == 16
        assert 0.0 < row[way]["median_s"] <= row[way]["p95_s"]
    against = row["oip_over_fastest"]
    fastest_s = min(row[way]["median_s"] for way in ("triton", "mlserver"))
    assert row[against["median_of"]]["median_s"] == fastest_s
    assert against["median"]["ratio"] == pytest.approx(row["oip"]["median_s"] / fastest_s, rel=1e-6)
    assert "oip over the faster other" in oip.lines(found)[-1]
