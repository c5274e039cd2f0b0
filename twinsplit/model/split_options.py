"""What the options of ``twinsplit model split`` mean."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from twinsplit.errors import SettingsError
from twinsplit.model.frames import LabelledFrames, is_label_table, read_classes, read_frames
from twinsplit.model.manifest import Preprocessing, TensorSpec

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_IMAGENET_MARGIN = 256 / 224


def pair(text: str, option: str, form: str) -> tuple[str, str]:
    """Both sides of the last ``=`` in ``text`` (tensor names may hold one).

    Raises:
        SettingsError: a side is missing.
    """
    key, separator, value = text.rpartition("=")
    if not separator or not key or not value:
        raise SettingsError(f"{option} {text}: write it as {form}")
    return key, value


def parsed_shapes(shapes: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Input name to shape from texts such as ``data=1,3,224,224``.

    Raises:
        SettingsError: not of that form.
    """
    parsed = {}
    for text in shapes:
        key, value = pair(text, "--shape", "INPUT=1,3,224,224")
        sizes = value.replace("x", ",").split(",")
        if not all(size.strip().isdecimal() and int(size) > 0 for size in sizes):
            raise SettingsError(f"--shape {text}: sizes must be whole numbers above 0, as in INPUT=1,3,224,224")
        parsed[key] = tuple(int(size) for size in sizes)
    return parsed


def read_labels(files: tuple[Path, ...]) -> tuple[tuple[str, ...], Path | None]:
    """Class names, and the table of the frames' labels, from files of either kind.

    Raises:
        SettingsError: a file that cannot be read.
    """
    classes: tuple[str, ...] = ()
    table: Path | None = None
    for file in files:
        if is_label_table(file):
            table = file
        else:
            classes = read_classes(file)
    return classes, table


def frame_sets(
    folder: Path | None,
    calibration_folder: Path | None,
    classes: tuple[str, ...],
    table: Path | None,
    limit: int,
    has_exits: bool,
) -> tuple[LabelledFrames | None, LabelledFrames | None]:
    """Frames to measure with and, where there are exits, to calibrate them with (by default every other one).

    Raises:
        SourceError: a folder without frames.
        SettingsError: a label that is neither a class index nor a class name.
    """
    if folder is None:
        return None, None
    if not has_exits:
        return read_frames(folder, classes=classes, table=table, limit=limit), None
    if calibration_folder is not None:
        return (
            read_frames(folder, classes=classes, table=table, limit=limit),
            read_frames(calibration_folder, classes=classes, limit=limit),
        )
    both = read_frames(folder, classes=classes, table=table, limit=2 * limit)
    return both.part(0, 2), both.part(1, 2)


def preprocessing_of(choice: str, entry: TensorSpec) -> Preprocessing:
    """Preprocessing for the input ``entry``: ``imagenet``, or settings in a JSON or TOML file.

    ``imagenet`` scales the shorter side to 256 for an input of 224 (in proportion for others) and crops the middle.

    Raises:
        SettingsError: the file cannot be read, or holds a setting that does not exist or fit.
    """
    layout: Literal["nchw", "nhwc"] = "nhwc" if len(entry.shape) == 4 and entry.shape[3] in (1, 3) else "nchw"
    if choice == "imagenet":
        side = min(entry.shape[1:3] if layout == "nhwc" else entry.shape[2:4], default=224)
        return Preprocessing(
            kind="image",
            fit="crop",
            resize_to=round(side * _IMAGENET_MARGIN),
            layout=layout,
            mean=_IMAGENET_MEAN,
            std=_IMAGENET_STD,
        )
    path = Path(choice)
    try:
        if path.suffix == ".toml":
            if sys.version_info >= (3, 11):
                import tomllib
            else:
                import tomli as tomllib
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        else:
            document = json.loads(path.read_text(encoding="utf-8"))
        return Preprocessing.model_validate({"kind": "image", "layout": layout} | document)
    except OSError as error:
        raise SettingsError(f"--preprocess {choice}: {error.strerror}; say imagenet, none or name a file") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SettingsError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{path}: not JSON or TOML settings ({error})") from None
