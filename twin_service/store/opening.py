"""Opening the store that the settings name."""

from __future__ import annotations

from twin_service.settings import TwinSettings
from twin_service.store.address import connection_parameters, is_embedded
from twin_service.store.interface import Bounds, SharedStore, Store
from twin_service.store.sqlite import SqliteStore


def open_store(settings: TwinSettings, *, is_candidate: bool) -> tuple[Store, SharedStore | None]:
    """The store, and the same again where replicas share it; ``is_candidate``: whether this one learns if it may.

    Raises:
        SettingsError: there is no such store, or what it needs is not installed.
        StorageError: the state cannot be used.
    """
    bounds = Bounds(settings.max_devices, 86_400.0 * settings.state_days, 1e6 * settings.state_mb)
    if is_embedded(settings.store):
        return SqliteStore(settings.state, bounds), None
    connection_parameters(settings.store)  # names what is wrong or not installed before anything is imported
    from twin_service.store.postgres import PostgresStore

    store = PostgresStore(settings.store, bounds, is_candidate=is_candidate)
    return store, store
