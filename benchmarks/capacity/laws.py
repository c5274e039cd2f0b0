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


def changed_share(changes_per_s: float, longest_silence_s: float, round_s: float) -> float:
    """Share of documents that change within a round of saving, each at ``changes_per_s`` (Poisson): 1 - exp(-rate
    round), and all where no device is silent for as long as a round."""
    return 1.0 if round_s >= longest_silence_s else -math.expm1(-changes_per_s * round_s)


def saved_per_s(documents: float, changed: float, round_s: float, pace_per_s: float) -> float:
    """Documents saved per second, of which a share ``changed`` is due in every round, at ``pace_per_s`` at most.

    At most so many: what changes between the begin of a round and its turn is saved with it, and is not due again.
    """
    return min(documents * changed / round_s, pace_per_s)
