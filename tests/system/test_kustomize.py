"""The kustomizations of deploy/kubernetes as kubectl renders them, beside what tests without kubectl take for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.kustomizations import key_of, rendered

pytestmark = pytest.mark.needs("kubectl")

FOLDER = Path(__file__).resolve().parents[2] / "deploy/kubernetes"
RENDERED = [FOLDER / "base", *sorted((FOLDER / "overlays").iterdir())]


@pytest.mark.parametrize("folder", RENDERED, ids=lambda path: path.name)
def test_kubectl_renders_what_the_other_tests_look_at(folder: Path) -> None:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    by_kubectl = {key_of(manifest): manifest for manifest in yaml.safe_load_all(done.stdout)}
    by_tests = {key_of(manifest): manifest for manifest in rendered(folder)}
    assert by_kubectl.keys() == by_tests.keys()
    for key, manifest in by_kubectl.items():
        assert by_tests[key] == manifest, key


def test_base_and_all_overlays_are_looked_at() -> None:
    assert [path.name for path in RENDERED] == ["base", "company", "kserve", "site"]
