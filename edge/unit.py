"""What an edge needs of its systemd unit."""

from __future__ import annotations

from edge.settings import EdgeSettings
from twinsplit.systemd.installation import Needs
from twinsplit.systemd.unit import NVIDIA_METER, access_of_provider


def edge_needs(settings: EdgeSettings) -> Needs:
    """Files, nodes and bounds of an edge with these settings."""
    return Needs(
        description=f"twinsplit edge {settings.id}",
        verb=("edge", "serve"),
        read={"models": settings.models} | ({} if settings.profile is None else {"profile": settings.profile}),
        written={},
        access=(access_of_provider(settings.provider), *((NVIDIA_METER,) if settings.energy == "nvml" else ())),
        threads=settings.threads,
        drain_s=settings.drain_s,
        memory_max="2G" if settings.provider == "cpu" else "8G",
        cpu_weight=100,
    )
