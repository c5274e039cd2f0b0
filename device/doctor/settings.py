"""What the doctor can be told: what a device can be told, and nothing of it is needed."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from device.settings import DeviceSettings


class DoctorSettings(DeviceSettings):
    """Settings of ``twinsplit doctor``: file, variables and flags of ``twinsplit device run``."""

    model: Path | None = Field(None, description="Model folder (manifest.json and what it names).")  # type: ignore[assignment] # the doctor runs without a model, a device does not
