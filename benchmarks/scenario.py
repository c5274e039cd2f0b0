"""A scenario: everything that decides what a run of the testbed meets, apart from the code.

Every rule meets the same scenario: the same arrivals, the same frames and the same arrivals of other users at the edge
(common random numbers), each drawn from a stream of its own so that a change of one leaves the others as they were.
"""

from __future__ import annotations

import difflib
import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.load_pattern import LoadShape, Pattern
from twin_service.decision.situation import Weights
from twinsplit.errors import SettingsError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Slowdown = Annotated[float, Field(ge=1, allow_inf_nan=False)]


class Scenario(BaseModel):
    """One run. Times in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    model: Path
    """Model folder."""
    frames: Path | None = None
    """Labelled frames; ``None``: ``frames`` in the model folder."""
    rule: str = "multi-step"
    is_polled: bool = False
    """The device asks the twin at every epoch (the baseline of signalling)."""
    seconds: Positive = 15.0
    """Length of the arrivals."""
    warm_up_s: NotNegative = 2.0
    """Load on the edge before the first task can arrive."""
    seed: int = 1
    arrivals: Literal["poisson", "periodic"] = "poisson"
    task_rate_per_s: Positive = 5.0

    threads: Annotated[int, Field(ge=1)] = 1
    """Of one inference, on the device and at the edge."""
    device_slowdown: Slowdown | None = None
    """Emulation: each segment takes this many times its measured time; ``None``: made from ``device_whole_s``."""
    device_whole_s: Positive | None = None
    """Emulation: time of the whole network on the device; ``None``, and no slowdown: as fast as this machine."""
    edge_slowdown: Slowdown | None = None
    """The same at the edge."""
    edge_whole_s: Positive | None = None
    uplink_bytes_per_s: Positive | None = None
    """Emulation of the uplink; ``None``: loopback as it is."""
    uplink_delay_s: NotNegative = 0.0
    uplink_jitter_s: NotNegative = 0.0
    uplink_outages: tuple[str, ...] = ()
    """Emulation: losses of the connection as START+LENGTH, seconds after the start of the device."""

    load_pattern: Pattern = Pattern.ONOFF
    load_share: NotNegative = 0.6
    """Work that other users offer the edge, share of its capacity; 0: nobody else."""
    load_burst_s: Positive = 0.6
    """Mean length of a burst."""
    load_peak: Positive = 1.8
    """Work offered within a burst, share of the capacity."""

    alpha_s: NotNegative = 2.5
    beta_s_per_joule: NotNegative = 0.05
    penalty_s: NotNegative | None = None
    """Of a task dropped or failed; ``None``: alpha."""

    device_settings: tuple[str, ...] = ()
    """More flags of the device, such as ``--payloads=tensors-only``."""
    edge_settings: tuple[str, ...] = ()
    twin_settings: tuple[str, ...] = ()

    @property
    def frames_folder(self) -> Path:
        """Where the frames lie."""
        return self.frames or self.model / "frames"

    @property
    def weights(self) -> Weights:
        """What the books are kept with."""
        return Weights(alpha_s=self.alpha_s, beta_s_per_joule=self.beta_s_per_joule, penalty_s=self.penalty_s)

    @property
    def load_shape(self) -> LoadShape | None:
        """Load of other users; ``None``: nobody else."""
        if self.load_share == 0.0:
            return None
        return LoadShape(self.load_pattern, self.load_share, self.load_burst_s, max(self.load_peak, self.load_share))

    @property
    def load_seed(self) -> int:
        """Seed of the load's arrivals."""
        return _stream_seed(self.seed, "load")

    def arrivals_s(self) -> list[float]:
        """Arrival instants of tasks, seconds from the start, ascending; at least one."""
        rng = random.Random(_stream_seed(self.seed, "arrivals"))
        instants: list[float] = []
        now_s = 0.0
        while True:
            mean_s = 1.0 / self.task_rate_per_s
            now_s += rng.expovariate(self.task_rate_per_s) if self.arrivals == "poisson" else mean_s
            if now_s > self.seconds and instants:
                return instants
            instants.append(min(now_s, self.seconds))

    def frame_order(self, names: Sequence[str], count: int) -> list[str]:
        """Names of ``count`` frames in the order in which they are shown; none twice before all were shown once."""
        rng = random.Random(_stream_seed(self.seed, "frames"))
        order: list[str] = []
        while len(order) < count:
            order += rng.sample(list(names), len(names))
        return order[:count]

    def described(self) -> dict[str, Any]:
        """For provenance: names of folders only, no paths of this machine."""
        found = self.model_dump(mode="json")
        found["model"] = "/".join(self.model.parts[-2:])
        found["frames"] = self.frames_folder.name
        return found


def with_settings(scenario: Scenario, settings: Sequence[str]) -> Scenario:
    """``scenario`` with ``KEY=VALUE`` settings of the command line; ``none`` stands for nothing.

    Raises:
        SettingsError: an unknown key or a value that does not fit.
    """
    changed: dict[str, Any] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        key = key.replace("-", "_")
        if not separator:
            raise SettingsError(f"--set {setting}: write KEY=VALUE")
        if key not in Scenario.model_fields:
            near = difflib.get_close_matches(key, Scenario.model_fields, n=1)
            cure = f"did you mean {near[0]}?" if near else f"there are {', '.join(Scenario.model_fields)}"
            raise SettingsError(f"--set {key}: a scenario has no such setting; {cure}")
        if key.endswith(("_settings", "_outages")):
            changed[key] = (*changed.get(key, ()), value)
        else:
            changed[key] = None if value.lower() == "none" else value
    return changed_scenario(scenario, **changed)


def changed_scenario(scenario: Scenario, **changes: Any) -> Scenario:
    """``scenario`` with some values replaced and all checked.

    Raises:
        SettingsError: a value that does not fit; the text names it.
    """
    try:
        changed = Scenario(**(scenario.model_dump() | changes))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SettingsError(f"scenario: {first['loc'][0]}: {first['input']!r} does not fit: {first['msg']}") from None
    _ = changed.weights, changed.load_shape
    return changed


def _stream_seed(seed: int, stream: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:4], "big")
