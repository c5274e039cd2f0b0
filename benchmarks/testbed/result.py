"""What a run of the testbed found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.books import Entry, Summary


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run while it goes on."""

    elapsed_s: float
    """Since tasks can arrive; negative: warming up."""
    expected: int
    """Tasks that will have entered at the end."""
    summary: Summary | None
    """Of the tasks that have ended; ``None``: none has."""
    messages: int
    backlog_s: float | None
    """Of the edge; ``None``: not known."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that is over."""

    rule: str
    is_polled: bool
    summary: Summary
    messages: int
    """Signalling messages between device, edge and twin, in either direction, from the start of the services on."""
    messages_by_kind: dict[str, int]
    mirror_accuracy: float | None
    """Share of instants in service at which the twin's epoch was right; ``None``: nothing was judged."""
    costs_s: NDArray[np.float64] = field(repr=False)
    """By task, in the order of arrival at each device."""
    entries: tuple[Entry, ...] = field(default=(), repr=False)
    """Likewise."""
    model_digest: str = ""
    device_slowdown: float = 1.0
    edge_slowdown: float = 1.0
    load: dict[str, Any] = field(default_factory=dict)
    """Summary of the load of other users; empty: there was none."""
    rule_failures: int = 0
    """Plans that were not made, since the twin's start, because a rule of one's own failed."""
    last_rule_failure: str | None = None
    """Cell and cause of the last of them."""

    @property
    def title(self) -> str:
        """The rule, and whether it was polled."""
        return f"{self.rule}, polled" if self.is_polled else self.rule

    @property
    def messages_per_task(self) -> float:
        return self.messages / self.summary.tasks

    @property
    def latency_mean_s(self) -> float | None:
        """Of answered tasks; ``None``: none was, or the entries were not kept."""
        answered = [entry.latency_s for entry in self.entries if entry.outcome.is_answered]
        return sum(answered) / len(answered) if answered else None

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self.summary) | {
            "is_polled": self.is_polled,
            "messages_per_task": self.messages_per_task,
            "messages_by_kind": self.messages_by_kind,
            "mirror_accuracy": self.mirror_accuracy,
            "device_slowdown": self.device_slowdown,
            "edge_slowdown": self.edge_slowdown,
            "load": self.load,
            "rule_failures": self.rule_failures,
            "last_rule_failure": self.last_rule_failure,
        }
