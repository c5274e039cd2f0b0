import pytest

from twinsplit.errors import SettingsError
from twinsplit.model.frame_parts import FrameParts, check_parts, shared_out
from twinsplit.model.frames import LabelledFrames


def numbered(count: int, label: int | None = 0) -> LabelledFrames:
    """Frames that can be told apart."""
    return LabelledFrames([b"%d" % i for i in range(count)], None if label is None else [label] * count)


def contents(part: LabelledFrames) -> set[bytes]:
    return {bytes(frame) for frame in part.frames}


def test_no_frame_serves_two_purposes_and_none_is_lost() -> None:
    parts = shared_out(numbered(1000), seed=1)
    train, calibration, test = (contents(p) for p in (parts.train, parts.calibration, parts.test))
    assert (len(train), len(calibration), len(test)) == (700, 150, 150)
    assert len(train | calibration | test) == 1000


def test_the_seed_decides_who_goes_where() -> None:
    first, again, other = (shared_out(numbered(300), seed=seed) for seed in (1, 1, 2))
    assert contents(first.test) == contents(again.test)
    assert contents(first.test) != contents(other.test)


def test_labels_stay_with_their_frames() -> None:
    frames = LabelledFrames([b"%d" % i for i in range(300)], list(range(300)))
    for part in (lambda p: p.train, lambda p: p.calibration, lambda p: p.test):
        assert all(int(bytes(frame)) == label for _, frame, label in part(shared_out(frames, seed=3)))


def test_few_frames_are_held_out_in_larger_shares() -> None:
    parts = shared_out(numbered(180), seed=1)
    assert (len(parts.train), len(parts.calibration), len(parts.test)) == (100, 40, 40)


def test_frames_given_for_a_purpose_are_used_for_it_alone() -> None:
    calibration, test = numbered(50), numbered(60)
    parts = shared_out(numbered(100), seed=1, calibration=calibration, test=test)
    assert (len(parts.train), parts.calibration, parts.test) == (100, calibration, test)
    assert len(shared_out(numbered(200), seed=1, test=test).train) == 160


@pytest.mark.parametrize(
    ("count", "given", "least"), [(179, {}, 180), (139, {"test": numbered(40)}, 140), (0, {}, 180)]
)
def test_too_few_frames_are_refused(count: int, given: dict[str, LabelledFrames], least: int) -> None:
    with pytest.raises(SettingsError, match=f"{count} frames are too few: {least} are the least"):
        shared_out(numbered(count), seed=1, **given)


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        (FrameParts(numbered(99), numbered(40), numbered(40)), "99 frames to train with are too few: 100"),
        (FrameParts(numbered(100), numbered(39), numbered(40)), "39 frames to calibrate with are too few: 40"),
        (FrameParts(numbered(100), numbered(40), numbered(3)), "3 frames to test with are too few: 40"),
        (FrameParts(numbered(100, 5), numbered(40), numbered(40)), "label 5 is none of the model's 5 classes, 0 to 4"),
        (FrameParts(numbered(100), numbered(40), numbered(40, -1)), "label -1 is none"),
        (FrameParts(numbered(100), numbered(40), numbered(40, None)), "both have labels, or neither"),
    ],
)
def test_parts_that_cannot_be_used_are_refused(parts: FrameParts, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        check_parts(parts, class_count=5)


def test_only_what_is_measured_needs_labels() -> None:
    check_parts(FrameParts(numbered(100, None), numbered(40), numbered(40)), class_count=5)
