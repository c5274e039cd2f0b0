from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from twin_service.settings import TwinSettings
from twinsplit.config_command import config
from twinsplit.credentials import without_password
from twinsplit.errors import SettingsError
from twinsplit.settings import load_settings


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://twin:s3cret@db:5432/twinsplit", "postgresql://twin:***@db:5432/twinsplit"),
        ("postgresql://twin:s3/cr#et@x@db/t?sslmode=require", "postgresql://twin:***@db/t?sslmode=require"),
        ("postgresql://twin:12345@db/t", "postgresql://twin:***@db/t"),
        ("postgresql://:s3cret@db/t", "postgresql://:***@db/t"),
        ("postgresql://twin:s3cret/t", "postgresql://twin:***/t"),
        ("postgresql://db/t?user=twin&password=s3cret&sslmode=require", "postgresql://db/t?user=twin&password=***&sslmode=require"),
        ("postgresql://db/t?sslpassword=s3cret", "postgresql://db/t?sslpassword=***"),
        ("postgresql://twin:s3cret@[::1]:5432/t", "postgresql://twin:***@[::1]:5432/t"),
        ("'postgresql://twin:s3cret@a:1,b:2/t' is wrong", "'postgresql://twin:***@a:1,b:2/t' is wrong"),
    ],
)  # fmt: skip
def test_a_password_in_an_address_is_hidden(address: str, shown: str) -> None:
    assert without_password(address) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite", "postgresql://db:5432/t", "postgresql://twin@db/t", "http://127.0.0.1:7002/", "console=http://[::1]:80/",
        "127.0.0.1:7000", "rtsp://camera:554/stream", "postgresql://a:1,b:2/t", "rule.py:Rule", "",
    ],
)  # fmt: skip
def test_what_holds_no_password_stays(text: str) -> None:
    assert without_password(text) == text


def test_config_show_hides_it_and_keeps_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSPLIT_TWIN_STORE", "postgresql://twin:s3cret@db/t?sslmode=verify-full")
    for arguments in (["show", "twin"], ["show", "twin", "--json"]):
        shown = CliRunner().invoke(config, arguments)
        assert shown.exit_code == 0, shown.output
        assert "s3cret" not in shown.output
        assert "postgresql://twin:***@db/t?sslmode=verify-full" in shown.output
    assert json.loads(shown.output)["settings"]["store"]["origin"] == "env TWINSPLIT_TWIN_STORE"


def test_a_value_that_does_not_fit_is_shown_without_it() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(TwinSettings, flags={"alpha_s": "postgresql://twin:s3cret@db/t"})
    assert "s3cret" not in str(refused.value)
    assert "twin:***@db" in str(refused.value)
