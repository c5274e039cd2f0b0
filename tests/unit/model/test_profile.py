import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.full_disk import files_bounded_to
from twinsplit.errors import ModelFileError, StorageError
from twinsplit.model.manifest import Manifest
from twinsplit.model.profile import load_profile, machine_name, made_up_input, measure_profile, save_profile
from twinsplit.model.runtime import SegmentRuntime


class TickingClock:
    """Every reading is a millisecond after the one before."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_s(self) -> float:
        self.now_s += 0.001
        return self.now_s

    def unix_ns(self) -> int:
        return 0


def test_every_segment_exit_and_offered_representation_is_measured(folder: Path) -> None:
    runtime = SegmentRuntime.load(folder)
    profile = measure_profile(runtime, 3, clock=TickingClock())
    assert profile.segment_s == pytest.approx((0.001,) * 4)
    assert profile.exit_s == pytest.approx((0.001,) * 2)
    offered = {
        (cut.index, position)
        for cut in runtime.manifest.cuts
        for position, entry in enumerate(cut.representations)
        if entry.is_offered
    }
    assert set(profile.encode_s) == offered
    assert all(s == pytest.approx(0.001) for s in profile.encode_s.values())
    assert profile.tail_s(1) == pytest.approx(0.003)
    assert profile.repeats == 3
    assert (profile.provider, profile.threads) == ("CPUExecutionProvider", 1)
    assert profile.fits(runtime)
    assert not profile.fits(SegmentRuntime.load(folder, threads=2))


@pytest.mark.parametrize(
    "changes",
    [
        {"segment_s": (0.1,) * 3},
        {"segment_s": (0.1,) * 5},
        {"segment_s": ()},
        {"exit_s": (0.1,)},
        {"exit_s": (0.1,) * 3},
    ],
)
def test_one_with_other_numbers_of_times_does_not_fit(folder: Path, changes: dict[str, tuple[float, ...]]) -> None:
    runtime = SegmentRuntime.load(folder)
    profile = measure_profile(runtime, 1, clock=TickingClock())
    assert (len(profile.segment_s), len(profile.exit_s)) == (4, 2)
    assert not replace(profile, **changes).fits(runtime)


def test_the_whole_networks_fits_no_head_and_a_heads_not_the_whole(folder: Path) -> None:
    whole, head = SegmentRuntime.load(folder), SegmentRuntime.load(folder, segments=range(1))
    assert not measure_profile(whole, 1, clock=TickingClock()).fits(head)
    assert not measure_profile(head, 1, clock=TickingClock()).fits(whole)
    assert measure_profile(whole, 1, clock=TickingClock()).fits(SegmentRuntime.load(folder, with_exits=False))


def test_a_head_alone_is_measured_alone(folder: Path) -> None:
    profile = measure_profile(SegmentRuntime.load(folder, segments=range(1)), 3, clock=TickingClock())
    assert len(profile.segment_s) == 1
    assert len(profile.exit_s) == 1
    assert {cut for cut, _ in profile.encode_s} == {0, 1}


def test_a_slow_machine_runs_fewer_times(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    profile = measure_profile(
        SegmentRuntime.load(folder), 50, lambda *step: told.append(step), clock=TickingClock(), budget_s=0.1
    )
    assert profile.repeats == 3
    assert told[-1] == (5, 52)


def test_a_profile_is_kept_and_read_again(folder: Path, tmp_path: Path) -> None:
    profile = measure_profile(SegmentRuntime.load(folder), 3, clock=TickingClock())
    save_profile(profile, tmp_path / "profile.json")
    assert load_profile(tmp_path / "profile.json") == profile


def test_a_full_disk_leaves_no_half_a_profile_and_no_older_one_is_lost(folder: Path, tmp_path: Path) -> None:
    profile = measure_profile(SegmentRuntime.load(folder), 3, clock=TickingClock())
    for path in (tmp_path / "new.json", tmp_path / "old.json"):
        if path.stem == "old":
            save_profile(profile, path)
        with files_bounded_to(0), pytest.raises(StorageError, match="free some space"):
            save_profile(replace(profile, repeats=99), path)
    assert [file.name for file in tmp_path.iterdir()] == ["old.json"]
    assert load_profile(tmp_path / "old.json") == profile


def test_a_profile_goes_where_a_link_leads_and_into_what_is_no_file(folder: Path, tmp_path: Path) -> None:
    profile = measure_profile(SegmentRuntime.load(folder), 3, clock=TickingClock())
    (tmp_path / "link.json").symlink_to(tmp_path / "there.json")
    save_profile(profile, tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert load_profile(tmp_path / "there.json") == profile
    reading, writing = os.pipe()
    save_profile(profile, Path(f"/proc/self/fd/{writing}"))
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        assert pipe.read() == (tmp_path / "there.json").read_text()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "segment_s": ["x"]}'])
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(ModelFileError, match="measure again"):
        load_profile(tmp_path / "p.json")


def test_a_profile_with_an_unknown_field_is_refused(folder: Path, tmp_path: Path) -> None:
    save_profile(measure_profile(SegmentRuntime.load(folder), 1, clock=TickingClock()), tmp_path / "p.json")
    document = json.loads((tmp_path / "p.json").read_text())
    (tmp_path / "p.json").write_text(json.dumps(document | {"colour": "blue"}))
    with pytest.raises(ModelFileError, match="not a profile"):
        load_profile(tmp_path / "p.json")


def test_files_that_cannot_be_reached_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="No such file"):
        load_profile(tmp_path / "nowhere.json")
    profile = measure_profile(SegmentRuntime.load(folder), 1, clock=TickingClock())
    with pytest.raises(StorageError, match="No such file"):
        save_profile(profile, tmp_path / "nowhere" / "p.json")


def test_the_machine_has_a_name() -> None:
    assert len(machine_name()) > 5


def test_a_made_up_picture_is_neither_flat_nor_noise(folder: Path) -> None:
    manifest: Manifest = SegmentRuntime.load(folder, segments=range(0), with_exits=False).manifest
    picture = made_up_input(manifest).picture
    assert picture is not None
    assert picture.std() > 20
