"""What the options of ``twinsplit model split`` and ``add-exits`` mean."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click
from click.core import ParameterSource
from pydantic import ValidationError

from twinsplit.errors import SettingsError
from twinsplit.model.frame_parts import FrameParts, shared_out
from twinsplit.model.frames import LabelledFrames, is_label_table, read_classes, read_frames
from twinsplit.model.manifest import Preprocessing, TensorSpec
from twinsplit.model.preprocessing import levels_left

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_IMAGENET_MARGIN = 256 / 224
_FEWEST_LEVELS = 16


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


def frame_parts(
    classes: Sequence[str],
    folder: Path,
    table: Path | None,
    calibration_folder: Path | None,
    test_folder: Path | None,
    limit: int,
    seed: int,
) -> FrameParts:
    """Frames to train, calibrate and test exits with; the last two from ``folder`` unless they have one of their own.

    Raises:
        SourceError: a folder without frames.
        SettingsError: too few frames, a label that is no class, or a file that is no table of labels.
    """
    if table is not None and not is_label_table(table):
        raise SettingsError(
            f"--labels {table}: not a table of frames, which begins with the line `file,label`; "
            "class names are the model's own (twinsplit model split --labels)"
        )
    calibration, test = (
        None if other is None else read_frames(other, classes=classes, limit=limit)
        for other in (calibration_folder, test_folder)
    )
    frames = read_frames(folder, classes=classes, table=table, limit=limit)
    return shared_out(frames, seed, calibration=calibration, test=test)


def command_line(context: click.Context) -> str:
    """The command of ``context`` with the options that were given, so that it can be run again."""
    words = ["twinsplit", "model", str(context.info_name)]
    for parameter in context.command.params:
        name = parameter.name or ""
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(parameter, click.Option):
                words.append(parameter.opts[0])
            if each is not True:
                words.append(str(each))
    return shlex.join(words)


def preprocessing_of(choice: str, entry: TensorSpec) -> Preprocessing:
    """Preprocessing for the input ``entry``: ``imagenet``, or settings in a JSON or TOML file.

    ``imagenet`` scales the shorter side to 256 for an input of 224 (in proportion for others) and crops the middle.

    Raises:
        SettingsError: the file cannot be read, holds a setting that does not exist or fit, or leaves hardly anything of
            a picture in an input of whole numbers.
        ManifestError: the input is no picture.
    """
    preprocessing = _preprocessing_said(choice, entry)
    levels = levels_left(preprocessing, entry)
    if levels < _FEWEST_LEVELS:
        raise SettingsError(
            f"--preprocess {choice}: the input is {entry.dtype}, and of the 256 values of a pixel {levels} would be "
            "left in it; name a file that says scale = 1.0 for pixels as they are, and mean = [128.0], too, where they "
            "begin at -128"
        )
    return preprocessing


def _preprocessing_said(choice: str, entry: TensorSpec) -> Preprocessing:
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
    except (ValueError, TypeError, RecursionError) as error:
        raise SettingsError(f"{path}: not JSON or TOML settings ({error})") from None
