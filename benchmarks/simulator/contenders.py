"""Who takes part in a comparison, by name: rules of the services by table, the best of a grid, deciders of their own.

``NAME-best`` is tuned for its scenario on seeds of its own (:data:`TUNING_SEEDS`), never on those that it is judged by.
A decider that needs more than its name is a :class:`Contender` of its own, added to :data:`_OWN`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

from benchmarks.scenario import Scenario
from benchmarks.simulator.clairvoyant import Clairvoyant
from benchmarks.simulator.deciding import ByTable, Deciding
from benchmarks.simulator.foresight import Foresight
from benchmarks.simulator.optimum import Optimum, Solution, solve
from benchmarks.simulator.own_points import OwnPoints
from benchmarks.simulator.points import ByPoint
from benchmarks.simulator.teaching import Teaching, taught
from twin_service.decision.optimising import OPEN_LOOP
from twin_service.decision.own import OwnRule
from twin_service.decision.rules import rule_named
from twinsplit.errors import SettingsError
from twinsplit.model.manifest import Manifest

BASELINE = "one-time"
TUNING_SEEDS = (1_000_001, 1_000_002)
TUNING_TASKS = 1_000
"""Tasks of a tuning run at most, warm-up included."""
THRESHOLDS = (0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.99, 1.0)
"""T of a grid."""
BLIND: dict[str, Sequence[Foresight]] = {
    f"blind-to-{kind.value}": [k for k in Foresight if k is not kind] for kind in Foresight
} | {"blind": ()}
"""Clairvoyants that do not see everything coming, with what they do see."""


class Contender(ABC):
    """One rule of a comparison. It goes to worker processes by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def title(self) -> str:
        """What results call it."""
        return self.name

    @property
    def stages(self) -> int:
        """Rounds of tuning."""
        return 0

    def candidates(self, stage: int, best: str | None, manifest: Manifest) -> Sequence[str]:
        """Contenders that are tried in a round; ``best``: of the round before."""
        return ()

    def prepare(self, scenario: Scenario) -> Any:
        """What it needs for a scenario before any run, such as weights; done once, in a worker process. Must pickle."""
        return None

    @abstractmethod
    def deciding(self, scenario: Scenario, prepared: Any) -> Deciding:
        """For one run, or for several one after the other.

        Args:
            prepared: what :meth:`prepare` returned; the best candidate's name where there was tuning.
        """


class Named(Contender):
    """A rule of :func:`rule_named`."""

    @property
    def title(self) -> str:
        return rule_named(self.name).name

    def deciding(self, scenario: Scenario, prepared: Any) -> Deciding:
        rule = rule_named(self.name)
        return OwnPoints(rule) if isinstance(rule, OwnRule) else ByTable(rule)


class Made(Contender):
    """A decider that needs nothing but to be made."""

    def __init__(self, name: str, make: Callable[[], Deciding]) -> None:
        super().__init__(name)
        self._make = make

    def deciding(self, scenario: Scenario, prepared: Any) -> Deciding:
        return self._make()


class Best(Contender):
    """The best of a grid, found in one or more rounds, each around the best of the one before."""

    def __init__(self, name: str, *rounds: Callable[[Manifest, str], Sequence[str]]) -> None:
        super().__init__(name)
        self._rounds = rounds

    @property
    def stages(self) -> int:
        return len(self._rounds)

    def candidates(self, stage: int, best: str | None, manifest: Manifest) -> Sequence[str]:
        return self._rounds[stage](manifest, best or "")

    def deciding(self, scenario: Scenario, prepared: Any) -> Deciding:
        return ByTable(rule_named(prepared), self.name)


class Taught(Contender):
    """The learned rule with weights for the scenario; as in the services it is open loop where there is a deadline."""

    def __init__(self, teaching: Teaching) -> None:
        super().__init__(teaching.value)
        self._teaching = teaching

    def prepare(self, scenario: Scenario) -> Any:
        return None if scenario.deadline_s is not None else taught(scenario, self._teaching)

    def deciding(self, scenario: Scenario, prepared: Any) -> Deciding:
        return ByTable(OPEN_LOOP, self.name) if scenario.deadline_s is not None else ByPoint(self.name, prepared)


class Solved(Contender):
    """The optimum, where the scenario is one in which it is known."""

    def prepare(self, scenario: Scenario) -> Solution:
        return solve(scenario)

    def deciding(self, scenario: Scenario, prepared: Any) -> Deciding:
        return Optimum(prepared, self.name)


def _cuts(manifest: Manifest) -> range:
    """Cuts of which something can be sent, and the last, which is none: the device finishes."""
    return range(min(manifest.held_segments, manifest.segment_count - 1) + 2)


def _static(manifest: Manifest, _: str) -> list[str]:
    return [f"static:{cut}" for cut in _cuts(manifest)]


def _one_time_threshold(_: Manifest, __: str) -> list[str]:
    return [f"one-time-threshold:{threshold:g}" for threshold in THRESHOLDS]


def _one_time(manifest: Manifest, _: str) -> list[str]:
    return ["one-time", *_one_time_threshold(manifest, _)]


def _threshold_static_cuts(manifest: Manifest, _: str) -> list[str]:
    return [f"threshold-static:{cut},{t:g}" for cut in _cuts(manifest) for t in (0.8, 0.95)]


def _threshold_static_thresholds(_: Manifest, best: str) -> list[str]:
    cut = best.partition(":")[2].partition(",")[0]
    return [f"threshold-static:{cut},{threshold:g}" for threshold in THRESHOLDS]


_OWN: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Best("static-best", _static),
        Best("threshold-static-best", _threshold_static_cuts, _threshold_static_thresholds),
        Best("one-time-threshold-best", _one_time_threshold),
        Best("one-time-best", _one_time),
        Made("clairvoyant", Clairvoyant),
        *(Made(name, partial(Clairvoyant, name, foresees)) for name, foresees in BLIND.items()),
        Solved("optimum"),
        *map(Taught, Teaching),
    )
}

ALL = (
    "device-only",
    "edge-only",
    "static-best",
    "one-time-myopic",
    "one-time",
    "threshold-static-best",
    "one-time-threshold-best",
    "load-only",
    "open-loop",
    "learned-one-head",
    "learned-factual",
    "learned",
    "clairvoyant",
)
"""What ``all`` stands for."""


def contender_named(name: str) -> Contender:
    """The contender of a name.

    Raises:
        SettingsError: there is none, or a rule of one's own bears the name of another contender.
    """
    if name in _OWN:
        return _OWN[name]
    found = Named(name)
    if found.title in _OWN:
        raise SettingsError(f"rule {name!r}: {found.title!r} is the name of a built-in rule; give it another name")
    return found


def check_titles(names: Sequence[str]) -> None:
    """See that results can tell the contenders of ``names`` apart.

    Raises:
        SettingsError: one that there is not, two that have one title, or none at all.
    """
    if not names or len(set(names)) != len(names):
        raise SettingsError("--rules: name at least one rule, and each once")
    by_title: dict[str, str] = {}
    for name in names:
        other = by_title.setdefault(contender_named(name).title, name)
        if other != name:
            title = contender_named(name).title
            raise SettingsError(f"--rules: {other} and {name} are both called {title!r}; give one another `name`")


@lru_cache(maxsize=32)
def _kept_deciding(name: str, scenario: Scenario) -> Deciding:
    return contender_named(name).deciding(scenario, None)


def deciding_for(name: str, scenario: Scenario, prepared: Any) -> Deciding:
    """Its decider; one that has nothing prepared is kept in this process with all that it has evaluated.

    Args:
        scenario: with any seed.
    """
    contender = contender_named(name)
    if isinstance(contender, Named):
        return _kept_deciding(name, scenario.model_copy(update={"seed": 0}))
    return contender.deciding(scenario, prepared)
