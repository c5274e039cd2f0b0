"""The catalogue keeps its own rules: names, units, labels, buckets."""

import re

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


@pytest.mark.parametrize("spec", SPECS, ids=_id)
def test_histograms_and_only_they_have_ascending_buckets(spec: MetricSpec) -> None:
    assert bool(spec.buckets) == (spec.kind is MetricKind.HISTOGRAM)
    assert list(spec.buckets) == sorted(set(spec.buckets))
