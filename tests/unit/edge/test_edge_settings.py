from __future__ import annotations

import pytest

from edge.settings import EdgeSettings
from twinsplit.errors import SettingsError
from twinsplit.settings import load_settings


def test_both_addresses_are_loopback_by_default() -> None:
    values = load_settings(EdgeSettings, None, {"models": "models"}).values
    assert values.listen.startswith("127.0.0.1:")
    assert values.http_listen.startswith("127.0.0.1:")
    assert not values.insecure


def test_models_are_needed() -> None:
    with pytest.raises(SettingsError, match="--models is needed"):
        load_settings(EdgeSettings, None, {})


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"id": "edge one"}, "--id"),
        ({"id": "x" * 64}, "--id"),
        ({"queue_capacity": 0}, "--queue-capacity"),
        ({"threads": 0}, "--threads"),
        ({"emulate_slowdown": 0.5}, "--emulate-slowdown"),
        ({"report_threshold_s": -1}, "--report-threshold-s"),
    ],
)
def test_impossible_values_are_refused_by_flag(flags: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load_settings(EdgeSettings, None, {"models": "models", **flags})
