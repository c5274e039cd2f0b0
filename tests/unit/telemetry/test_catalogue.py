"""The catalogue keeps its own rules: names, units, labels, buckets."""

import re
from pathlib import Path

import pytest

from twinsplit.telemetry.catalogue import CATALOGUE, MetricKind, MetricSpec

SERVICES = {"device", "edge", "twin"}
FORBIDDEN_LABELS = {"task", "task_id", "device", "device_id", "edge", "edge_id", "frame", "address"}
SPECS = list(CATALOGUE.values())


def _id(spec: MetricSpec) -> str:
    return spec.name


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_names_follow_the_rules(spec: MetricSpec) -> None:
    assert re.fullmatch(r"twinsplit_[a-z0-9_]+", spec.name)
    assert spec.name.endswith("_total") == (spec.kind is MetricKind.COUNTER)
    assert not re.search(r"_(ms|us|kb|mb|percent|milliseconds)(_|$)", spec.name)


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_help_is_a_sentence(spec: MetricSpec) -> None:
    assert spec.help.endswith(".")
    assert spec.help[0].isupper() or spec.help[0].isdigit()


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_labels_are_from_small_sets(spec: MetricSpec) -> None:
    assert not FORBIDDEN_LABELS & set(spec.labels)
    assert len(set(spec.labels)) == len(spec.labels)


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_services_are_those_of_the_house(spec: MetricSpec) -> None:
    assert spec.services
    assert spec.services <= SERVICES


def test_every_metric_is_given_by_the_code_of_each_of_its_services() -> None:
    root = Path(__file__).resolve().parents[3]
    shared = _source(root / "twinsplit")
    for service, folder in (("device", "device"), ("edge", "edge"), ("twin", "twin_service")):
        text = shared + _source(root / folder)
        missing = [spec.name for spec in SPECS if service in spec.services and f'"{spec.name}"' not in text]
        assert missing == [], service


def _source(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.rglob("*.py")) if path.name != "catalogue.py")


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_histograms_and_only_they_have_ascending_buckets(spec: MetricSpec) -> None:
    assert bool(spec.buckets) == (spec.kind is MetricKind.HISTOGRAM)
    assert list(spec.buckets) == sorted(set(spec.buckets))
