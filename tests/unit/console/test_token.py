"""The token's file: made once, for its owner only; what is no token is refused."""

import os
import stat
from pathlib import Path

import pytest

from tests.full_disk import files_bounded_to
from twin_service.console.token import SHORTEST, token_of
from twinsplit.errors import SettingsError, StorageError


def test_it_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "console-token"
    before = os.umask(0)
    try:
        token = token_of(path)
    finally:
        os.umask(before)
    assert len(token) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token_of(path) == token
    assert token_of(tmp_path / "other") != token


def test_a_full_disk_leaves_no_half_a_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with files_bounded_to(0), pytest.raises(StorageError, match="console-token-file"):
        token_of(path)
    assert list(tmp_path.iterdir()) == []
    assert len(token_of(path)) >= SHORTEST


def test_one_that_others_can_read_is_used_and_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "token"
    path.write_text("0123456789abcdef\n")
    path.chmod(0o644)
    assert token_of(path) == "0123456789abcdef"
    assert "console-token-readable-by-others" in caplog.text


@pytest.mark.parametrize(
    "text", ["", "short", "x" * (SHORTEST - 1), "two words in one line", "x" * 20 + "\ny", "ü" * 20]
)
def test_what_is_no_token_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(SettingsError, match="token"):
        token_of(path)


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "token", tmp_path):
        with pytest.raises(StorageError, match="console-token-file"):
            token_of(path)
