from __future__ import annotations

import pytest

from edge.engine.address import EngineAddress
from twinsplit.errors import SettingsError


def test_local_has_no_back_ends() -> None:
    assert EngineAddress.parse("local") == EngineAddress()
    assert EngineAddress.parse("local").is_local


def test_servers_are_named_one_after_the_other() -> None:
    found = EngineAddress.parse("oip://gpu-1:8001,[::1]:8001")
    assert found == EngineAddress(("gpu-1:8001", "[::1]:8001"))
    assert EngineAddress.parse("oips://gpu-1:8001").is_tls
    assert not found.is_local


@pytest.mark.parametrize(
    "text", ["", "Local", "gpu-1:8001", "grpc://gpu-1:8001", "oip://", "oip://gpu-1", "oip://a:1,,b:1"]
)
def test_what_is_no_engine_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        EngineAddress.parse(text)


def test_a_server_stands_there_once() -> None:
    with pytest.raises(SettingsError, match="twice"):
        EngineAddress.parse("oip://a:1,b:1,a:1")
