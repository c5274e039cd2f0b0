"""Versions of learned weights for people and programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

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
    document = _scores(row)
    scores = document.get("scores") or {}
    gain = scores.get("utility_gain_over_zero")
    off = document.get("held_out_gain")
    when = datetime.fromtimestamp(row.created_unix_s, timezone.utc)
    return (
        row.model_digest[:12],
        str(row.version),
        row.state,
        when.strftime("%Y-%m-%d %H:%M:%S"),
        str(document.get("tasks", "-")),
        "-" if off is None else f"{100.0 * off:.1f} %",
        "-" if gain is None else f"{1e3 * gain['mean']:+.1f} ms ± {1e3 * gain['error']:.1f}",
        document.get("refused_because") or "",
    )


def _scores(row: WeightsRow) -> dict[str, Any]:
    try:
        found = json.loads(row.scores_json)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
