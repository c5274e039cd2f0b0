"""``twinsplit config show``: each setting, its value and where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import click

from twinsplit.credentials import without_password
from twinsplit.errors import ConfigurationError, SettingsError
from twinsplit.settings import (
    ENTRY_POINT_GROUP,
    BaseServiceSettings,
    Origin,
    check_given,
    load_settings,
    ordered_keys,
    place_of,
    resolve,
)


@click.group()
def config() -> None:
    """Settings in force and where each came from."""


@config.command()
@click.argument("service", required=False)
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), metavar="FILE", help="TOML file of the service."
)
@click.option("--json", "is_json", is_flag=True, help="One JSON object per service instead of TOML.")
def show(service: str | None, config_path: Path | None, is_json: bool) -> None:
    """Print every setting of SERVICE (device, edge or twin; all without one) as TOML that can be used as a file."""
    services = registered_services()
    if service is not None and service not in services:
        raise SettingsError(f"{service!r} is not a service; name one of {', '.join(services)}")
    if service is None and config_path is not None:
        raise SettingsError(
            "--config is one service's file; name the service too: twinsplit config show device --config FILE"
        )
    for name in [service] if service is not None else services:
        rows = list(settings_rows(settings_class(name), config_path))
        click.echo(_as_json(name, rows) if is_json else _as_toml(name, rows))


def registered_services() -> list[str]:
    """Names of the services that registered a settings class."""
    return sorted(_registrations())


def settings_class(service: str) -> type[BaseServiceSettings]:
    """The settings class that ``service`` registered.

    Raises:
        ConfigurationError: it cannot be imported.
    """
    point = _registrations()[service]
    try:
        loaded = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"settings of {point.name} cannot be loaded: {error}; reinstall twinsplit") from None
    if not (isinstance(loaded, type) and issubclass(loaded, BaseServiceSettings)):
        raise ConfigurationError(f"{point.value} is not a settings class; reinstall twinsplit")
    return loaded


def _registrations() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def settings_rows(cls: type[BaseServiceSettings], config_path: Path | None) -> Iterator[tuple[str, Any, str]]:
    """(Key, value or ``None``, where it came from) of every setting; needed ones that nobody gave are named so.

    Raises:
        SettingsError: as :func:`twinsplit.settings.load_settings`, except for needed settings that are missing.
    """
    found = resolve(cls, config_path, None)
    values: dict[str, Any] = {}
    missing = {key for key, field in cls.model_fields.items() if field.is_required() and key not in found.given}
    if missing:
        check_given(cls, found, config_path)
    else:
        values = dict(load_settings(cls, config_path).values)
    for key in ordered_keys(cls):
        field = cls.model_fields[key]
        origin = found.origins[key]
        place = (
            origin.value if origin is Origin.DEFAULT else f"{origin.value} {place_of(cls, key, origin, config_path)}"
        )
        if key in missing:
            yield key, None, "needed, not set"
        elif key in values:
            yield key, values[key], place
        else:
            yield key, found.given.get(key, field.get_default(call_default_factory=True)), place


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return without_password(value) if isinstance(value, str) else value


def _as_toml(service: str, rows: list[tuple[str, Any, str]]) -> str:
    lines = [f"# {service}"]
    for key, value, place in rows:
        text = f"# {key} =" if value is None else f"{key} = {_toml_value(_plain(value))}"
        lines.append(f"{text:<48}  # {place}")
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, float):
        return repr(value)
    # All else is the same text in JSON, but for pairs of surrogates and for the one control character that JSON leaves.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _as_json(service: str, rows: list[tuple[str, Any, str]]) -> str:
    settings = {key: {"value": _plain(value), "origin": place} for key, value, place in rows}
    return json.dumps({"service": service, "settings": settings})
