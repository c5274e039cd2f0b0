"""Calls are counted by method and status."""

from twinsplit.telemetry.histogram import Histogram
from twinsplit.transport.calls import CallCount


def test_calls_are_counted_by_method_and_status() -> None:
    calls = CallCount()
    for _ in range(3):
        calls.note_start("Infer")
    calls.note_end("Infer", "OK", 2.0)
    calls.note_end("Infer", "CANCELLED", 4.0)
    found = [(name, dict(labels), value) for name, labels, value in calls.samples()]
    assert ("twinsplit_rpc_started_total", {"method": "Infer"}, 3) in found
    assert ("twinsplit_rpc_handled_total", {"method": "Infer", "status": "OK"}, 1) in found
    assert ("twinsplit_rpc_handled_total", {"method": "Infer", "status": "CANCELLED"}, 1) in found
    (duration,) = [value for _, _, value in found if isinstance(value, Histogram)]
    rows, total = duration.cumulative()
    assert (rows[-1], total) == (("+Inf", 2), 6.0)
