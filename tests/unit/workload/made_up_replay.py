"""Replayed tasks made of nothing but numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from twin_service.workload.replayed import Replayed
from twinsplit.types import Decision

DIGEST = "ab" * 32


def made_up_replayed(epochs: int = 4, seed: int = 0, **changes: object) -> Replayed:
    """A task whose every number is another one."""
    rng = np.random.default_rng(seed)

    def floats(*shape: int) -> np.ndarray:
        return rng.random(shape, dtype=np.float32)

    offload_s = floats(epochs, 2)
    offload_s[-1, 0] = np.nan
    task = Replayed(
        device_id="cam-ä",
        task_id=7,
        at_s=1.7e9,
        model_digest=DIGEST,
        taken_epoch=1,
        taken=Decision.OFFLOAD_INPUT,
        alpha_s=2.5,
        beta_s_per_joule=0.05,
        task_rate_per_s=1.5,
        busy_share=0.4,
        waiting_factor=1.6,
        waited_s=0.01,
        finish_s=2.2,
        compute_watts=3.0,
        evidence=np.arange(epochs, dtype=np.int16),
        seen=np.arange(epochs) < 2,
        reached_s=floats(epochs),
        queue=floats(epochs),
        backlog_s=floats(epochs),
        uplink_busy_s=floats(epochs),
        arrived_work_s=floats(epochs, 3),
        exit_s=floats(epochs),
        base_tensor=floats(epochs),
        base_input=floats(epochs),
        base_going_on=floats(epochs),
        step_cost_s=floats(epochs - 1),
        caused_s=floats(epochs - 1),
        offload_s=offload_s,
        latency_s=floats(epochs, 2),
        edge_wait_s=floats(epochs, 2),
        accuracy=floats(epochs, 2),
        transmit_joules=floats(epochs, 2),
    )
    return replace(task, **changes)
