import os
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from pydantic import Field

from twinsplit.settings import BaseServiceSettings
from twinsplit.types import DropPolicy


class SampleSettings(BaseServiceSettings):
    """One setting of every type that services use."""

    service: ClassVar[str] = "device"

    id: str = Field(description="Name.")
    queue_capacity: int = Field(4, ge=1, description="Most tasks that wait.")
    period_s: float = Field(0.5, gt=0, description="Period.")
    drop_policy: DropPolicy = Field(DropPolicy.NEWEST_WINS, description="Who is dropped.")
    mode: Literal["plan", "polled"] = Field("plan", description="Mode.")
    is_sent: bool = Field(False, description="Whether.")
    model: Path | None = Field(None, description="Folder.")
    sinks: tuple[str, ...] = Field(("-",), description="Sinks.")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TWINSPLIT_")]:
        monkeypatch.delenv(name)
    # The command line sets it for good; a test must not leave it behind.
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")


@pytest.fixture
def sample() -> type[SampleSettings]:
    return SampleSettings
