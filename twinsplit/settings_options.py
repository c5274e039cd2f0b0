"""Command line options made from a settings class, so that each setting is written down once."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from twinsplit.credentials import without_password
from twinsplit.settings import (
    BaseServiceSettings,
    Loaded,
    Origin,
    flag_name,
    load_settings,
    ordered_keys,
    variable_name,
)

P = ParamSpec("P")
R = TypeVar("R")


def settings_options(cls: type[BaseServiceSettings]) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a click command ``--config`` and one option per setting; it is called with ``loaded=Loaded[cls]``."""

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(function)
        def command(*args: Any, config: Path | None, **given: Any) -> R:
            flags = {key: given.pop(key) for key in cls.model_fields}
            # An option that may be repeated comes as an empty tuple where it was not given.
            flags = {key: None if value == () else value for key, value in flags.items()}
            return function(*args, loaded=load_settings(cls, config, flags), **given)

        decorated: Callable[..., R] = command
        for key in reversed(ordered_keys(cls)):
            decorated = _option(cls, key, cls.model_fields[key])(decorated)
        return click.option(
            "--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML file with any of these settings."
        )(decorated)

    return decorate


def given_flags(loaded: Loaded[Any]) -> list[str]:
    """Words of a command line that bring about ``loaded`` again: what a file says by ``--config``, the rest by flags.

    A password is shown as ``***``; where it came from a variable, that is left to say it.
    """
    words = [] if loaded.config_path is None else ["--config", str(loaded.config_path)]
    for key in ordered_keys(type(loaded.values)):
        origin, value, flag = loaded.origins[key], getattr(loaded.values, key), flag_name(key)
        if origin not in (Origin.FLAG, Origin.VARIABLE):
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
            continue
        for part in value if isinstance(value, tuple) else (value,):
            text = str(part.value if isinstance(part, Enum) else part)
            shown = without_password(text)
            if shown == text or origin is Origin.FLAG:
                words += [flag, shown]
    return words


def metavar_of(annotation: Any) -> str:
    """What stands for a value of this type in help and docs."""
    kind = _without_none(annotation)
    origin = get_origin(kind)
    if origin is Literal:
        return "|".join(str(value) for value in get_args(kind))
    if origin in (tuple, list):
        return metavar_of(get_args(kind)[0])
    if isinstance(kind, type):
        if issubclass(kind, Enum):
            return "|".join(str(member.value) for member in kind)
        for base, name in ((bool, "BOOLEAN"), (int, "INTEGER"), (float, "NUMBER"), (Path, "PATH")):
            if issubclass(kind, base):
                return name
    return "TEXT"


def default_of(field: FieldInfo) -> str:
    """A field's default as docs and help show it."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None or default == ():
        return "not set"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, Enum):
        return str(default.value)
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return str(default)


def _option(
    cls: type[BaseServiceSettings], key: str, field: FieldInfo
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    text = f"{field.description}  [{default_of(field)}; {variable_name(cls, key)}]"
    kind = _without_none(field.annotation)
    if kind is bool:
        name = flag_name(key)
        return click.option(f"{name}/--no-{name[2:]}", key, default=None, help=text)
    is_multiple = get_origin(kind) in (tuple, list)
    return click.option(flag_name(key), key, default=None, multiple=is_multiple, metavar=metavar_of(kind), help=text)


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return kinds[0] if len(kinds) == 1 else annotation
    return annotation
