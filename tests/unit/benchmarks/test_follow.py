from __future__ import annotations

from pathlib import Path

from benchmarks.testbed.follow import LineFollower


def test_lines_are_given_once_and_only_when_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    follower = LineFollower(path)
    assert follower.new_objects() == []
    with path.open("a") as file:
        file.write('{"a": 1}\n{"a"')
        file.flush()
        assert follower.new_objects() == [{"a": 1}]
        file.write(": 2}\n")
        file.flush()
        assert follower.new_objects() == [{"a": 2}]
    assert follower.new_objects() == []
    assert follower.objects == [{"a": 1}, {"a": 2}]


def test_what_is_no_json_object_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'Traceback\n[1]\n\xff\n{"a": 1}\n')
    assert LineFollower(path).new_objects() == [{"a": 1}]
