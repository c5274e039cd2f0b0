"""Weights in the state folder of a stopped twin service: reading them, and having another version serve."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from twin_service.decision.value_net import ValueNet
from twin_service.learning.learner import OPEN_LOOP_VERSION, WeightsState
from twin_service.memory import WeightsRow
from twin_service.store.interface import Bounds
from twin_service.store.sqlite import FILE_NAME, SqliteStore
from twinsplit.errors import SettingsError, StorageError


def kept_weights(folder: Path) -> list[WeightsRow]:
    """All versions in a state folder, by model and version.

    Raises:
        StorageError: there is no state, or it cannot be read (as while a twin service runs on it).
    """
    with opened_state(folder) as store:
        return store.weights()


def serve_version(folder: Path, model: str, version: int) -> None:
    """Have ``version`` serve from the next start on, for the model whose digest begins with ``model``; 0: none.

    Raises:
        SettingsError: no such model, several of them, or no such version.
        WeightsError: that version is damaged.
        StorageError: see :func:`kept_weights`.
    """
    with opened_state(folder) as store:
        rows = [row for row in store.weights() if row.model_digest.startswith(model)]
        digests = sorted({row.model_digest[:12] for row in rows})
        if len(digests) != 1:
            found = ", ".join(digests) or "none"
            raise SettingsError(f"--model {model!r}: name one model with learned weights; those that fit: {found}")
        chosen = next((row for row in rows if row.version == version), None)
        if chosen is not None:
            ValueNet.from_bytes(chosen.data)
        elif version != OPEN_LOOP_VERSION:
            versions = ", ".join(str(row.version) for row in rows)
            raise SettingsError(f"--serve {version}: no such version; there are {versions}, and 0 for open-loop")
        for row in rows:
            if row.state == WeightsState.SERVING.value and row is not chosen:
                store.keep_weights(replace(row, state=WeightsState.ROLLED_BACK.value))
        if chosen is not None:
            store.keep_weights(replace(chosen, state=WeightsState.SERVING.value))


@contextmanager
def opened_state(folder: Path) -> Iterator[SqliteStore]:
    """The state in ``folder``, to look into.

    Raises:
        StorageError: there is none, or it cannot be read (as while a twin service runs on it).
    """
    if not (folder / FILE_NAME).exists():
        raise StorageError(f"{folder}: holds no {FILE_NAME}; name the state folder of a twin service")
    store = SqliteStore(folder, Bounds(max_age_s=math.inf, max_bytes=math.inf))  # looking in forgets nothing
    try:
        yield store
    finally:
        store.close()
