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

from twin_service.decision.features import FEATURE_COUNT, FEATURE_NAMES
from twin_service.decision.value_net import CONTINUING, HEADS, OFFLOADING, ValueNet
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
    parts: NDArray[np.bool_],
    *,
    seed: int,
    options: TrainingOptions | None = None,
    between_steps: Callable[[], None] = lambda: None,
) -> list[Trained]:
    """A net for each of ``parts`` (N, T), trained on those tasks alone; all at once takes little longer than one.

    Args:
        between_steps: Called after every step; it may sleep, and whatever it raises ends the training.

    Raises:
        TrainingError: there is nothing to learn from, or a loss or weight is no number.
    """
    options = options or TrainingOptions()
    torch.set_num_threads(1)  # the steps are too small to share, and the other cores serve
    generator = torch.Generator().manual_seed(seed)
    nets = len(parts)
    points = _points(lessons, options)
    counts = torch.from_numpy(np.stack((points.is_going_on, points.is_offload), axis=-1).astype(np.float32))
    rows = [np.flatnonzero(points.does_count & np.repeat(part, lessons.epochs)) for part in parts]
    if min(map(len, rows)) == 0:
        raise TrainingError("there is nothing to learn from: no task could be offloaded or went on")
    # Where a feature is 0 its weights, which begin at 0 in a net that is blind to it, stay there.
    is_seen = ~np.isin(FEATURE_NAMES, options.ignored)
    features = torch.from_numpy(lessons.features.reshape(-1, FEATURE_COUNT) * is_seen)
    target = torch.zeros(nets, len(features), HEADS)
    target[..., OFFLOADING] = torch.from_numpy(points.offload_target_s.astype(np.float32))
    starts = [ValueNet.zero(seed=seed + net).blind_to(options.ignored) for net in range(nets)]
    parameters = _parameters(starts)
    averaged = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, options.learning_rate, weight_decay=options.weight_decay, fused=True)
    loss_function = torch.nn.HuberLoss(reduction="none", delta=options.huber_s)
    first_averaged = int(options.steps * (1.0 - options.averaged_share))
    every_net = torch.arange(nets)[:, None]
    losses = []
    for step in range(options.steps):
        if step % options.slow_copy_steps == 0:
            optimizer.param_groups[0]["lr"] = options.learning_rate * (1.0 - 0.9 * step / options.steps)
            for net, slow in enumerate(_nets(parameters)):
                target[net, :, CONTINUING] = torch.from_numpy(_going_on_target(lessons, slow, options))
        chosen = torch.stack([_drawn(own, options.batch, generator) for own in rows])  # (N, batch)
        mask = counts[chosen]
        errors = loss_function(_forward(parameters, features[chosen]), target[every_net, chosen]) * mask
        loss = (errors.sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)).sum(dim=1)  # (N,)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        if step >= first_averaged:
            with torch.no_grad():
                torch._foreach_lerp_(averaged, parameters, 1.0 / (step - first_averaged + 1))
            losses.append(loss.detach())
        between_steps()
    mean_loss = torch.stack(losses).mean(dim=0).tolist()
    trained = [Trained(net, loss) for net, loss in zip(_nets(averaged), mean_loss, strict=True)]
    if not all(np.isfinite(one.loss) and one.net.is_finite for one in trained):
        raise TrainingError("training diverged: a loss or weight is no number; the weights in force stay")
    return trained


@dataclass(frozen=True, slots=True)
class _Points:
    """Where there is something to learn, flat over (task, epoch).  # (T * K,) each"""

    offload_target_s: Array
    """Target of the P head; 0 where there is none."""
    is_offload: NDArray[np.bool_]
    """Whether the P head learns there."""
    is_going_on: NDArray[np.bool_]
    """Likewise the C head."""

    @property
    def does_count(self) -> NDArray[np.bool_]:
        return self.is_offload | self.is_going_on


def _points(lessons: Lessons, options: TrainingOptions) -> _Points:
    tasks, epochs = lessons.offload_s.shape
    places = np.arange(epochs)
    target = lessons.offload_s - lessons.offload_base_s
    is_offload = np.isfinite(target)
    is_going_on = np.broadcast_to(places < epochs - 1, (tasks, epochs))
    if not options.is_counterfactual:
        target = np.broadcast_to((lessons.taken_s - lessons.taken_offload_base_s)[:, None], (tasks, epochs))
        is_offload = (places == lessons.taken_epoch[:, None]) & np.isfinite(target)
        is_going_on = is_going_on & (places < lessons.taken_epoch[:, None])
    if lessons.is_last_known:
        is_offload = is_offload & (places < epochs - 1)
    if options.is_one_head:
        is_offload = np.zeros_like(is_offload)
    return _Points(np.where(is_offload, target, 0.0).ravel(), is_offload.ravel(), is_going_on.ravel())


def _going_on_target(lessons: Lessons, slow: ValueNet, options: TrainingOptions) -> NDArray[np.float32]:
    """y of the C head at every point; 0 at the last epoch, after which nothing goes on.  # (T * K,)"""
    does_stop, brought, remaining = lessons.stopping_s(slow)
    if not options.is_counterfactual:
        does_stop = np.arange(lessons.epochs) == lessons.taken_epoch[:, None]
        brought = np.broadcast_to(lessons.taken_s[:, None], does_stop.shape)
    value = np.where(does_stop, brought, remaining)
    target = value[:, 1:] - lessons.step_cost_s - lessons.going_on_base_s[:, :-1]
    target = np.clip(target, -_MAX_TARGET_S, _MAX_TARGET_S)
    return np.pad(target, ((0, 0), (0, 1))).ravel().astype(np.float32)


def _drawn(rows: NDArray[np.int64], count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.from_numpy(rows)[torch.randint(len(rows), (count,), generator=generator)]


def _forward(parameters: list[torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    """As :meth:`ValueNet.correct`, of every net on its own rows.  # (N, batch, HEADS)"""
    *hidden, weights, offsets = parameters
    for hidden_weights, hidden_offsets in zip(hidden[::2], hidden[1::2], strict=True):
        rows = torch.relu(torch.baddbmm(hidden_offsets, rows, hidden_weights))
    return torch.baddbmm(offsets, rows, weights)


def _parameters(nets: list[ValueNet]) -> list[torch.Tensor]:
    """Weights (N, inputs, outputs) and offsets (N, 1, outputs) of all nets, layer by layer."""
    found = []
    for layer in zip(*(net.layers for net in nets), strict=True):
        weights = np.stack([weights for weights, _ in layer])
        offsets = np.stack([offsets for _, offsets in layer])[:, None]
        found += [torch.tensor(weights, requires_grad=True), torch.tensor(offsets, requires_grad=True)]
    return found


def _nets(parameters: list[torch.Tensor]) -> list[ValueNet]:
    arrays = [parameter.detach().numpy().copy() for parameter in parameters]
    layers = list(zip(arrays[::2], arrays[1::2], strict=True))
    return [
        ValueNet(tuple((weights[net], offsets[net, 0]) for weights, offsets in layers)) for net in range(len(arrays[0]))
    ]
