"""Settings of the services: one class per service, one place per setting.

A setting is a field with a description. From it come the key of the TOML file, the variable
``TWINSPLIT_<SERVICE>_<KEY>``, the flag ``--key-with-dashes`` and its help, and the row in ``docs/settings.md``. Flags
override variables, variables override the file, the file overrides defaults; what is unknown is refused.
"""

from __future__ import annotations

import difflib
import functools
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from twinsplit.access.rights import WithoutRole
from twinsplit.credentials import without_password
from twinsplit.errors import SettingsError
from twinsplit.transport.tls import TlsFiles

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ENTRY_POINT_GROUP = "twinsplit.settings"
"""Where services register their settings class under the service's name; :mod:`twinsplit` imports no service."""

_CLIENT_PREFIX = "TWINSPLIT_TLS_"
"""Of the variables that commands without settings read."""
_SLIP = 0.9
"""How like a variable's name another must be to count as meant for it (as :mod:`difflib` reckons)."""
_MOST_SHOWN = 1000
"""Characters of a value in an error."""

S = TypeVar("S", bound="BaseServiceSettings")


class BaseServiceSettings(BaseSettings):
    """What every service can be told. Constructing one directly reads no file and no variable (tests, simulator)."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    service: ClassVar[str]
    """Name of the service: ``device``, ``edge`` or ``twin``."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log lines that are written."
    )
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="Form of log lines; auto: text on a terminal, JSON lines elsewhere."
    )
    tls_ca: Path | None = Field(
        None, description="Certificate authority (PEM) that the other side's certificate must be signed by."
    )
    tls_cert: Path | None = Field(None, description="Own certificate chain (PEM).")
    tls_key: Path | None = Field(None, description="Private key of the own certificate (PEM, not encrypted).")
    tls_without_role: WithoutRole = Field(
        WithoutRole.HEALTH,
        description="With mutual TLS: what a certificate of the authority may do that names no role of twinsplit "
        "(twinsplit://ROLE/NAME): health, or everything.",
    )
    insecure: bool = Field(
        False, description="Let gRPC listen beyond loopback without TLS: anyone who reaches the port may use it."
    )
    max_calls_per_peer: int = Field(
        256,
        ge=1,
        description="Calls and streams that one peer (a certificate, or an address beyond loopback) may have open at "
        "once.",
    )
    max_messages_per_peer_s: float = Field(
        5000.0, ge=1, allow_inf_nan=False, description="Messages that one peer may send, per second."
    )

    @property
    def tls(self) -> TlsFiles:
        """TLS files.

        Raises:
            TlsError: a certificate without its key, or the other way round.
        """
        return TlsFiles(self.tls_ca, self.tls_cert, self.tls_key)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class Origin(str, Enum):
    """Where a value came from."""

    DEFAULT = "default"
    FILE = "file"
    VARIABLE = "env"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Loaded(Generic[S]):
    """Settings and where each value came from."""

    values: S
    origins: Mapping[str, Origin]
    config_path: Path | None


@dataclass(frozen=True, slots=True)
class Resolved:
    """Values before they are checked. ``given`` lacks the keys that stand at their default."""

    given: Mapping[str, Any]
    origins: Mapping[str, Origin]


def load_settings(cls: type[S], config_path: Path | None = None, flags: Mapping[str, Any] | None = None) -> Loaded[S]:
    """Settings of a service from flags, variables, a TOML file and defaults, the first that has a value.

    Args:
        cls: the service's class.
        config_path: its TOML file; ``None``: no file.
        flags: values given on the command line by field name; a value of ``None`` is not given.

    Raises:
        SettingsError: unreadable file, unknown key or variable, or a value that does not fit; the text names it.
    """
    found = resolve(cls, config_path, flags)
    try:
        values = cls(**found.given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SettingsError(_problem(cls, first, found.origins, config_path)) from None
    return Loaded(values, found.origins, config_path)


def check_given(cls: type[S], found: Resolved, config_path: Path | None) -> None:
    """Check what was given, though needed settings may be missing.

    Raises:
        SettingsError: a value does not fit.
    """
    try:
        cls(**found.given)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            if each["type"] != "missing":
                raise SettingsError(_problem(cls, each, found.origins, config_path)) from None


def resolve(cls: type[S], config_path: Path | None, flags: Mapping[str, Any] | None) -> Resolved:
    """Collect what was given and where, without checking values.

    Raises:
        SettingsError: unreadable file, unknown key or unknown variable.
    """
    given: dict[str, Any] = {}
    origins = dict.fromkeys(cls.model_fields, Origin.DEFAULT)
    layers = (
        (Origin.FILE, {} if config_path is None else _file_values(cls, config_path)),
        (Origin.VARIABLE, _variable_values(cls)),
        (Origin.FLAG, {key: value for key, value in (flags or {}).items() if value is not None}),
    )
    for origin, values in layers:
        _refuse_unknown(cls, values, functools.partial(place_of, cls, origin=origin, config_path=config_path))
        given.update(values)
        origins.update(dict.fromkeys(values, origin))
    return Resolved(given, origins)


def shown(value: object) -> str:
    """A value that was given, for the person who gave it."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return "that"
    text = without_password(text)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def ordered_keys(cls: type[BaseServiceSettings]) -> list[str]:
    """Settings in the order in which people see them: the service's own before those that every service has."""
    return sorted(cls.model_fields, key=lambda key: key in BaseServiceSettings.model_fields)


def variable_name(cls: type[BaseServiceSettings], key: str) -> str:
    """Environment variable of a setting."""
    return f"{_prefix(cls)}{key.upper()}"


def flag_name(key: str) -> str:
    """Command line flag of a setting."""
    return "--" + key.replace("_", "-")


def place_of(cls: type[BaseServiceSettings], key: str, origin: Origin, config_path: Path | None) -> str:
    """How the user knows the place of a value."""
    if origin is Origin.FLAG:
        return flag_name(key)
    if origin is Origin.VARIABLE:
        return variable_name(cls, key)
    if origin is Origin.FILE:
        return f"{config_path}: {key}"
    return flag_name(key)


class _Variables(EnvSettingsSource):
    # Lists are written as in a shell, not as JSON.
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        return [part.strip() for part in str(value).split(",")]


def _prefix(cls: type[BaseServiceSettings]) -> str:
    return f"TWINSPLIT_{cls.service.upper()}_"


def _variable_values(cls: type[BaseServiceSettings]) -> dict[str, Any]:
    prefix = _prefix(cls)
    _refuse_slips(cls)
    names = {name[len(prefix) :].lower(): None for name in os.environ if name.upper().startswith(prefix)}
    _refuse_unknown(cls, names, lambda key: variable_name(cls, key))
    # An empty variable counts as not set: compose files and unit files pass empty ones on.
    return dict(_Variables(cls, env_prefix=prefix, case_sensitive=False, env_ignore_empty=True)())


def _refuse_slips(cls: type[BaseServiceSettings]) -> None:
    """A variable of no service that only a slip keeps from being one of this service's."""
    services = {cls.service, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))}
    known = (_CLIENT_PREFIX, *(f"TWINSPLIT_{service.upper()}_" for service in services))
    meant = [variable_name(cls, key) for key in cls.model_fields]
    for name in os.environ:
        if name.upper().startswith("TWINSPLIT_") and not name.upper().startswith(known):
            near = difflib.get_close_matches(name.upper(), meant, n=1, cutoff=_SLIP)
            if near:
                raise SettingsError(f"{name} is a setting of no service; did you mean {near[0]}?")


def _file_values(cls: type[BaseServiceSettings], path: Path) -> dict[str, Any]:
    try:
        # Editors of Windows begin a file with a mark of its byte order.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; name a TOML file that this user can read in --config") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8 text; name a TOML file in --config") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: is not TOML: {error}; correct the file") from None
    except (ValueError, RecursionError):
        raise SettingsError(f"{path}: holds a number or a nesting without end; correct the file") from None


def _refuse_unknown(cls: type[BaseServiceSettings], keys: Iterable[str], place: Callable[[str], str]) -> None:
    for key in keys:
        if key in cls.model_fields:
            continue
        near = difflib.get_close_matches(key, cls.model_fields, n=1)
        cure = f"did you mean {near[0]}?" if near else f"see `twinsplit config show {cls.service}` for those there are"
        raise SettingsError(f"{place(key)} is not a setting of {cls.service}; {cure}")


def _problem(
    cls: type[BaseServiceSettings], first: ErrorDetails, origins: Mapping[str, Origin], config_path: Path | None
) -> str:
    if not first["loc"]:
        # A check over several settings says itself which.
        return first["msg"].removeprefix("Value error, ")
    key = str(first["loc"][0])
    place = place_of(cls, key, origins.get(key, Origin.DEFAULT), config_path)
    if first["type"] == "missing":
        return f"{place} is needed; give it there, as {variable_name(cls, key)}, or as {key} in the --config file"
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    return f"{place}: {shown(first['input'])} does not fit: {message} ({cls.model_fields[key].description})"
