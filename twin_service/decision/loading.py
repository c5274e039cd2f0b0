"""Finding a rule of one's own: ``FILE.py:CLASS``, or a name of the entry point group ``twinsplit.rules``."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeGuard

from twin_service.decision.own import OwnRule
from twinsplit.errors import SettingsError

ENTRY_POINT_GROUP = "twinsplit.rules"
FILE_FORM = "FILE.py:CLASS"
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}")


def load_rule(spec: str) -> OwnRule:
    """The rule that class ``CLASS`` of ``FILE.py`` is; ``spec`` is ``FILE.py:CLASS``.

    Raises:
        SettingsError: no such file or class, it cannot be imported or made, or is not an :class:`OwnRule`.
    """
    file, _, class_name = spec.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise SettingsError(f"rule {spec!r}: there is no file {file}; write {FILE_FORM}")
    module = _module(spec, path.resolve())
    found = getattr(module, class_name, None)
    if found is None:
        offered = [
            name for name, value in vars(module).items() if _is_own(value) and value.__module__ == module.__name__
        ]
        cure = f"it defines {', '.join(offered)}" if offered else "it defines no subclass of OwnRule"
        raise SettingsError(f"rule {spec!r}: {path.name} has no class {class_name!r}; {cure}")
    return _made(spec, found)


def installed_rule(name: str) -> OwnRule | None:
    """The rule that an installed package offers under ``name``; ``None``: none does.

    Raises:
        SettingsError: one does, but it cannot be imported or made, or is not an :class:`OwnRule`.
    """
    found = next(iter(entry_points(group=ENTRY_POINT_GROUP, name=name)), None)
    return None if found is None else _made(name, _loaded(name, found))


def installed_names() -> list[str]:
    """Names of rules that installed packages offer, sorted."""
    return sorted({entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)})


def is_file_form(name: str) -> bool:
    """Whether ``name`` is of the form ``FILE.py:CLASS``."""
    return name.rpartition(":")[0].endswith(".py")


def located(name: str) -> str:
    """``name`` as another process finds it, which may run in another folder: the file of a rule with its whole path."""
    if not is_file_form(name):
        return name
    file, _, class_name = name.rpartition(":")
    return f"{Path(file).expanduser().resolve()}:{class_name}"


def _module(spec: str, path: Path) -> ModuleType:
    name = f"twinsplit_own_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up there
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise SettingsError(
            f"rule {spec!r}: {path.name} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return module


def _loaded(name: str, entry: EntryPoint) -> object:
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        cause = f"{type(error).__name__}: {error}"
        raise SettingsError(f"rule {name!r}: {entry.value} cannot be imported: {cause}") from error


def _made(spec: str, found: object) -> OwnRule:
    if not _is_own(found):
        raise SettingsError(
            f"rule {spec!r}: this is no subclass of twin_service.decision.own.OwnRule; derive it from that"
        )
    try:
        rule = found()
    except (Exception, SystemExit) as error:
        cause = f"{type(error).__name__}: {error}"
        raise SettingsError(f"rule {spec!r}: it cannot be made without arguments: {cause}") from error
    name: object = rule.name or type(rule).__name__
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingsError(f"rule {spec!r}: its name {name!r} is not one of letters, digits and .+-_, at most 64")
    rule.name = name
    return rule


def _is_own(value: object) -> TypeGuard[type[OwnRule]]:
    return isinstance(value, type) and issubclass(value, OwnRule) and value is not OwnRule
