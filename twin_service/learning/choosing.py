"""Weights in the state of a stopped twin service: reading them, and having another version serve."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from twin_service.decision.value_net import ValueNet
from twin_service.learning.learner import OPEN_LOOP_VERSION, WeightsState
from twin_service.memory import WeightsRow
from twin_service.store.address import connection_parameters, is_embedded
from twin_service.store.interface import Bounds, Store
from twin_service.store.sqlite import FILE_NAME, SqliteStore
from twinsplit.credentials import without_password
from twinsplit.errors import SettingsError, StorageError

_UNBOUNDED = Bounds(max_documents=2**31, max_age_s=math.inf, max_bytes=math.inf)
"""Looking in forgets nothing."""


def kept_weights(place: Path | str) -> list[WeightsRow]:
    """All versions in a state, by model and version; ``place``: see :func:`opened_state`.

    Raises:
        StorageError: there is no state, or it cannot be read (as while a twin service runs on it).
    """
    with opened_state(place) as store:
        return store.weights()


def serve_version(place: Path | str, model: str, version: int) -> None:
    """Have ``version`` serve from the next start on, for the model whose digest begins with ``model``; 0: none.

    Raises:
        SettingsError: no such model, several of them, or no such version.
        WeightsError: that version is damaged.
        StorageError: see :func:`kept_weights`, or a replica that learns is running.
    """
    with opened_state(place, is_changed=True) as store:
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
def opened_state(place: Path | str, *, is_changed: bool = False) -> Iterator[Store]:
    """A state to look into, or to change weights in.

    Args:
        place: A state folder, or the address of a database that replicas share.
        is_changed: Whether weights are to be written.

    Raises:
        SettingsError: the address is none.
        StorageError: there is no state, or it cannot be read (as while a twin service runs on it).
    """
    store = _embedded(place) if isinstance(place, Path) else _shared(place, is_changed=is_changed)
    try:
        yield store
    finally:
        store.close()


def _embedded(folder: Path) -> Store:
    if not (folder / FILE_NAME).exists():
        raise StorageError(f"{folder}: holds no {FILE_NAME}; name the state folder of a twin service")
    return SqliteStore(folder, _UNBOUNDED)


def _shared(address: str, *, is_changed: bool) -> Store:
    if is_embedded(address):
        raise SettingsError("--store: name a folder in --state, or a database as postgresql://...")
    connection_parameters(address)
    from twin_service.store.postgres import PostgresStore

    store = PostgresStore(address, _UNBOUNDED, is_candidate=is_changed)
    if is_changed and not store.is_elected:
        store.close()
        raise StorageError(
            f"{without_password(address)}: a replica of the twin service learns on it; stop those that run, then repeat"
        )
    return store
