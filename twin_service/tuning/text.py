"""What tuning found, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from twin_service.tables import table
from twin_service.tuning.groups import Weighting
from twin_service.tuning.recorded import Recorded
from twin_service.tuning.search import Candidate, Found
from twin_service.tuning.wishes import Figures, Wished

_ROWS = 10
"""Of the frontier, about."""
_FAR = 1.5
"""Mean latencies that differ by more than this factor are worth a warning."""
LIMITS = (
    "The edge is as it was recorded: its backlog and the waits there do not react to other decisions, nor do other "
    "devices. Lines and uplinks of the devices are run again.",
    "Decisions are those of the open-loop rule: what was learned is left out, and is judged anew under other weights.",
    "Only tasks that ended where they were sent are recorded; lost and dropped ones are in no figure.",
)


def tuned_text(recorded: Recorded, found: Found, before: Figures) -> str:
    """All of it; ``before``: what the recorded tasks brought as they were."""
    wish, present, chosen = found.wish, found.present, found.chosen
    parts = [_about(recorded)]
    heading = f"wish: {wish.in_words()}\ntaken: {wish.criterion(present.weighting)}"
    if not found.is_met:
        heading += f"\nNO WEIGHTS BRING IT on these tasks. The nearest that can be had is {_value(found)}"
    elif chosen.weighting == present.weighting:
        heading += f"\nThe present weights, with {_value(found)}, are the best for it: nothing is to be changed."
    else:
        heading += f"\nfound: {_value(found)} (standard error, from tenths of the record)"
    parts.append(heading)
    head = ("", *_HEAD, *before.ends)
    name = "chosen" if found.is_met else "nearest"
    rows = [
        ("as recorded", "-", "-", *_numbers(before), *_ends(before)),
        _row("present weights", present),
        _row(name, chosen),
    ]
    parts.append(table(head, rows))
    if (warning := _distance(before, present.figures)) is not None:
        parts.append(warning)
    parts.append("frontier: the least loss of the rest for every value of the wish\n" + _frontier_table(found))
    if chosen.weighting != present.weighting:
        parts.append(_next_steps(chosen.weighting))
    parts.append("\n".join(LIMITS))
    return "\n\n".join(parts)


def tuned_document(recorded: Recorded, found: Found, before: Figures) -> dict[str, Any]:
    """The same for JSON, with all weights that were looked at."""
    wish = found.wish
    return {
        "wish": {"wished": wish.wished.value, "limit": wish.limit},
        "criterion": wish.criterion(found.present.weighting),
        "is_met": found.is_met,
        "model_digest": recorded.model_digest,
        "tasks": len(recorded.tasks),
        "left_out": recorded.left_out,
        "devices": sorted({task.device_id for task in recorded.tasks}),
        "from_unix_s": recorded.tasks[0].at_s,
        "to_unix_s": recorded.tasks[-1].at_s,
        "recorded": asdict(before),
        "present": _document(found.present),
        "chosen": _document(found.chosen),
        "frontier": [_document(candidate) for candidate in found.frontier],
        "evaluated": [_document(candidate) for candidate in found.candidates],
        "next": serve_command(found.chosen.weighting),
        "limits": list(LIMITS),
    }


def _distance(before: Figures, again: Figures) -> str | None:
    """What to say where running the record again under its own weights does not bring what was recorded."""
    slow_s, quick_s = max(before.latency_mean_s, again.latency_mean_s), min(before.latency_mean_s, again.latency_mean_s)
    if slow_s <= _FAR * quick_s:
        return None
    return (
        "NOT TO BE RELIED ON: run again under the weights that they were recorded with, these tasks take "
        f"{1000.0 * again.latency_mean_s:.0f} ms on average where they took {1000.0 * before.latency_mean_s:.0f} ms. "
        "Lost and dropped tasks are missing in the record, and so is the load that they were; or another rule decided."
    )


def serve_command(weighting: Weighting) -> str:
    """How a twin service is started with these weights."""
    return f"twinsplit twin serve --alpha-s {weighting.alpha_s:g} --beta-s-per-joule {weighting.beta_s_per_joule:g}"


def _about(recorded: Recorded) -> str:
    tasks = recorded.tasks
    devices = len({task.device_id for task in tasks})
    weightings = {(task.alpha_s, task.beta_s_per_joule) for task in tasks}
    lines = [
        f"model {recorded.model_digest[:12]}: {len(tasks)} tasks of {devices} device{'s' if devices > 1 else ''}, "
        f"recorded {_instant(tasks[0].at_s)} to {_instant(tasks[-1].at_s)} UTC"
    ]
    lines += [f"left out: {count} tasks, {reason}" for reason, count in recorded.left_out.items()]
    if len(weightings) > 1:
        lines.append(f"recorded under {len(weightings)} different weights; those of the newest task are called present")
    return "\n".join(lines)


def _instant(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def _value(found: Found) -> str:
    """What is wished for as the chosen weights bring it, with its standard error."""
    wished, figures = found.wish.wished, found.chosen.figures
    units = {Wished.LATENCY_P95: (1000.0, "ms"), Wished.ENERGY: (1.0, "J"), Wished.ACCURACY: (100.0, "%")}
    factor, unit = units[wished]
    return f"{factor * found.wish.value(figures):.4g} {unit} ± {factor * figures.errors[wished.value]:.2g}"


_HEAD = ("alpha s", "beta s/J", "accuracy", "mean ms", "p95 ms", "energy J")


def _frontier_table(found: Found) -> str:
    frontier = found.frontier
    step = max((len(frontier) - 1) / max(_ROWS - 1, 1), 1.0)
    places = {min(round(index * step), len(frontier) - 1) for index in range(_ROWS)}
    shown = [frontier[place] for place in places if frontier[place] is not found.chosen]
    rows = sorted([*shown, found.chosen], key=lambda candidate: found.wish.value(candidate.figures))
    signs = ("*" if candidate is found.chosen else "" for candidate in rows)
    return table(
        ("", *_HEAD),
        [(sign, *_weights(row), *_numbers(row.figures)) for sign, row in zip(signs, rows, strict=True)],
    )


def _row(name: str, candidate: Candidate) -> Sequence[str]:
    return (name, *_weights(candidate), *_numbers(candidate.figures), *_ends(candidate.figures))


def _weights(candidate: Candidate) -> tuple[str, str]:
    return f"{candidate.weighting.alpha_s:.4g}", f"{candidate.weighting.beta_s_per_joule:.4g}"


def _numbers(figures: Figures) -> tuple[str, ...]:
    return (
        f"{100.0 * figures.accuracy:.2f} %",
        f"{1000.0 * figures.latency_mean_s:.1f}",
        f"{1000.0 * figures.latency_p95_s:.1f}",
        f"{figures.energy_joules:.3f}",
    )


def _ends(figures: Figures) -> tuple[str, ...]:
    return tuple(f"{share:.0%}" for share in figures.ends.values())


def _next_steps(weighting: Weighting) -> str:
    return (
        f"in force for all devices from its next start on:\n    {serve_command(weighting)}\n"
        "for one device at once:\n    twinsplit twin desire NAME "
        f"--alpha-s {weighting.alpha_s:g} --beta-s-per-joule {weighting.beta_s_per_joule:g}"
    )


def _document(candidate: Candidate) -> dict[str, Any]:
    return {**candidate.weighting._asdict(), **asdict(candidate.figures)}
