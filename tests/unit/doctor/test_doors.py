"""What a device reads, writes and listens on: each in order, and each out of order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from device.doctor.doors import door_findings
from device.doctor.finding import Check, Finding, Verdict
from device.doctor.settings import DoctorSettings
from tests.unit.edge.tiny_model import write_tiny_model
from twinsplit.model.profile import measure_profile, save_profile
from twinsplit.model.runtime import SegmentRuntime


def finding(check: Check, **settings: Any) -> Finding:
    (found,) = (each for each in door_findings(DoctorSettings(**settings)) if each.check is check)
    return found


def test_nothing_named_is_nothing_bad() -> None:
    found = {each.check: each.verdict for each in door_findings(DoctorSettings())}
    assert found == {
        Check.SOURCE: Verdict.SKIPPED,
        Check.SINK: Verdict.SKIPPED,
        Check.PROFILE: Verdict.SKIPPED,
        Check.LISTEN: Verdict.OK,
    }


@pytest.mark.parametrize(
    ("source", "cure"),
    [
        ("frames:/nowhere", "frames"),
        ("camera:977", "--source camera:N"),
        ("video:/nowhere.mp4", "--source video:FILE"),
        ("nothing", "submit"),
    ],
)
def test_a_source_that_is_not_there(source: str, cure: str) -> None:
    found = finding(Check.SOURCE, source=source)
    assert found.verdict is Verdict.BAD
    assert cure in f"{found.text} {found.cure}"


def test_sources_that_are_there_or_cannot_be_looked_at(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    assert finding(Check.SOURCE, source=f"video:{film}").verdict is Verdict.OK
    assert finding(Check.SOURCE, source="-").verdict is Verdict.SKIPPED
    assert finding(Check.SOURCE, source="video:rtsp://camera/1").verdict is Verdict.SKIPPED


def test_records_and_profiles_have_a_place(tmp_path: Path) -> None:
    for check, key in ((Check.SINK, "sink"), (Check.PROFILE, "profile")):
        assert finding(check, **{key: str(tmp_path / "file")}).verdict is Verdict.OK
        nowhere = finding(check, **{key: str(tmp_path / "nowhere" / "file")})
        assert (nowhere.verdict, nowhere.text) == (Verdict.BAD, f"{tmp_path / 'nowhere'} is not there")
    assert finding(Check.SINK, sink=str(tmp_path)).text == f"{tmp_path} is a folder"


def test_a_profile_that_is_one_and_a_file_that_is_none(tmp_path: Path) -> None:
    runtime = SegmentRuntime.load(write_tiny_model(tmp_path / "tiny"))
    file = tmp_path / "profile.json"
    save_profile(measure_profile(runtime, 1), file)
    assert finding(Check.PROFILE, profile=file).text == f"{file} is a profile"
    file.write_text("{}", encoding="utf-8")
    assert finding(Check.PROFILE, profile=file).verdict is Verdict.BAD


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"listen": "0.0.0.0:7200"}, "has no TLS"),
        ({"http_listen": "127.0.0.1:99999"}, "is not an address"),
    ],
)
def test_addresses_that_cannot_be_listened_on(settings: dict[str, str], text: str) -> None:
    found = finding(Check.LISTEN, **settings)
    assert found.verdict is Verdict.BAD
    assert text in found.text
