"""Replayed tasks of a made-up world in which open loop is wrong by a known amount.

Offloading brings ``offload_bias_s`` more than P0 says, a step on costs ``step_bias_s`` more than C0 says, both with
noise. Where ``spread_s`` is not 0, P0 moves from epoch to epoch, which C0 does not know: going on is worth more.
"""

from __future__ import annotations

import numpy as np

from tests.unit.decision.situations import manifest_of
from twin_service.workload.replayed import Replayed
from twinsplit.types import Decision

MANIFEST = manifest_of()
HEAD_ONLY = manifest_of(5, (1,), device_segments=3)
DIGEST = "a" * 64
EPOCHS = 6


def made_up_task(
    number: int,
    rng: np.random.Generator,
    *,
    offload_bias_s: float = 0.0,
    step_bias_s: float = 0.0,
    spread_s: float = 0.1,
    noise_s: float = 0.02,
    epochs: int = EPOCHS,
    **changed: object,
) -> Replayed:
    """A task that starts at second ``number`` and could be offloaded before its last epoch."""
    offload = np.full((epochs, 2), np.nan)
    base = np.full((epochs, 2), -1e9)
    base[:-1] = 1.0 + rng.normal(0.0, spread_s, (epochs - 1, 2))
    offload[:-1] = base[:-1] + offload_bias_s + rng.normal(0.0, noise_s, (epochs - 1, 2))
    going_on = 1.0 + 0.02 * np.arange(epochs) + rng.normal(0.0, 0.05)
    step_cost = going_on[1:] - going_on[:-1]
    going_on[:-1] = going_on[-1] - np.cumsum(step_cost[::-1])[::-1]
    exit_s = np.full(epochs, np.nan)
    exit_s[1:] = 0.5
    zeros = np.zeros(epochs)
    fields: dict[str, object] = {
        "device_id": "d",
        "task_id": number,
        "at_s": float(number),
        "model_digest": DIGEST,
        "taken_epoch": 0,
        "taken": Decision.OFFLOAD_TENSOR,
        "alpha_s": 1.0,
        "beta_s_per_joule": 0.0,
        "task_rate_per_s": 1.0,
        "busy_share": 0.3,
        "waiting_factor": 1.0,
        "waited_s": 0.0,
        "finish_s": float(going_on[-1]),
        "compute_watts": 3.0,
        "evidence": np.zeros(epochs, np.int16),
        "seen": np.arange(epochs) < 1,
        "reached_s": np.arange(epochs) * 0.05,
        "queue": zeros,
        "backlog_s": np.full(epochs, rng.uniform(0.0, 1.0)),
        "uplink_busy_s": zeros,
        "arrived_work_s": np.zeros((epochs, 3)),
        "exit_s": exit_s,
        "base_tensor": base[:, 0],
        "base_input": base[:, 1],
        "base_going_on": going_on,
        "step_cost_s": step_cost + step_bias_s + rng.normal(0.0, noise_s, epochs - 1),
        "caused_s": zeros[1:],
        "offload_s": offload,
        "latency_s": offload,
        "edge_wait_s": offload,
        "accuracy": offload,
        "transmit_joules": offload,
    }
    return Replayed(**{**fields, **changed})


def made_up_tasks(count: int, *, seed: int = 0, **options: object) -> list[Replayed]:
    rng = np.random.default_rng(seed)
    return [made_up_task(number, rng, **options) for number in range(1, count + 1)]
