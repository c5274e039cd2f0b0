"""What a query of ours names, by the little PromQL that dashboards and rules use."""

from __future__ import annotations

import re

from twinsplit.telemetry.catalogue import CATALOGUE, MetricKind, MetricSpec

TARGET_LABELS = {"job", "instance"}
_SERIES = re.compile(r"(?<![\w:])(twinsplit_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
_GROUPING = re.compile(r"\b(?:by|on) \(([^)]*)\)")
_HISTOGRAM_PARTS = ("_bucket", "_sum", "_count")


def metrics_of(query: str) -> list[tuple[str, set[str]]]:
    """Every metric that a query reads, with the labels that it matches."""
    return [(name, set(_MATCHER.findall(matchers))) for name, matchers in _SERIES.findall(query)]


def grouping_labels(query: str) -> set[str]:
    """Labels by which a query groups or joins."""
    return {label.strip() for group in _GROUPING.findall(query) for label in group.split(",") if label.strip()}


def spec_of(series: str) -> MetricSpec | None:
    """The catalogue's metric behind a series; ``None``: it has none of that name."""
    spec = CATALOGUE.get(series)
    if spec is not None:
        return None if spec.kind is MetricKind.HISTOGRAM else spec
    for part in _HISTOGRAM_PARTS:
        spec = CATALOGUE.get(series.removesuffix(part)) if series.endswith(part) else None
        if spec is not None and spec.kind is MetricKind.HISTOGRAM:
            return spec
    return None


def faults(query: str) -> list[str]:
    """What a query names that no service gives."""
    found = []
    known = set(TARGET_LABELS) | {"le"}
    for series, labels in metrics_of(query):
        spec = spec_of(series)
        if spec is None:
            found.append(f"{series} is not in the catalogue")
            continue
        known |= set(spec.labels)
        allowed = {*spec.labels, *TARGET_LABELS} | ({"le"} if series.endswith("_bucket") else set())
        found += [f"{series} has no label {label}" for label in sorted(labels - allowed)]
        if spec.kind is MetricKind.COUNTER and not re.search(rf"\b(?:rate|increase)\({series}\b", query):
            found += [] if f"{series})" in query or query == series else [f"{series} is a counter and is not a rate"]
    found += [f"no metric here has label {label}" for label in sorted(grouping_labels(query) - known)]
    return found
