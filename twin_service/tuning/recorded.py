"""Recorded tasks to tune on, from a running twin service or from the state of a stopped one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from twin_service.learning.choosing import opened_state
from twin_service.manifests import Manifests
from twin_service.workload.records import ReplayBatch, replay_batches
from twin_service.workload.replayed import Replayed
from twinsplit.errors import ReplayError, SettingsError
from twinsplit.model.manifest import Manifest, parse_manifest

LEAST_TASKS = 100
"""With fewer the 95th percentile is a matter of chance."""
_DAMAGED = "damaged"
_WITHOUT_CONDITIONS = "recorded by an older version"
_UNDER_DEADLINE = "decided under a deadline, which tune does not know"


@dataclass(frozen=True, slots=True)
class Recorded:
    """Tasks of one model that can be run again."""

    model_digest: str
    """Hex."""
    manifest: Manifest
    tasks: tuple[Replayed, ...]
    """Oldest first."""
    left_out: dict[str, int]
    """Tasks that cannot, by reason."""


def recorded_in(folder: Path, model: str, limit: int) -> list[ReplayBatch]:
    """The newest ``limit`` tasks of every model in a state folder whose digest begins with ``model``.

    Raises:
        StorageError: there is no state, or it cannot be read (as while a twin service runs on it).
    """
    with opened_state(folder) as store:
        return list(replay_batches(store, store.documents(), Manifests(store), model, limit))


def recorded_of(batches: Iterable[ReplayBatch], device: str | None = None) -> Recorded:
    """The one model that ``batches`` have tasks of; ``device``: only that device's.

    Raises:
        SettingsError: tasks of several models, none, or too few.
    """
    manifests: dict[str, bytes] = {}
    usable: dict[str, list[Replayed]] = {}
    devices: set[str] = set()
    left_out: Counter[str] = Counter()
    for batch in batches:
        if batch.manifest_json:
            manifests[batch.model_digest] = batch.manifest_json
        for record in batch.records:
            try:
                task = Replayed.from_bytes(record)
            except ReplayError:
                left_out[_DAMAGED] += 1
                continue
            devices.add(task.device_id)
            if device is not None and task.device_id != device:
                continue
            of_model = usable.setdefault(batch.model_digest, [])
            if task.conditions is None:
                left_out[_WITHOUT_CONDITIONS] += 1
            elif task.conditions.deadline_s is not None:
                left_out[_UNDER_DEADLINE] += 1
            else:
                of_model.append(task)
    if not usable and (not left_out or devices):
        raise _none(device, devices)
    if len(usable) > 1:
        found = ", ".join(f"{digest[:12]} ({len(each)} tasks)" for digest, each in sorted(usable.items()))
        raise SettingsError(f"recorded tasks of several models: {found}; name one by --model")
    digest, tasks = next(iter(usable.items()), ("", []))
    if len(tasks) < LEAST_TASKS:
        out = "".join(f"; {count} left out: {reason}" for reason, count in left_out.items())
        raise SettingsError(
            f"too few recorded tasks: {len(tasks)}, tuning takes {LEAST_TASKS}{out}; let more tasks end under the twin "
            "service, or raise --tasks"
        )
    return Recorded(digest, parse_manifest(manifests[digest]), tuple(tasks), dict(left_out))


def _none(device: str | None, devices: set[str]) -> SettingsError:
    if device is not None and devices:
        return SettingsError(f"--device {device}: no recorded task is its; there are {', '.join(sorted(devices))}")
    return SettingsError(
        "no recorded tasks: a twin service records them while it serves with replay-share above 0, some seconds after "
        "they end; name its --twin address or its --state folder, and see --model"
    )
