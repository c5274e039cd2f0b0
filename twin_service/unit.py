"""What the twin service needs of its systemd unit."""

from __future__ import annotations

from pathlib import Path

from twin_service.settings import TwinSettings
from twin_service.store.address import files_of
from twinsplit.systemd.installation import Needs

_SAVING_S = 5.0
"""For a full state on an SD card, seconds; streams end at once."""


def twin_needs(settings: TwinSettings) -> Needs:
    """Files and bounds of a twin service with these settings."""
    rule_file, _, _ = settings.rule.rpartition(":")
    read = {"rule": Path(rule_file)} if rule_file.endswith(".py") else {}
    written = {"state": settings.state}
    if settings.console_token_file is not None:
        written["console_token_file"] = settings.console_token_file
    return Needs(
        description="twinsplit twin service",
        verb=("twin", "serve"),
        read=read | files_of(settings.store),
        written=written,
        access=(),
        threads=1,  # the one that learns
        drain_s=_SAVING_S,
        memory_max="2G",
        cpu_weight=100,
    )
