"""Every module imports, and every name that it calls public is there."""

import importlib
import pkgutil

import pytest

PACKAGES = ("twinsplit", "device", "edge", "twin_service")


def _modules() -> list[str]:
    names = list(PACKAGES)
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        names += [module.name for module in pkgutil.walk_packages(path, f"{package}.")]
    return [name for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("name", _modules())
def test_public_names_exist_once(name: str) -> None:
    module = importlib.import_module(name)
    public = getattr(module, "__all__", [])
    assert [each for each in public if not hasattr(module, each)] == []
    assert len(set(public)) == len(public)
    assert [each for each in public if each.startswith("_") and each != "__version__"] == []
