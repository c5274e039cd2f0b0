"""A scenario: everything that decides what a run meets, apart from the code. One model for testbed and simulator.

Every rule meets the same scenario: the same arrivals, the same frames and the same arrivals of other users at the edge
(common random numbers), each drawn from a stream of its own so that a change of one leaves the others as they were.
A scenario file is YAML with the fields of :class:`Scenario` as its keys (see ``benchmarks/scenarios``).
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import count, takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from benchmarks.streams import stream_seed
from edge.load_pattern import LoadShape, Pattern, arrivals_s, read_trace
from twin_service.decision.situation import Weights
from twinsplit.errors import SettingsError
from twinsplit.model.manifest import MANIFEST_NAME, manifest_digest
from twinsplit.settings import shown
from twinsplit.types import Payloads

SHIPPED_MODEL = Path(__file__).resolve().parents[1] / "models" / "alexnet-fashion" / "1"
_PATHS = ("model", "frames", "arrival_trace", "load_trace", "uplink_trace")
_TRACES = _PATHS[2:]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=1e-4, le=1e5)]
"""Events a second: with fewer a run never ends, with more it never begins."""
Spell = Annotated[float, Field(ge=1e-3, allow_inf_nan=False)]
"""Mean length of a burst or a state, seconds."""
Slowdown = Annotated[float, Field(ge=1, allow_inf_nan=False)]
LoadSizes = Literal["fixed", "exponential", "heavy"]


class Scenario(BaseModel):
    """One run. Times in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    model: Path = SHIPPED_MODEL
    """Model folder."""
    model_digest: str | None = None
    """What its manifest must have, in a scenario that was recorded; ``None``: any."""
    frames: Path | None = None
    """Labelled frames; ``None``: ``frames`` in the model folder."""
    rule: str = "multi-step"
    is_polled: bool = False
    """The device asks the twin at every epoch (the baseline of signalling)."""
    seconds: Positive = 15.0
    """Length of the arrivals."""
    tasks: Annotated[int, Field(ge=1)] | None = None
    """Simulator: so many tasks of all devices together instead of those within ``seconds``."""
    warm_up_s: NotNegative = 2.0
    """Load on the edge before the first task can arrive."""
    warm_up_tasks: Annotated[int, Field(ge=0)] = 0
    """Simulator: the first tasks, which are left out of the books."""
    seed: int = 1

    devices: Annotated[int, Field(ge=1, le=100_000)] = 1
    device_factors: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0,)
    """The first device takes the first times the stated times, and so on; begun again when they are used up."""
    edges: Annotated[int, Field(ge=1)] = 1
    """Each has its own load of other users."""
    edge_choice: Literal["fixed", "twin"] = "fixed"
    """Fixed: device i offloads to edge i modulo their number. Twin: the twin's planner says where, and the device is
    connected to the edges that it lists (simulator, with plans)."""

    arrivals: Literal["poisson", "periodic", "onoff", "trace"] = "poisson"
    task_rate_per_s: Rate = 5.0
    """Mean, of each device."""
    arrival_burst_s: Spell = 2.0
    """Mean length of a burst of arrivals (onoff)."""
    arrival_peak: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 2.0
    """Task rate within a burst over the mean (onoff)."""
    arrival_trace: Path | None = None
    """File with an offset in seconds on each line (trace)."""

    threads: Annotated[int, Field(ge=1)] = 1
    """Of one inference, on the device and at the edge."""
    device_slowdown: Slowdown | None = None
    """Emulation: each segment takes this many times its measured time; ``None``: made from ``device_whole_s``."""
    device_whole_s: Positive | None = None
    """Time of the whole network on the device; testbed, ``None``, and no slowdown: as fast as this machine."""
    edge_slowdown: Slowdown | None = None
    """The same at the edge."""
    edge_whole_s: Positive | None = None
    segment_shares: tuple[Positive, ...] = ()
    """Simulator: parts of the whole network's time, by segment; empty: by multiply-adds."""
    exit_shares: tuple[NotNegative, ...] = ()
    """Simulator: time of each exit over that of the whole network; empty: by multiply-adds."""
    encode_factor: NotNegative = 1.0
    """Simulator: encoding takes this many times the time in the manifest."""
    encode_shares: tuple[tuple[int, int, NotNegative], ...] = ()
    """Simulator: cut, position of the representation, and its time over that of the whole network; what is not named
    takes the manifest's."""
    evidence: Literal["calibrated", "frames"] = "calibrated"
    """Simulator: what exits show is drawn from the manifest's calibration, or is what they show on the frames, in the
    order in which real processes are shown them."""
    service_jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Simulator: coefficient of variation of every service time on device and edge (lognormal)."""

    uplink: Literal["fixed", "two-state", "trace"] = "fixed"
    uplink_bytes_per_s: Positive | None = None
    """Rate of the uplink, in the good state if it has two; testbed, ``None``: loopback as it is."""
    uplink_bad_bytes_per_s: Positive | None = None
    uplink_good_s: Spell = 10.0
    """Mean time in the good state (two-state; exponential)."""
    uplink_bad_s: Spell = 2.0
    uplink_trace: Path | None = None
    """File with ``offset_s,bytes_per_s`` on each line, the first at 0 (trace); begun again at its last offset."""
    uplink_delay_s: NotNegative = 0.0
    """One way, both ways."""
    uplink_jitter_s: NotNegative = 0.0
    """Mean of an exponential delay of payloads on top, whose order is kept; answers have none."""
    uplink_outages: tuple[str, ...] = ()
    """Testbed: losses of the connection as START+LENGTH, seconds after the start of the device."""

    load_pattern: Pattern = Pattern.ONOFF
    load_share: NotNegative = 0.6
    """Work that other users offer the edge, share of its capacity; 0: nobody else."""
    load_burst_s: Spell = 0.6
    """Mean length of a burst."""
    load_peak: Positive = 1.8
    """Work offered within a burst, share of the capacity."""
    load_trace: Path | None = None
    """File with an offset in seconds on each line (trace); ``load_share`` then only says that there is load."""
    load_sizes: LoadSizes = "fixed"
    """Service times of other users' jobs; heavy: Pareto of shape 1.5. On the testbed so many inferences at once."""
    load_mean_s: Positive | None = None
    """Their mean; ``None``: ``edge_whole_s``."""

    step_at_s: Positive | None = None
    """From here on the next three hold, as far as they are given."""
    step_load_share: NotNegative | None = None
    step_load_sizes: LoadSizes | None = None
    step_uplink_bytes_per_s: Positive | None = None

    alpha_s: NotNegative = 2.5
    beta_s_per_joule: NotNegative = 0.05
    penalty_s: NotNegative | None = None
    """Of a task dropped or failed; ``None``: alpha."""
    is_waiting_priced_up: bool = True
    """Whether caused waiting is divided by ``1 - rho_d`` (design section 5)."""
    payloads: Payloads = Payloads.ANY
    deadline_s: Positive | None = None
    """Accuracy counts only of answers in time; ``None``: always."""

    queue_capacity: Annotated[int, Field(ge=1)] | None = None
    """Tasks waiting on a device; ``None``: no bound in the simulator, else the service's own default. So, too:"""
    edge_queue_capacity: Annotated[int, Field(ge=1)] | None = None
    kept_tensors: Annotated[int, Field(ge=1)] | None = None
    answer_timeout_s: Positive | None = None

    device_settings: tuple[str, ...] = ()
    """Testbed: more flags of the device."""
    edge_settings: tuple[str, ...] = ()
    twin_settings: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _check_kinds(cls, values: Any) -> Any:
        """What is true or false is no number, though it can be counted with."""
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, bool) and not name.startswith("is_"):
                raise ValueError(f"{name}: {value} is no number; write one")
        return values

    @model_validator(mode="after")
    def _check(self) -> Scenario:
        self._check_companions()
        if self.tasks is not None and self.warm_up_tasks >= self.tasks:
            raise ValueError(
                f"warm_up_tasks: {self.warm_up_tasks} leave nothing of {self.tasks} tasks; raise tasks, or lower it"
            )
        if self.load_pattern in (Pattern.ONOFF, Pattern.HEAVY):
            for name in ("load_share", "step_load_share"):
                if (getattr(self, name) or 0.0) > self.load_peak:
                    raise ValueError(
                        f"load_peak: {self.load_peak:g} is below {name} {getattr(self, name):g}, but within a burst at "
                        "least the mean is offered; raise load_peak or lower the share"
                    )
        _ = self.weights, self.load_shape
        return self

    def _check_companions(self) -> None:
        """A field that needs another one."""
        needed = (
            (self.arrivals == "trace", "arrivals: trace", "arrival_trace"),
            (self.load_pattern is Pattern.TRACE and self.load_share > 0.0, "load_pattern: trace", "load_trace"),
            (self.uplink == "trace", "uplink: trace", "uplink_trace"),
            (self.uplink == "two-state", "uplink: two-state", "uplink_bytes_per_s"),
            (self.uplink == "two-state", "uplink: two-state", "uplink_bad_bytes_per_s"),
            *(
                (getattr(self, name) is not None, name, "step_at_s")
                for name in ("step_load_share", "step_load_sizes", "step_uplink_bytes_per_s")
            ),
        )
        for applies, reason, name in needed:
            if applies and getattr(self, name) is None:
                raise ValueError(f"{reason} needs {name}")

    @property
    def frames_folder(self) -> Path:
        """Where the frames lie."""
        return self.frames or self.model / "frames"

    @property
    def weights(self) -> Weights:
        """What the books are kept with."""
        return Weights(
            alpha_s=self.alpha_s,
            beta_s_per_joule=self.beta_s_per_joule,
            penalty_s=self.penalty_s,
            is_waiting_priced_up=self.is_waiting_priced_up,
            deadline_s=self.deadline_s,
        )

    @cached_property
    def load_shape(self) -> LoadShape | None:
        """Load of other users; ``None``: nobody else."""
        return self._load_shape(self.load_share)

    @cached_property
    def step_load_shape(self) -> LoadShape | None:
        """Load from ``step_at_s`` on."""
        return self._load_shape(self.load_share if self.step_load_share is None else self.step_load_share)

    def _load_shape(self, share: float) -> LoadShape | None:
        if share == 0.0:
            return None
        trace_s = () if self.load_trace is None else read_trace(self.load_trace)
        return LoadShape(self.load_pattern, share, self.load_burst_s, self.load_peak, trace_s)

    @property
    def load_seed(self) -> int:
        """Seed of the load's arrivals at the first edge."""
        return stream_seed(self.seed, "load")

    def arrivals_s(self) -> list[float]:
        """Arrival instants of the first device within ``seconds``, from the start, ascending; at least one."""
        instants = list(takewhile(lambda instant: instant <= self.seconds, self.endless_arrivals_s()))
        return instants or [min(next(self.endless_arrivals_s()), self.seconds)]

    def endless_arrivals_s(self, device: int = 0) -> Iterator[float]:
        """Arrival instants of a device from the start, ascending, without end."""
        seed = stream_seed(self.seed, "arrivals") if device == 0 else stream_seed(self.seed, "arrivals", device)
        rate = self.task_rate_per_s
        if self.arrivals == "periodic":
            # Devices of one kind do not tick together.
            offset_s = device / self.devices / rate
            return (offset_s + number / rate for number in count(1))
        if self.arrivals == "poisson":
            return _poisson_s(rate, random.Random(seed))
        if self.arrivals == "trace":
            assert self.arrival_trace is not None, "checked when the scenario was made"
            return arrivals_s(LoadShape(Pattern.TRACE, trace_s=read_trace(self.arrival_trace)), 1.0, seed)
        return arrivals_s(LoadShape(Pattern.ONOFF, rate, self.arrival_burst_s, self.arrival_peak * rate), 1.0, seed)

    def frame_order(self, names: Sequence[str], count: int) -> list[str]:
        """Names of ``count`` frames in the order in which they are shown; none twice before all were shown once."""
        rng = random.Random(stream_seed(self.seed, "frames"))
        order: list[str] = []
        while len(order) < count:
            order += rng.sample(list(names), len(names))
        return order[:count]

    def described(self) -> dict[str, Any]:
        """For provenance: names of folders only, no paths of this machine."""
        found = self.model_dump(mode="json")
        found["model"] = "/".join(self.model.parts[-2:])
        found["frames"] = self.frames_folder.name
        for name in _TRACES:
            if (trace := getattr(self, name)) is not None:
                found[name] = trace.name
        return found


def with_settings(scenario: Scenario, settings: Sequence[str]) -> Scenario:
    """``scenario`` with ``KEY=VALUE`` settings of the command line; ``none`` stands for nothing.

    Raises:
        SettingsError: an unknown key, a value that does not fit, or another model than ``model_digest`` names.
    """
    changed: dict[str, Any] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        key = key.replace("-", "_")
        if not separator:
            raise SettingsError(f"--set {setting}: write KEY=VALUE")
        if key not in Scenario.model_fields:
            raise SettingsError(f"--set {key}: a scenario has no such setting; {_cure(key)}")
        if key.endswith(("_settings", "_outages")):
            changed[key] = (*changed.get(key, ()), value)
        else:
            changed[key] = None if value.lower() == "none" else value
    return _of_its_model(_with_its_files(changed_scenario(scenario, **changed), "--set"), "--set")


def changed_scenario(scenario: Scenario, **changes: Any) -> Scenario:
    """``scenario`` with some values replaced and all checked.

    Raises:
        SettingsError: a value that does not fit; the text names it.
    """
    return _scenario(scenario.model_dump() | changes, "scenario")


def read_scenario(path: Path) -> Scenario:
    """The scenario in a YAML file; paths in it are taken from the file's folder.

    Raises:
        SettingsError: unreadable, not YAML, an unknown key, an impossible value, a model or trace that is missing, or
            another model than ``model_digest`` names.
    """
    try:
        values = _UniqueLoader(path.read_text(encoding="utf-8")).get_single_data()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise SettingsError(f"{path}: {reason}; name a scenario file (see benchmarks/scenarios)") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except (ValueError, RecursionError):
        raise SettingsError(f"{path}: holds a number, an instant or a nesting that cannot be") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise SettingsError(f"{path}: write one KEY: VALUE on each line")
    for name in _PATHS:
        if isinstance(values.get(name), str):
            values[name] = path.parent / values[name]
    return _of_its_model(_with_its_files(_scenario(values, str(path)), str(path)), str(path))


def _with_its_files(scenario: Scenario, origin: str) -> Scenario:
    """``scenario`` itself.

    Raises:
        SettingsError: a file or folder that it names is not there.
    """
    for name in _PATHS:
        found: Path | None = getattr(scenario, name)
        needed = None if found is None else found / MANIFEST_NAME if name == "model" else found
        if needed is not None and ("\0" in str(needed) or not needed.exists()):
            raise SettingsError(f"{origin}: {name}: there is no {needed}")
    return scenario


class _UniqueLoader(yaml.SafeLoader):
    """Reads plain data only, and refuses a key that stands twice, of which the last one would count."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            raise yaml.constructor.ConstructorError(problem="a key stands twice", problem_mark=node.start_mark)
        return found


def _of_its_model(scenario: Scenario, origin: str) -> Scenario:
    """``scenario`` itself.

    Raises:
        SettingsError: its model is another one than it was recorded with, or is missing.
    """
    if scenario.model_digest is not None:
        try:
            digest = manifest_digest((scenario.model / MANIFEST_NAME).read_bytes())
        except OSError as error:
            raise SettingsError(f"{origin}: model: {scenario.model / MANIFEST_NAME}: {error.strerror}") from None
        if digest != scenario.model_digest:
            raise SettingsError(
                f"{origin}: model_digest: {scenario.model} is another model ({digest[:12]}) than was recorded "
                f"({scenario.model_digest[:12]}); name the folder of that one: `model: FOLDER`"
            )
    return scenario


def _scenario(values: dict[str, Any], origin: str) -> Scenario:
    for key in values:
        if key not in Scenario.model_fields:
            raise SettingsError(f"{origin}: {key}: a scenario has no such key; {_cure(key)}")
    try:
        return Scenario(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            raise SettingsError(f"{origin}: {first['msg'].removeprefix('Value error, ')}") from None
        place = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{origin}: {place}: {shown(first['input'])} does not fit: {first['msg']}") from None


def _cure(key: str) -> str:
    near = difflib.get_close_matches(key, Scenario.model_fields, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(Scenario.model_fields)}"


def _poisson_s(rate: float, rng: random.Random) -> Iterator[float]:
    now_s = 0.0
    while True:
        now_s += rng.expovariate(rate)
        yield now_s
