"""What an edge needs of its systemd unit."""

from __future__ import annotations

from pathlib import Path

from edge.settings import EdgeSettings
from twinsplit.replicas.listing import ReplicaSource
from twinsplit.systemd.installation import Needs
from twinsplit.systemd.unit import NVIDIA_METER, access_of_provider


def edge_needs(settings: EdgeSettings) -> Needs:
    """Files, nodes and bounds of an edge with these settings."""
    replicas = None if settings.twin is None else ReplicaSource(settings.twin).path
    read: dict[str, Path | None] = {"models": settings.models, "profile": settings.profile, "twin": replicas}
    return Needs(
        description=f"twinsplit edge {settings.id}",
        verb=("edge", "serve"),
        read={key: path for key, path in read.items() if path is not None},
        written={},
        access=(access_of_provider(settings.provider), *((NVIDIA_METER,) if settings.energy == "nvml" else ())),
        threads=settings.threads,
        drain_s=settings.drain_s,
        memory_max="2G" if settings.provider == "cpu" else "8G",
        cpu_weight=100,
    )
