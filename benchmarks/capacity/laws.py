"""The laws by which loads add up. Rates per second, times in seconds; every one of them is textbook.

- U, L: the utilisation law and Little's law (P. J. Denning, J. P. Buzen, *The Operational Analysis of Queueing Network
  Models*, ACM Computing Surveys 10(3), 1978; J. D. C. Little, Operations Research 9(3), 1961).
- W: the Pollaczek-Khinchine mean wait of M/G/1, for equal service times (L. Kleinrock, *Queueing Systems* I, 1975).
- B: a binomial count; rendezvous hashing gives every device to each of k replicas with probability 1/k, independently
  (D. G. Thaler, C. V. Ravishankar, IEEE/ACM Transactions on Networking 6(1), 1998).
"""

from __future__ import annotations

import math
from typing import NamedTuple


def busy_share(rate_per_s: float, service_s: float) -> float:
    """U = X S: share of time in which a server is busy that takes ``service_s`` for each of ``rate_per_s``."""
    return rate_per_s * service_s


def most_rate_per_s(service_s: float, most_share: float) -> float:
    """The rate at which a server is busy for ``most_share`` of the time."""
    return most_share / service_s


def mean_count(rate_per_s: float, time_s: float) -> float:
    """L = X R: mean number within what each of ``rate_per_s`` stays in for ``time_s``."""
    return rate_per_s * time_s


def mean_wait_s(share: float, service_s: float) -> float:
    """W = U S / (2 (1 - U)): mean wait where arrivals are Poisson, services equal, and one is served at a time."""
    return math.inf if share >= 1.0 else share * service_s / (2.0 * (1.0 - share))


def share_of_wait(wait_s: float, service_s: float) -> float:
    """The busy share at which the mean wait is ``wait_s``: the law above, solved for U."""
    return 2.0 * wait_s / (service_s + 2.0 * wait_s)


class ReplicaShare(NamedTuple):
    """Share of devices that one of several replicas gets."""

    mean: float
    deviation: float
    """Standard deviation."""


def replica_share(devices: int, replicas: int) -> ReplicaShare:
    """B: mean 1/k, standard deviation sqrt(1/k (1 - 1/k) / N)."""
    mean = 1.0 / replicas
    return ReplicaShare(mean, math.sqrt(mean * (1.0 - mean) / devices))


class Saving(NamedTuple):
    """How documents are saved."""

    cycle_s: float
    """From the begin of one pause to that of the next; infinity: a pass never ends."""
    documents_per_s: float


def saving(devices: float, changes_per_s: float, longest_silence_s: float, pause_s: float, pace_per_s: float) -> Saving:
    """Documents that each change at ``changes_per_s`` (Poisson) and after ``longest_silence_s`` at the latest, written
    in passes at ``pace_per_s``, each after a pause, that end when no changed document is left.

    What changes in a pass is written in it, too: from D = N (1 - exp(-rate pause)) at its begin (N where the pause is
    longer than the silence) a pass takes p = D / (pace - N rate). From N rate = pace on it never ends.
    """
    spare_per_s = pace_per_s - devices * changes_per_s
    if spare_per_s <= 0.0:
        return Saving(math.inf, pace_per_s)
    is_certain = pause_s >= longest_silence_s
    changed = devices if is_certain else devices * -math.expm1(-changes_per_s * pause_s)
    pass_s = changed / spare_per_s
    return Saving(pause_s + pass_s, pace_per_s * pass_s / (pause_s + pass_s))
