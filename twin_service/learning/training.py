"""Training of the value net: the one module of the services that imports torch (design section 5, "Learning").

Both heads are regressions on outcomes. The P head learns what offloading really brought less P0 of the payload with the
better P0. The C head learns

    y_k = -(realised cost of segment k + 1) + v_{k+1} - C0_k,

where v is what the task really got at k + 1 if the rule of a slow copy of the net would stop there, and the slow copy's
own C0 + g_C if it would go on. Never the best stop in hindsight: E[max] >= max E, and it would stop too late.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_service.decision.value_net import CONTINUING, OFFLOADING, ValueNet
from twin_service.learning.lessons import Array, Lessons
from twin_service.learning.options import TrainingOptions
from twinsplit.errors import TrainingError

try:
    import torch
except ImportError:
    raise TrainingError("torch is not installed, so nothing is learnt; install twinsplit[learn] to learn") from None


_MAX_TARGET_S = 30.0
"""Where a task can neither end nor go on, its loss is not learnt to the full."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A candidate and how its training went."""

    net: ValueNet
    loss: float
    """Mean over the last steps, both heads together, s**2 (half the squared error where that is small)."""


def train(
    lessons: Lessons,
    start: ValueNet,
    *,
    seed: int,
    options: TrainingOptions | None = None,
    between_steps: Callable[[], None] = lambda: None,
) -> Trained:
    """A net trained on ``lessons`` from the weights of ``start``, which stays as it is.

    Args:
        between_steps: Called after every step; it may sleep, and whatever it raises ends the training.

    Raises:
        TrainingError: there is nothing to learn from, or a loss or weight is no number.
    """
    options = options or TrainingOptions()
    torch.set_num_threads(1)  # the steps are too small to share, and the other cores serve
    generator = torch.Generator().manual_seed(seed)
    rows, next_rows, offload_target, is_offload, is_going_on = _rows(lessons, options)
    if not len(rows):
        raise TrainingError("there is nothing to learn from: no task could be offloaded or went on")
    features = torch.from_numpy(lessons.features.reshape(-1, lessons.features.shape[2])[rows])
    target = torch.zeros(len(rows), 2)
    target[:, OFFLOADING] = torch.from_numpy(offload_target.astype(np.float32))
    counts = torch.zeros(len(rows), 2)
    counts[:, OFFLOADING] = torch.from_numpy(is_offload.astype(np.float32))
    counts[:, CONTINUING] = torch.from_numpy(is_going_on.astype(np.float32))
    parameters = [torch.tensor(array, requires_grad=True) for layer in start.layers for array in layer]
    averaged = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, options.steps)
    loss_function = torch.nn.HuberLoss(reduction="none", delta=options.huber_s)
    first_averaged = int(options.steps * (1.0 - options.averaged_share))
    losses = []
    for step in range(options.steps):
        if step % options.slow_copy_steps == 0:
            slow = _net(parameters)
            target[:, CONTINUING] = torch.from_numpy(_going_on_target(lessons, slow, next_rows, options))
        chosen = torch.randint(len(rows), (options.batch,), generator=generator)
        mask = counts[chosen]
        errors = loss_function(_forward(parameters, features[chosen]), target[chosen]) * mask
        loss = (errors.sum(dim=0) / mask.sum(dim=0).clamp(min=1.0)).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step >= first_averaged:
            with torch.no_grad():
                torch._foreach_lerp_(averaged, parameters, 1.0 / (step - first_averaged + 1))
            losses.append(loss.detach())
        between_steps()
    net = _net(averaged)
    mean_loss = float(torch.stack(losses).mean())
    if not np.isfinite(mean_loss) or not net.is_finite:
        raise TrainingError("training diverged: a loss or weight is no number; the weights in force stay")
    return Trained(net, mean_loss)


def _rows(
    lessons: Lessons, options: TrainingOptions
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Points to learn from, flat over (task, epoch): their indices, those of the epoch after each, the P head's target,
    and which heads learn there.  # (N,) each"""
    tasks, epochs = lessons.offload_s.shape
    places = np.arange(epochs)
    offload_target = lessons.offload_s - lessons.offload_base_s
    is_offload = np.isfinite(offload_target)
    is_going_on = np.broadcast_to(places < epochs - 1, (tasks, epochs))
    if lessons.is_last_known:
        is_offload = is_offload & (places < epochs - 1)
    if not options.is_counterfactual:
        at_taken = places == lessons.taken_epoch[:, None]
        taken_target = (lessons.taken_s - lessons.taken_offload_base_s)[:, None]
        offload_target = np.broadcast_to(taken_target, (tasks, epochs))
        is_offload = at_taken & np.isfinite(offload_target)
        is_going_on = is_going_on & (places < lessons.taken_epoch[:, None])
    if options.is_one_head:
        is_offload = np.zeros_like(is_offload)
    rows = np.flatnonzero(is_offload | is_going_on)
    return (
        rows,
        np.minimum(rows + 1, tasks * epochs - 1),
        np.where(is_offload, offload_target, 0.0).reshape(-1)[rows],
        is_offload.reshape(-1)[rows],
        is_going_on.reshape(-1)[rows],
    )


def _going_on_target(
    lessons: Lessons, slow: ValueNet, next_rows: NDArray[np.int64], options: TrainingOptions
) -> NDArray[np.float32]:
    """y of the C head at every row; what is put where nothing goes on is masked.  # (N,)"""
    does_stop, brought, remaining = lessons.stopping_s(slow)
    if not options.is_counterfactual:
        does_stop = np.arange(lessons.epochs) == lessons.taken_epoch[:, None]
        brought = np.broadcast_to(lessons.taken_s[:, None], does_stop.shape)
    value = np.where(does_stop, brought, remaining).reshape(-1)[next_rows]
    rows = next_rows - 1
    cost = np.pad(lessons.step_cost_s, ((0, 0), (0, 1))).reshape(-1)[rows]
    target = value - cost - lessons.going_on_base_s.reshape(-1)[rows]
    return np.clip(np.nan_to_num(target), -_MAX_TARGET_S, _MAX_TARGET_S).astype(np.float32)


def _forward(parameters: list[torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    """As :meth:`ValueNet.correct`."""
    *hidden, weights, offsets = parameters
    for hidden_weights, hidden_offsets in zip(hidden[::2], hidden[1::2], strict=True):
        rows = torch.relu(torch.addmm(hidden_offsets, rows, hidden_weights))
    return torch.addmm(offsets, rows, weights)


def _net(parameters: list[torch.Tensor]) -> ValueNet:
    arrays = [parameter.detach().numpy().copy() for parameter in parameters]
    return ValueNet(tuple(zip(arrays[::2], arrays[1::2], strict=True)))
