"""``install-service`` of device, edge and twin: from a settings file to a unit that is printed or written.

Everything that would make the unit fail on this machine is said here, before systemd is asked.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from twinsplit.errors import ConfigurationError, SettingsError, StorageError
from twinsplit.settings import BaseServiceSettings, Origin, load_settings, variable_name
from twinsplit.systemd.unit import Access, Unit, unit_text
from twinsplit.transport.address import Address, check_is_safe

S = TypeVar("S", bound=BaseServiceSettings)
F = TypeVar("F", bound=Callable[..., Any])

UNIT_FOLDER = Path("/etc/systemd/system")
SETTINGS_FOLDER = Path("/etc/twinsplit")
_OWN_FOLDERS = Path("/var/lib")
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # nosec B108 # compared with, never written to
_CREDENTIALS = ("tls_ca", "tls_cert", "tls_key")


@dataclass(frozen=True, slots=True)
class Request:
    """What ``install-service`` was told on the command line."""

    config: Path
    program: Path
    name: str
    user: str | None
    memory_max: str | None
    cpu_quota: str | None
    allow_device: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a service with certain settings needs of its unit."""

    description: str
    """For people."""
    verb: tuple[str, ...]
    """Words after ``twinsplit``."""
    read: Mapping[str, Path]
    """Paths that must be there, by setting."""
    written: Mapping[str, Path]
    """Paths that are written, by setting."""
    access: tuple[Access, ...]
    threads: int
    """That compute at a time."""
    drain_s: float
    """Time that the service takes to finish what was accepted, seconds."""
    memory_max: str
    """Where the command line names none."""
    cpu_weight: int
    """Beside other services, 100 being usual."""
    frames_from: str | None = None
    """See :class:`Unit`."""


def install(request: Request, place: Place, cls: type[S], needs_of: Callable[[S], Needs]) -> None:
    """Print or write the unit of a service with the settings of ``request.config``.

    Raises:
        SettingsError: the settings, or something that the unit would fail at.
        StorageError: the unit cannot be written.
    """
    settings = settings_of_unit(cls, request)
    needs = needs_of(settings)
    _check_starts(request.config, settings)
    unit = unit_of(request, settings, needs)
    for key, path in {**needs.read, **unit.credentials}.items():
        if not path.exists():
            raise SettingsError(f"{request.config}: {key} = {path} does not exist; copy it there, or correct the file")
    place.take(unit)


def install_options(service: str) -> Callable[[F], F]:
    """Give a click command the options of ``install-service``; it is called with ``request`` and ``place``."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(
            *,
            config: Path,
            name: str,
            user: str | None,
            memory_max: str | None,
            cpu_quota: str | None,
            allow_device: tuple[str, ...],
            is_written: bool,
            is_replacing: bool,
            folder: Path,
            **more: Any,
        ) -> None:
            request = Request(config.absolute(), own_program(), name, user, memory_max, cpu_quota, tuple(allow_device))
            function(request=request, place=Place(folder, is_written=is_written, is_replacing=is_replacing), **more)

        decorated: Any = command
        for option in reversed(list(_options(service))):
            decorated = option(decorated)
        return cast(F, decorated)

    return decorate


def _like(form: str, pattern: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A check that a value is of one form, so that nothing on the command line adds a line to the unit."""

    def check(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        for text in value if isinstance(value, tuple) else (value,):
            if text is not None and not re.fullmatch(pattern, text):
                raise click.BadParameter(f"{text!r} is not {form}", context, parameter)
        return value

    return check


_NAME = _like("a name", r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,99}")
_SIZE = _like("a size above 0 such as 512M or 2G, or infinity", r"(?=.*[1-9])\d+(\.\d+)?[KMGT%]?|infinity")
_PERCENT = _like("a percentage of one core above 0 such as 150%", r"0*[1-9]\d*%")
_NODE = _like("a node below /dev or a class as char-NAME", r"(/dev/|char-|block-)[^\s%]+")
ONE_LINE = _like("a command on one line", r"[^\n\r\0]*[^\s\0][^\n\r\0]*")  # what systemd ends lines at


def _options(service: str) -> Iterator[Callable[[Any], Any]]:
    path = click.Path(path_type=Path)
    yield click.option(
        "--config",
        type=path,
        metavar="FILE",
        default=SETTINGS_FOLDER / f"{service}.toml",
        show_default=True,
        help="TOML file with the service's settings.",
    )
    yield click.option(
        "--name",
        callback=_NAME,
        metavar="NAME",
        default=f"twinsplit-{service}",
        show_default=True,
        help="Name of the unit and of its folder below /var/lib.",
    )
    yield click.option(
        "--user", callback=_NAME, metavar="NAME", help="Account that it runs as; not set: one made while it runs."
    )
    yield click.option(
        "--memory-max", callback=_SIZE, metavar="SIZE", help="Memory beyond which it is killed and started again."
    )
    yield click.option(
        "--cpu-quota",
        callback=_PERCENT,
        metavar="PERCENT%",
        help="Of one core; not set: a core more than it has threads.",
    )
    yield click.option(
        "--allow-device",
        callback=_NODE,
        multiple=True,
        metavar="NODE",
        help="A device node besides (a meter at /dev/ttyUSB0), or a class as char-NAME; may be repeated.",
    )
    yield click.option("--write", "is_written", is_flag=True, help="Write it; not set: print it.")
    yield click.option("--force", "is_replacing", is_flag=True, help="Replace another unit of that name.")
    yield click.option(
        "--to", "folder", type=path, default=UNIT_FOLDER, show_default=True, help="Folder that --write writes to."
    )


def _check_starts(config: Path, settings: BaseServiceSettings) -> None:
    """
    Raises:
        SettingsError: the service would refuse to start with these settings.
    """
    try:
        has_tls = settings.tls.is_set
        listen = getattr(settings, "listen", None)
        if listen is not None:
            check_is_safe(Address.parse(listen), has_tls=has_tls, is_insecure=getattr(settings, "insecure", False))
    except ConfigurationError as error:
        raise SettingsError(f"{config}: {error}") from None


def own_program() -> Path:
    """The command ``twinsplit`` of the environment that this process runs in.

    Raises:
        SettingsError: there is none beside its Python.
    """
    program = Path(sys.executable).with_name("twinsplit")
    if not program.exists():
        raise SettingsError(f"{program} is missing; install twinsplit with the pip of that environment")
    return program


def settings_of_unit(cls: type[S], request: Request) -> S:
    """The settings that the unit's process will find: those of the file alone.

    Raises:
        SettingsError: the file is unreadable or wrong, or variables of this shell hide what it says.
    """
    if not request.config.is_file():
        raise SettingsError(
            f"{request.config}: no such file; write the service's settings there, or name another with --config"
        )
    loaded = load_settings(cls, request.config)
    for key, origin in loaded.origins.items():
        if origin is Origin.VARIABLE:
            raise SettingsError(
                f"{variable_name(cls, key)} is set here, but the service will not see it; write {key} to "
                f"{request.config} and unset the variable"
            )
    return loaded.values


def unit_of(request: Request, settings: BaseServiceSettings, needs: Needs) -> Unit:
    """The unit of one service; looks at no file.

    Raises:
        SettingsError: a path that the service could not use.
    """
    credentials = {key: path for key in _CREDENTIALS if (path := getattr(settings, key)) is not None}
    _check_is_one_line("--config", request.config)
    _check_is_one_line("the environment of this command,", request.program)
    for key, path in {**needs.read, **needs.written, **credentials}.items():
        _check_is_one_line(f"{request.config}: {key} =", path)
    for place, path in (
        ("--config", request.config),
        ("the environment of this command,", request.program),
        *((f"{request.config}: {key} =", path) for key, path in needs.read.items()),
    ):
        _check_is_seen(place, path, request.user)
    for key, path in credentials.items():
        if not path.is_absolute():
            raise SettingsError(f"{request.config}: {key} = {path} is relative; a service needs the whole path")
    return Unit(
        name=request.name,
        description=needs.description,
        command=(str(request.program), *needs.verb, "--config", str(request.config)),
        frames_from=needs.frames_from,
        user=request.user,
        credentials=credentials,
        writable=tuple(dict.fromkeys(_writable(request, needs.written))),
        access=(*needs.access, Access(devices=request.allow_device)),
        memory_max=request.memory_max or needs.memory_max,
        # One core for each thread of an inference and one for the event loop: bounds a defect, never slows the work.
        cpu_quota=request.cpu_quota or f"{100 * (needs.threads + 1)}%",
        cpu_weight=needs.cpu_weight,
        drain_s=needs.drain_s,
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a unit goes."""

    folder: Path
    is_written: bool
    is_replacing: bool

    def take(self, unit: Unit) -> None:
        """Print the unit, or write it; then the lines that start it, on standard error.

        Raises:
            SettingsError: another unit of that name is there.
            StorageError: it cannot be written.
        """
        path = self.folder / f"{unit.name}.service"
        text = unit_text(unit)
        if not self.is_written:
            click.echo(text, nl=False)
            click.echo("Not written; with --write it goes to " + str(path), err=True)
            return
        try:
            if not self.is_replacing and path.exists() and path.read_text(encoding="utf-8") != text:
                raise SettingsError(f"{path}: is there and differs; replace it with --force, or choose another --name")
            path.write_text(text, encoding="utf-8")
            path.chmod(0o644)
        except OSError as error:
            raise StorageError(
                f"{path}: {error.strerror}; run this with sudo, or name another folder in --to"
            ) from None
        click.echo(f"Written: {path}. Now:", err=True)
        for line in (
            "sudo systemctl daemon-reload",
            f"sudo systemctl enable --now {unit.name}",
            f"systemctl status {unit.name}",
            f"journalctl -u {unit.name} -f",
        ):
            click.echo(f"    {line}", err=True)


def _check_is_one_line(place: str, path: Path) -> None:
    """
    Raises:
        SettingsError: ``path`` holds what would end a line of the unit, or could not be written there.
    """
    if not str(path).isprintable():
        raise SettingsError(f"{place} {str(path)!r} holds a line break or another sign that is not printed; rename it")


def _check_is_seen(place: str, path: Path, user: str | None) -> None:
    """
    Raises:
        SettingsError: the service's process could not see ``path``.
    """
    if not path.is_absolute():
        raise SettingsError(f"{place} {path} is relative; a service needs the whole path")
    if user is None and any(path.is_relative_to(home) for home in _HOMES):
        raise SettingsError(
            f"{place} {path} is in a home, where the service's own account cannot look; put it under /opt, or let the "
            "service run as that home's owner with --user"
        )
    if any(path.is_relative_to(folder) for folder in _TEMPORARY):
        raise SettingsError(
            f"{place} {path} is temporary, and a service has a {path.parts[1]} of its own; put it under /opt"
        )


def _writable(request: Request, written: Mapping[str, Path]) -> Iterator[Path]:
    """Folders besides the service's own.

    Raises:
        SettingsError: one that the service's own account could not write.
    """
    own = _OWN_FOLDERS / request.name
    for key, path in written.items():
        if not path.is_absolute() or path.is_relative_to(own):
            continue
        if request.user is None:
            raise SettingsError(
                f"{request.config}: {key} = {path} cannot be written by the service's own account; a relative path "
                f"lands in {own}, or name an account that may write there with --user"
            )
        yield path.parent
