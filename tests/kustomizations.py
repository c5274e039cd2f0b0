"""What the kustomizations of deploy/kubernetes come to, without kubectl: as much of kustomize as they use, and no more.

What it does not know it refuses. Where there is a kubectl, tests/system/test_kustomize.py holds it against that one.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

_KINDS = {"Kustomization": "kustomize.config.k8s.io/v1beta1", "Component": "kustomize.config.k8s.io/v1alpha1"}
_KNOWN = {"apiVersion", "kind", "namespace", "resources", "components", "patches", "images"}
_MERGED_BY = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}
"""Lists whose items are merged one by one, and by what; other lists are replaced."""
_WITHOUT_NAMESPACE = ("Namespace",)


def rendered(folder: Path) -> list[Manifest]:
    """All manifests that ``kubectl kustomize FOLDER`` prints, in no special order.

    Raises:
        ValueError: it uses what is not known here, or patches what is not there.
    """
    return _built(folder, [])


def _built(folder: Path, manifests: list[Manifest]) -> list[Manifest]:
    """What a folder makes of what is there already (a component) or of nothing (a base, an overlay)."""
    told: Manifest = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    if told["apiVersion"] != _KINDS.get(told["kind"]):
        raise ValueError(f"{folder}: {told['apiVersion']} {told['kind']}")
    if unknown := told.keys() - _KNOWN:
        raise ValueError(f"{folder}: this renderer does not know {sorted(unknown)}")
    for name in told.get("resources", ()):
        place = folder / name
        manifests = manifests + (rendered(place) if place.is_dir() else _read(place))
    for name in told.get("components", ()):
        manifests = _built(folder / name, manifests)
    for patch in told.get("patches", ()):
        if patch.keys() != {"path"}:
            raise ValueError(f"{folder}: a patch is known by its path alone, not {patch}")
        for change in _read(folder / patch["path"]):
            manifests = _patched(manifests, change)
    for manifest in manifests:
        if "namespace" in told and manifest["kind"] not in _WITHOUT_NAMESPACE:
            manifest["metadata"]["namespace"] = told["namespace"]
        _name_images(manifest, told.get("images", ()))
    return manifests


def _read(path: Path) -> list[Manifest]:
    return [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each is not None]


def key_of(manifest: Manifest) -> tuple[str, str, str]:
    """What there may be one of."""
    return manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"]


def _patched(manifests: list[Manifest], change: Manifest) -> list[Manifest]:
    places = [k for k, manifest in enumerate(manifests) if key_of(manifest) == key_of(change)]
    if len(places) != 1:
        raise ValueError(f"a patch of {key_of(change)} fits {len(places)} manifests")
    return [_merged(each, change) if k == places[0] else each for k, each in enumerate(manifests)]


def _merged(there: Manifest, change: Manifest) -> Manifest:
    found = copy.deepcopy(there)
    for key, value in change.items():
        held = found.get(key)
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(held, dict):
            found[key] = _merged(held, value)
        elif isinstance(value, list) and isinstance(held, list) and key in _MERGED_BY:
            found[key] = _merged_lists(held, value, _MERGED_BY[key])
        else:
            found[key] = copy.deepcopy(value)
    return found


def _merged_lists(there: list[Manifest], changes: list[Manifest], by: str) -> list[Manifest]:
    """Items that are changed or new come first, as kustomize has it."""
    held = {each[by]: each for each in there}
    first = [_merged(held.get(change[by], {}), change) for change in changes]
    return first + [each for each in there if each[by] not in {change[by] for change in changes}]


def _name_images(manifest: Manifest, images: Any) -> None:
    names = {each["name"]: f"{each['newName']}:{each['newTag']}" for each in images}
    spec = manifest.get("spec", {}).get("template", {}).get("spec", {})
    for container in spec.get("containers", ()):
        container["image"] = names.get(container["image"], container["image"])
