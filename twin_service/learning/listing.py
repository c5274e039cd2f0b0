"""Versions of learned weights for people and programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from pydantic import TypeAdapter

from twin_service.memory import WeightsRow
from twin_service.tables import table


def weights_document(rows: Sequence[WeightsRow]) -> list[dict[str, Any]]:
    """All that is known of each version but the weights, for JSON."""
    return [
        {
            "model_digest": row.model_digest,
            "version": row.version,
            "state": row.state,
            "created_unix_s": row.created_unix_s,
            **_scores(row),
        }
        for row in rows
    ]


def weights_table(rows: Sequence[WeightsRow]) -> str:
    """A line per version: what it took off the error of open-loop, and what following it brought, on held-out tasks."""
    if not rows:
        return "no weights have been learnt: open-loop decides"
    head = ("model", "version", "state", "learnt at (UTC)", "tasks", "error off", "brings", "refused because")
    return table(head, [_line(row) for row in rows])


def _line(row: WeightsRow) -> tuple[str, ...]:
    shown = _shown(row)
    gain = None if shown.scores is None else shown.scores.utility_gain_over_zero
    off = shown.held_out_gain
    when = datetime.fromtimestamp(row.created_unix_s, timezone.utc)
    return (
        row.model_digest[:12],
        str(row.version),
        row.state,
        when.strftime("%Y-%m-%d %H:%M:%S"),
        "-" if shown.tasks is None else str(shown.tasks),
        "-" if off is None else f"{100.0 * off:.1f} %",
        "-" if gain is None else f"{1e3 * gain.mean:+.1f} ms ± {1e3 * gain.error:.1f}",
        shown.refused_because or "",
    )


@dataclass(frozen=True, slots=True)
class _Gain:
    mean: float
    error: float


@dataclass(frozen=True, slots=True)
class _Scores:
    utility_gain_over_zero: _Gain | None = None


@dataclass(frozen=True, slots=True)
class _Shown:
    """What people are shown of a version's scores."""

    tasks: int | None = None
    held_out_gain: float | None = None
    scores: _Scores | None = None
    refused_because: str | None = None


_READER = TypeAdapter(_Shown)


def _shown(row: WeightsRow) -> _Shown:
    try:
        return _READER.validate_json(row.scores_json)
    except ValueError:
        return _Shown()


def _scores(row: WeightsRow) -> dict[str, Any]:
    try:
        found = json.loads(row.scores_json)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
