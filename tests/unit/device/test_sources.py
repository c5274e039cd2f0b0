"""Sources: what they deliver, and what is counted when they fail."""

from __future__ import annotations

import os
import re
import sys
import threading
import types
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from device.settings import DeviceSettings
from device.sources import open_source
from device.sources.arrivals import Periodic, Poisson, Trace, parse_arrivals, read_trace
from device.sources.feeding import Feeder
from device.sources.folder import FolderSource
from device.sources.source import Problem, SourceWatch
from device.sources.standard_input import RawFormat, StandardInputSource, parse_raw_format
from device.sources.video import CameraSource, VideoSource
from twinsplit.clock import ManualClock
from twinsplit.errors import SettingsError, SourceError


class PatientWatch(SourceWatch):
    """Does not wait: the clock jumps."""

    def __init__(self, clock: ManualClock, **changes) -> None:
        super().__init__(clock.monotonic_s, is_live=changes.get("is_live", False), stall_s=5.0)
        self.clock = clock
        self.pauses: list[int] = []

    def sleep_until(self, instant_s: float) -> bool:
        self.clock.advance(max(0.0, instant_s - self.clock.monotonic_s()))
        return not self.is_stopping

    def pause(self, failures: int) -> bool:
        self.pauses.append(failures)
        return not self.is_stopping


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(50.0)


@pytest.fixture
def watch(clock: ManualClock) -> PatientWatch:
    return PatientWatch(clock)


def first(iterator, count):
    return list(islice(iterator, count))


class TestArrivals:
    def test_periodic_ones_keep_their_distance(self):
        assert first(Periodic(4.0).offsets_s(), 3) == [0.0, 0.25, 0.5]

    def test_poisson_ones_have_their_rate_and_follow_the_seed(self):
        offsets_s = first(Poisson(5.0, seed=1).offsets_s(), 5000)
        assert offsets_s[-1] == pytest.approx(1000.0, rel=0.05)
        assert offsets_s == sorted(offsets_s)
        assert first(Poisson(5.0, seed=1).offsets_s(), 20) == offsets_s[:20] != first(Poisson(5.0, 2).offsets_s(), 20)

    def test_a_trace_is_read_line_by_line(self, tmp_path):
        path = tmp_path / "trace.txt"
        path.write_text("# recorded\n0\n0.5\n\n2.25\n")
        assert parse_arrivals(f"trace:{path}", 0) == Trace((0.0, 0.5, 2.25))

    @pytest.mark.parametrize("text", ["poisson", "poisson:0", "periodic:-1", "uniform:3", "poisson:inf", "trace:"])
    def test_others_are_refused(self, text):
        with pytest.raises(SettingsError, match="--arrivals"):
            parse_arrivals(text, 0)

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("1\n0.5\n", ":2: '0.5' is no offset"),
            ("soon\n", ":1: 'soon' is no offset"),
            ("0\n1700000000123\n", ":2: '1700000000123' is no offset in seconds from the start"),
            ("# nothing\n", "no arrivals"),
        ],
    )
    def test_a_bad_trace_is_refused_with_its_line(self, tmp_path, content, problem):
        path = tmp_path / "trace.txt"
        path.write_text(content)
        with pytest.raises(SettingsError, match=problem):
            read_trace(path)

    def test_a_trace_that_is_not_there_is_refused(self, tmp_path):
        with pytest.raises(SettingsError, match="No such file"):
            read_trace(tmp_path / "none.txt")


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        for name in ("b.jpg", "a.png", "sub/c.JPG"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(name.encode())
        (tmp_path / "labels.csv").write_text("file,label\n")
        np.save(tmp_path / "d.npy", np.arange(3))
        return tmp_path

    def test_files_come_by_name_at_their_instants(self, folder, clock, watch):
        source = FolderSource(folder, Periodic(2.0), clock.monotonic_s, is_repeated=False)
        frames = list(source.frames(watch))
        assert [f.name for f in frames] == ["a.png", "b.jpg", "d.npy", "sub/c.JPG"]
        assert [f.arrived_at_s for f in frames] == [50.0, 50.5, 51.0, 51.5]
        assert frames[0].data == b"a.png"
        assert frames[2].data.tolist() == [0, 1, 2]
        assert watch.frames == 4

    def test_they_start_over(self, folder, clock, watch):
        frames = first(FolderSource(folder, Periodic(2.0), clock.monotonic_s).frames(watch), 5)
        assert [f.name for f in frames][4] == "a.png"

    def test_a_shuffle_follows_the_seed(self, folder, clock, watch):
        def names(seed):
            source = FolderSource(folder, Periodic(2.0), clock.monotonic_s, is_shuffled=True, seed=seed)
            return [f.name for f in first(source.frames(watch), 12)]

        assert names(3) == names(3)
        assert len({tuple(names(seed)) for seed in range(5)}) > 1
        assert sorted(names(3)[:4]) == ["a.png", "b.jpg", "d.npy", "sub/c.JPG"]

    def test_a_file_that_vanishes_is_counted_and_the_others_go_on(self, folder, clock, watch):
        source = FolderSource(folder, Periodic(2.0), clock.monotonic_s, is_repeated=False)
        (folder / "b.jpg").unlink()
        (folder / "d.npy").write_bytes(b"no array")
        assert [f.name for f in source.frames(watch)] == ["a.png", "sub/c.JPG"]
        assert watch.problems == {Problem.UNREADABLE: 2}

    def test_it_stops_when_told(self, folder, clock, watch):
        frames = FolderSource(folder, Periodic(2.0), clock.monotonic_s).frames(watch)
        next(frames)
        watch.stop()
        assert list(frames) == []

    def test_a_folder_without_pictures_is_refused(self, tmp_path, clock):
        with pytest.raises(SourceError, match="holds no pictures"):
            FolderSource(tmp_path, Periodic(1.0), clock.monotonic_s)
        with pytest.raises(SourceError, match="is no folder"):
            FolderSource(tmp_path / "none", Periodic(1.0), clock.monotonic_s)


def jpeg_of(width: int = 32, height: int = 16, seed: int = 0) -> bytes:
    import io

    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


class TestStandardInput:
    def frames_of(self, data: bytes, clock, watch, raw_format=None, chunk=1 << 16):
        reader, writer = os.pipe()

        def write() -> None:
            with os.fdopen(writer, "wb", buffering=0) as pipe:
                for start in range(0, len(data), chunk):
                    pipe.write(data[start : start + chunk])

        thread = threading.Thread(target=write)
        thread.start()
        try:
            return list(StandardInputSource(reader, raw_format, clock.monotonic_s).frames(watch))
        finally:
            os.close(reader)
            thread.join()

    def test_mjpeg_pictures_are_told_apart(self, clock, watch):
        pictures = [jpeg_of(seed=n) for n in range(3)]
        frames = self.frames_of(b"".join(pictures), clock, watch, chunk=100)
        assert [f.data for f in frames] == pictures
        assert [f.name for f in frames] == ["1", "2", "3"]
        assert not watch.problems

    def test_bytes_between_pictures_are_skipped_and_counted(self, clock, watch):
        frames = self.frames_of(b"noise" + jpeg_of(), clock, watch)
        assert len(frames) == 1
        assert watch.problems == {Problem.UNREADABLE: 1}

    def test_another_size_is_counted_and_delivered(self, clock, watch):
        frames = self.frames_of(jpeg_of(32, 16) + jpeg_of(64, 48) + jpeg_of(64, 48), clock, watch)
        assert len(frames) == 3
        assert watch.problems == {Problem.SIZE_CHANGED: 1}

    def test_a_torn_last_picture_is_counted(self, clock, watch):
        assert len(self.frames_of(jpeg_of() + jpeg_of()[:-10], clock, watch)) == 1
        assert watch.problems == {Problem.UNREADABLE: 1}

    @pytest.mark.parametrize(
        ("raw_format", "cure"),
        [(None, "rpicam-vid --codec mjpeg .* --raw-format"), (RawFormat("gray", 99, 99), "of 9801 bytes are expected")],
    )
    def test_input_without_any_frame_is_named_with_the_cure(self, clock, watch, monkeypatch, raw_format, cure):
        notes = []
        monkeypatch.setattr(watch, "note", lambda problem, **fields: notes.append((problem, fields["cure"])))
        with pytest.raises(SourceError, match=f"no frame in 3000 bytes; .*{cure}"):
            self.frames_of(bytes(3000), clock, watch, raw_format)
        assert notes
        assert all(problem is Problem.UNREADABLE and re.search(cure, text) for problem, text in notes)

    def test_input_without_a_byte_is_a_source_that_has_ended(self, clock, watch):
        assert self.frames_of(b"", clock, watch) == []

    def test_raw_frames_are_cut_by_their_size(self, clock, watch):
        pixels = np.arange(2 * 2 * 3 * 4, dtype=np.uint8).reshape(2, 2, 4, 3)
        frames = self.frames_of(pixels.tobytes(), clock, watch, RawFormat("rgb24", 4, 2), chunk=7)
        assert [f.data.tolist() for f in frames] == pixels.tolist()

    def test_a_torn_last_raw_frame_is_counted(self, clock, watch):
        assert len(self.frames_of(bytes(20), clock, watch, RawFormat("gray", 4, 4))) == 1
        assert watch.problems == {Problem.UNREADABLE: 1}

    def test_it_stops_while_nothing_comes(self, clock, watch):
        reader, writer = os.pipe()
        watch.stop()
        assert list(StandardInputSource(reader, None, clock.monotonic_s).frames(watch)) == []
        os.close(reader)
        os.close(writer)

    def test_one_that_cannot_be_read_is_named(self, tmp_path, clock, watch):
        with (tmp_path / "only-written").open("wb") as file:
            source = StandardInputSource(file.fileno(), None, clock.monotonic_s)
            with pytest.raises(SourceError, match="standard input: Bad file descriptor; send frames to it"):
                list(source.frames(watch))

    def test_bgr_and_gray_become_what_preprocessing_takes(self):
        assert RawFormat("bgr24", 1, 1).frame(bytes((1, 2, 3))).tolist() == [[[3, 2, 1]]]
        assert RawFormat("gray", 2, 1).frame(bytes((7, 8))).tolist() == [[7, 8]]

    @pytest.mark.parametrize("text", ["rgb24", "rgb24:0x5", "yuv:4x4", "rgb24:99999x1", "rgb24:4 x 4"])
    def test_other_raw_formats_are_refused(self, text):
        with pytest.raises(SettingsError, match="--raw-format"):
            parse_raw_format(text)


class FakeCapture:
    """A camera that gives what a test laid down: a picture, or None where reading fails."""

    laid_down: list[list[np.ndarray | None]]
    openings = 0

    def __init__(self, target) -> None:
        type(self).openings += 1
        self._frames = type(self).laid_down.pop(0) if type(self).laid_down else []
        self.is_open = bool(self._frames)

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.is_open

    def read(self):
        frame = self._frames.pop(0) if self._frames else None
        return frame is not None, frame

    def get(self, what) -> float:
        return 10.0

    def release(self) -> None:
        self._frames = []


@pytest.fixture
def camera(monkeypatch):
    class Capture(FakeCapture):
        pass

    monkeypatch.setitem(sys.modules, "cv2", types.SimpleNamespace(VideoCapture=Capture, CAP_PROP_FPS=5))
    return Capture


def picture(height: int = 4, width: int = 6) -> np.ndarray:
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = 9  # blue comes first in OpenCV
    return frame


class TestVideo:
    def test_without_opencv_it_says_what_to_install(self, monkeypatch, clock):
        monkeypatch.setitem(sys.modules, "cv2", None)
        with pytest.raises(SourceError, match=r"pip install 'twinsplit\[video\]'"):
            CameraSource("0", clock.monotonic_s)

    def test_a_camera_that_cannot_be_opened_is_refused(self, camera, clock):
        camera.laid_down = []
        with pytest.raises(SourceError, match="camera:3 cannot be opened"):
            CameraSource("3", clock.monotonic_s)

    def test_pictures_come_in_rgb_order(self, camera, clock, watch):
        camera.laid_down = [[picture()]]
        (frame,) = first(CameraSource("0", clock.monotonic_s).frames(watch), 1)
        assert frame.data[0, 0].tolist() == [0, 0, 9]
        assert frame.arrived_at_s == 50.0

    def test_a_camera_that_vanishes_is_counted_and_opened_again(self, camera, clock, watch):
        camera.laid_down = [[picture(), None], [None], [picture()]]
        frames = first(CameraSource("0", clock.monotonic_s).frames(watch), 2)
        assert len(frames) == 2
        assert watch.problems == {Problem.LOST: 2}
        assert watch.pauses == [1, 2], "pauses grow"
        assert camera.openings == 3

    def test_a_camera_that_changes_its_size_is_counted(self, camera, clock, watch):
        camera.laid_down = [[picture(), picture(8, 6)]]
        first(CameraSource("0", clock.monotonic_s).frames(watch), 2)
        assert watch.problems == {Problem.SIZE_CHANGED: 1}

    def test_a_file_is_played_at_its_rate_and_over_again(self, camera, clock, watch):
        camera.laid_down = [[picture(), picture()], [picture(), picture()]]
        source = VideoSource("clip.mp4", clock.monotonic_s)
        assert not source.is_live
        frames = first(source.frames(watch), 3)
        assert [f.arrived_at_s for f in frames] == pytest.approx([50.0, 50.1, 50.2])

    def test_or_once(self, camera, clock, watch):
        camera.laid_down = [[picture(), picture()]]
        source = VideoSource("clip.mp4", clock.monotonic_s, is_repeated=False)
        assert len(list(source.frames(watch))) == 2

    def test_a_password_in_its_address_is_shown_nowhere(self, camera, clock):
        camera.laid_down = []
        with pytest.raises(SourceError) as refused:
            VideoSource("rtsp://user:secret@192.0.2.1/stream", clock.monotonic_s)
        assert "secret" not in str(refused.value)
        assert "user:***@192.0.2.1" in str(refused.value)

    def test_a_stream_is_live(self, camera, clock):
        camera.laid_down = [[picture()]]
        assert VideoSource("rtsp://192.0.2.1/stream", clock.monotonic_s).is_live


class TestWatch:
    def test_a_live_source_that_is_silent_too_long_is_counted_once(self, clock):
        watch = PatientWatch(clock, is_live=True)
        watch.note_frame()
        clock.advance(5.1)
        watch.look()
        watch.look()
        assert watch.problems == {Problem.STALLED: 1}
        watch.note_frame()
        clock.advance(5.1)
        watch.look()
        assert watch.problems == {Problem.STALLED: 2}

    def test_it_waits_for_an_instant_of_the_next_age_until_it_is_stopped(self, clock):
        watch = SourceWatch(clock.monotonic_s, is_live=False, stall_s=5.0)
        threading.Timer(0.01, watch.stop).start()
        assert not watch.sleep_until(1e12)

    def test_others_may_be_silent(self, clock, watch):
        clock.advance(100.0)
        watch.look()
        assert not watch.problems


class TestFeeder:
    def feed(self, folder: Path, clock, watch, **limits) -> list[str]:
        taken: list[str] = []
        ended = threading.Event()
        source = FolderSource(folder, Periodic(2.0), clock.monotonic_s)
        feeder = Feeder(source, watch, lambda f: taken.append(f.name), ended.set, clock.monotonic_s, **limits)
        feeder.start()
        assert ended.wait(20.0)
        feeder.stop()
        return taken

    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "a.jpg").write_bytes(b"a")
        return tmp_path

    def test_it_takes_so_many(self, folder, clock, watch):
        assert self.feed(folder, clock, watch, count=3) == ["a.jpg"] * 3

    def test_or_for_so_long(self, folder, clock, watch):
        assert self.feed(folder, clock, watch, duration_s=1.0) == ["a.jpg"] * 3  # at 0, 0.5 and 1 s

    def test_a_source_that_breaks_ends_the_run_in_order(self, clock, watch, caplog):
        class Broken:
            is_live = False

            def frames(self, watch):
                raise SourceError("the disk was pulled out")
                yield

        ended = threading.Event()
        feeder = Feeder(Broken(), watch, lambda f: None, ended.set, clock.monotonic_s)
        feeder.start()
        assert ended.wait(20.0)
        assert "pulled out" in str(feeder.failure)


class TestOpening:
    def settings(self, **changes) -> DeviceSettings:
        return DeviceSettings(model=Path("model"), **changes)

    def test_submissions_need_no_source(self, clock):
        assert open_source(self.settings(), clock.monotonic_s) is None

    @pytest.mark.parametrize("text", ["frames:", "frames", "usb:0", "camera:", ""])
    def test_what_is_no_source_is_refused_with_those_there_are(self, text, clock):
        with pytest.raises(SettingsError, match="use submit, frames:DIR, camera:NUMBER"):
            open_source(self.settings(source=text), clock.monotonic_s)

    def test_a_raw_format_belongs_to_standard_input(self, clock):
        with pytest.raises(SettingsError, match="give it with --source -"):
            open_source(self.settings(source="frames:x", raw_format="gray:1x1"), clock.monotonic_s)
