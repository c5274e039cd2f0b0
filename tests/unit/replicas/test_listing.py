"""What people may write as the list of replicas, and what is said of everything else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from twinsplit.errors import SettingsError
from twinsplit.replicas import listing
from twinsplit.replicas.listing import MOST_REPLICAS, ReplicaSource
from twinsplit.telemetry.logs import EventLog


def test_one_address_is_a_list_of_one() -> None:
    assert ReplicaSource("10.0.0.1:7000").read() == ("10.0.0.1:7000",)


def test_addresses_are_separated_by_commas_and_each_counts_once() -> None:
    assert ReplicaSource("b:7000, a:7000,[::1]:7000,b:7000,").read() == ("b:7000", "a:7000", "[::1]:7000")


def test_a_file_holds_lines_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "replicas"
    path.write_text("# of hall 1\na:7000  # the first\n\nb:7000, c:7000\n")
    assert ReplicaSource(f"@{path}").read() == ("a:7000", "b:7000", "c:7000")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:7000,b", "'b' is not an address"),
        (" , ", "names no twin service"),
        (",".join(f"a:{port}" for port in range(7000, 7001 + MOST_REPLICAS)), f"at most {MOST_REPLICAS}"),
        ("@/nowhere/replicas", "No such file"),
    ],
)
def test_what_is_no_list_is_said(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        ReplicaSource(text).read()


@pytest.mark.parametrize(("data", "said"), [(b"a:7000\nb\n", "'b' is not"), (b"", "names no"), (b"\xff\xfe", "UTF-8")])
def test_a_file_that_is_no_list_is_named(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "replicas"
    path.write_bytes(data)
    with pytest.raises(SettingsError, match=said) as caught:
        ReplicaSource(f"@{path}").read()
    assert str(path) in str(caught.value)


async def looked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Return when a look that began later than now is over."""
    read, looks = ReplicaSource.read, []

    def counted(source: ReplicaSource) -> tuple[str, ...]:
        looks.append(None)
        return read(source)

    with monkeypatch.context() as patch:
        patch.setattr(ReplicaSource, "read", counted)
        # A second look begins once what the first found has been told.
        while len(looks) < 2:  # noqa: ASYNC110 - a thread looks, and has no event
            await asyncio.sleep(0.001)


async def test_changes_of_the_file_are_told_and_what_is_no_list_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LOOK_S", 0.001)
    path = tmp_path / "replicas"
    path.write_text("a:7000")
    source, told = ReplicaSource(f"@{path}"), []
    following = asyncio.ensure_future(source.follow(source.read(), told.append, EventLog("test")))
    for text in ("a:7000,b:7000", "", "a:70000", "b:7000"):
        path.write_text(text)
        await looked_twice(monkeypatch)
    path.unlink()
    await looked_twice(monkeypatch)
    assert not following.done(), "a list that is gone is waited for"
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert told == [("a:7000", "b:7000"), ("b:7000",)]


async def test_a_fixed_list_has_nothing_to_follow() -> None:
    await ReplicaSource("a:7000").follow(("a:7000",), lambda _: pytest.fail("nothing changes"), EventLog("test"))
