from pathlib import Path

import numpy as np
import pytest

from tests.unit.model.conftest import CLASSES, encoded, picture
from twinsplit.errors import SettingsError, SourceError
from twinsplit.model.frames import LabelledFrames, is_label_table, read_classes, read_frames


def filled(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(number)))
    return folder


def test_frames_come_in_the_order_of_their_names_without_labels(tmp_path: Path) -> None:
    frames = read_frames(filled(tmp_path, "b.png", "a.jpg", "notes.txt"))
    assert frames.names == ["a.jpg", "b.png"]
    assert frames.labels is None
    assert frames.frames[1] == (tmp_path / "b.png").read_bytes()


def test_a_table_beside_them_holds_indices_or_names(tmp_path: Path) -> None:
    filled(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "labels.csv").write_text("file,label\na.png,3\nb.png,cat\n")
    frames = read_frames(tmp_path, classes=CLASSES)
    assert frames.names == ["a.png", "b.png"]
    assert frames.labels == [3, 2]


def test_a_table_may_lie_elsewhere(tmp_path: Path) -> None:
    filled(tmp_path / "frames", "x/a.png")
    table = tmp_path / "table.csv"
    table.write_text("file,label\nx/a.png,4\n")
    assert is_label_table(table)
    assert read_frames(tmp_path / "frames", table=table).labels == [4]


def test_subfolders_called_like_classes_are_labels(tmp_path: Path) -> None:
    frames = read_frames(filled(tmp_path, "bee/1.png", "ant/1.png"), classes=CLASSES)
    assert frames.labels == [0, 1]


def test_a_limit_takes_them_evenly(tmp_path: Path) -> None:
    filled(tmp_path, *(f"{n:02}.png" for n in range(10)))
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"{n:02}.png,{n}\n" for n in range(10)))
    assert read_frames(tmp_path, limit=5).labels == [0, 2, 4, 6, 8]


def test_every_other_frame_can_be_held_back(tmp_path: Path) -> None:
    filled(tmp_path, *(f"{n}.png" for n in range(5)))
    frames = read_frames(tmp_path)
    assert frames.part(0, 2).names == ["0.png", "2.png", "4.png"]
    assert [f for _, f, _ in frames.part(1, 2)] == [frames.frames[1], frames.frames[3]]
    arrays = LabelledFrames([np.zeros(1), np.ones(1)], [5, 6])
    assert arrays.part(1, 2).labels == [6]


def test_class_names_are_lines(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("ant\nbee \n\ncat\n")
    assert read_classes(file) == ("ant", "bee", "cat")
    assert not is_label_table(file)


def test_a_folder_without_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no frames"):
        read_frames(tmp_path)
    with pytest.raises(SourceError, match="no such folder"):
        read_frames(tmp_path / "nowhere")


@pytest.mark.parametrize("row", ["a.png,fox", "a.png,9", "a.png,", "a.png,-1"])
def test_a_label_that_means_nothing_is_refused(tmp_path: Path, row: str) -> None:
    filled(tmp_path, "a.png")
    (tmp_path / "labels.csv").write_text(f"file,label\n{row}\n")
    with pytest.raises(SettingsError, match=r"labels\.csv"):
        read_frames(tmp_path, classes=CLASSES)


def test_files_of_labels_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_classes(tmp_path / "nowhere")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="UTF-8"):
        read_classes(tmp_path / "binary")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SettingsError, match="no class name"):
        read_classes(tmp_path / "empty")


def test_frames_and_labels_must_be_as_many() -> None:
    with pytest.raises(SettingsError, match="1 frames but 2 labels"):
        LabelledFrames([b""], [1, 2])


def test_a_table_as_spreadsheets_write_it_is_one_and_one_with_semicolons_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_bytes(b"\xef\xbb\xbffile,label\r\n0.png,1\r\n")
    assert is_label_table(table)
    table.write_text("file;label\n0.png;1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="write a comma"):
        is_label_table(table)
