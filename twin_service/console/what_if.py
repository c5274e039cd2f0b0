"""What would the plan be with other weights or another link? The planner's own code is asked twice; nothing is sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from twin_service.console.plan_rows import Cells, Table, bands_that_differ, queue_level, row, runs, table_of, word
from twin_service.console.request_errors import RequestError, RequestErrorCode
from twin_service.console.snapshot import weights_document
from twin_service.core import TwinCore
from twin_service.decision.situation import Situation

LIMITS = {
    "alpha_s": (0.0, 1000.0),
    "beta_s_per_joule": (0.0, 1000.0),
    "goodput_bytes_per_s": (1.0, 1e12),
}
"""What may be asked for, from and to."""


class Changes(NamedTuple):
    """What is to be otherwise; ``None``: as it is."""

    alpha_s: float | None = None
    beta_s_per_joule: float | None = None
    goodput_bytes_per_s: float | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Changes:
        """From the values of a query.

        Raises:
            RequestError: an unknown name, or a value that does not fit.
        """
        unknown = next((name for name in query if name not in LIMITS), None)
        if unknown is not None:
            raise RequestError(
                RequestErrorCode.BAD_REQUEST, f"{unknown[:63]!r} is not asked for here; there are {', '.join(LIMITS)}"
            )
        return cls(**{name: _number(name, text) for name, text in query.items()})

    def applied(self, situation: Situation) -> Situation:
        """``situation`` with the changes."""
        weights = situation.weights
        return replace(
            situation,
            weights=replace(
                weights,
                alpha_s=weights.alpha_s if self.alpha_s is None else self.alpha_s,
                beta_s_per_joule=weights.beta_s_per_joule if self.beta_s_per_joule is None else self.beta_s_per_joule,
            ),
            goodput_bytes_per_s=self.goodput_bytes_per_s or situation.goodput_bytes_per_s,
        )


def what_if(core: TwinCore, device_id: str, changes: Changes, now_s: float) -> dict[str, Any]:
    """Plan for a device as it is and with ``changes``: both tables and where they differ.

    Raises:
        UnknownTwinError: there is no device of that name.
        RequestError: it has no plan now.
        RuleError: a rule of one's own fails.
    """
    core.archive.document(device_id)
    device = core.devices.get(device_id)
    manifest = None if device is None else device.status.manifest
    if device is None or manifest is None or not device.is_plannable:
        raise RequestError(RequestErrorCode.NO_PLAN, f"{device_id} has no plan now; it must be attached")
    edge = core.planner.edge_of(device, core.edges, now_s)
    now = core.planner.situation(device, edge, now_s)
    then = changes.applied(now)
    tables = [table_of(evaluation.plan_table) for evaluation in core.planner.rule.evaluate([now, then])]
    edges_s = sorted({edge_s for table in tables for edge_s in table.band_edges_s})
    level = queue_level(device.status.queue_expected(now_s))
    task = device.status.task
    age_s = None if task is None or now.weights.deadline_s is None else max(0.0, now_s - task.started_at_s)
    both = np.stack([table.cells(manifest, level, age_s, edges_s) for table in tables], axis=2)  # (K, E, 2, bands)
    both, edges_s = bands_that_differ(both, edges_s)
    together = runs(both)
    cells = (both[:, :, 0], both[:, :, 1])
    backlog_s = None if edge is None else edge.backlog_s(now_s)
    return {
        "device": device_id,
        "now": {**_side(now, tables[0]), "rows": [row(tables[0], manifest, cells[0], run) for run in together]},
        "then": {**_side(then, tables[1]), "rows": [row(tables[1], manifest, cells[1], run) for run in together]},
        "band_edges_s": edges_s,
        "queue_level": level,
        "backlog_s": backlog_s,
        "band": int(np.searchsorted(edges_s, backlog_s or 0.0, side="right")),
        "age_s": age_s,
        "differing": _differing(cells[0], cells[1], together),
        "cells": len(together) * (len(edges_s) + 1),
    }


def _side(situation: Situation, table: Table) -> dict[str, Any]:
    return {
        **weights_document(situation.weights),
        "goodput_bytes_per_s": situation.goodput_bytes_per_s,
        "exits_run": list(table.exits_run),
    }


def _differing(now: Cells, then: Cells, together: list[tuple[int, int, int]]) -> list[dict[str, Any]]:
    return [
        {"row": index, "band": band, "now": word(now[epoch, state, band]), "then": word(then[epoch, state, band])}
        for index, (epoch, state, _) in enumerate(together)
        for band in np.nonzero(now[epoch, state] != then[epoch, state])[0].tolist()
    ]


def _number(name: str, text: str) -> float:
    least, most = LIMITS[name]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise RequestError(
            RequestErrorCode.BAD_REQUEST,
            f"{name}: {text[:63]!r} does not fit; give a number from {least:g} to {most:g}",
        )
    return value
