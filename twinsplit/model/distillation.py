"""Training the head of an exit on frozen features, by what the whole network says about them. Needs torch.

The loss is the usual one of distillation (Hinton et al., arXiv 1503.02531): divergence from the teacher's softened
answer, times the temperature squared, mixed with the cross entropy of labels where there are any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from twinsplit.errors import ModelError
from twinsplit.model.exit_head import Layer
from twinsplit.model.measurement import Progress


@dataclass(frozen=True)
class HeadSettings:
    """Every number that shapes a head, one a line."""

    hidden: int = 128  # units between the two layers; 0: one linear layer
    views: int = 4  # of every picture, see twinsplit/model/views.py
    epochs: int = 20  # of all views
    least_steps: int = 400  # where frames are few
    batch: int = 128
    peak_learning_rate: float = 2e-3  # one cycle, AdamW
    weight_decay: float = 0.02
    dropout: float = 0.2  # of features and hidden units; none where there is one layer
    temperature: float = 2.0
    label_share: float = 0.5  # of the loss, where there are labels
    seed: int = 1


def train_head(
    features: NDArray[np.float32],
    outputs: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
    settings: HeadSettings,
    *,
    what: str = "training an exit",
    progress: Progress | None = None,
) -> tuple[Layer, ...]:
    """Layers from raw features to logits; how features are standardised is folded into the first.

    Args:
        features: (N, F).
        outputs: (N, K) logits of the whole network.
        labels: (N,) class indices; ``None``: the network's answers alone teach.
        settings: the same settings and features give the same layers.
        what: name of this work for ``progress``.
        progress: told after every step.

    Raises:
        ModelError: training ended in values that are not finite.
    """
    before = torch.get_num_threads()
    # Layers this small gain little from more, and on a busy machine threads that wait for one another take ten times
    # as long.
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return _trained(features, outputs, labels, settings, what, progress)
    finally:
        torch.set_num_threads(before)


def _trained(
    features: NDArray[np.float32],
    outputs: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
    settings: HeadSettings,
    what: str,
    progress: Progress | None,
) -> tuple[Layer, ...]:
    mean, scale = _standard(features)
    linears = _linears(features.shape[1], outputs.shape[1], settings.hidden)
    head = _head(linears, settings.dropout if settings.hidden else 0.0)
    temperature = settings.temperature
    softened = functional.softmax(torch.from_numpy(outputs) / temperature, dim=1)
    targets = None if labels is None else torch.from_numpy(labels)
    count = len(features)
    batch = min(settings.batch, count)
    per_epoch = count // batch
    epochs = max(settings.epochs, math.ceil(settings.least_steps / per_epoch))
    total = epochs * per_epoch
    optimizer = torch.optim.AdamW(head.parameters(), lr=settings.peak_learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.peak_learning_rate, total_steps=total)
    for step in range(total):
        if step % per_epoch == 0:
            order = torch.randperm(count).numpy()
        at = step % per_epoch * batch
        # Ascending, which files mapped into memory are read fastest in.
        rows = np.sort(order[at : at + batch])
        logits: Tensor = head(torch.from_numpy((features[rows] - mean) / scale))
        divergence = functional.kl_div(
            functional.log_softmax(logits / temperature, dim=1), softened[rows], reduction="batchmean"
        )
        loss = temperature**2 * divergence
        if targets is not None:
            by_labels = functional.cross_entropy(logits, targets[rows])
            loss = (1.0 - settings.label_share) * loss + settings.label_share * by_labels
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(what, step + 1, total)
    layers = _layers(linears, mean, scale)
    if not all(np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all() for layer in layers):
        raise ModelError(f"{what} ended in values that are not finite; try another --seed or other frames")
    return layers


def _standard(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and scale (F,) of features; features that never change have scale 1."""
    mean = features.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for start in range(0, len(features), 1024):
        squares += ((features[start : start + 1024] - mean) ** 2).sum(axis=0)
    deviation = np.sqrt(squares / len(features))
    return mean.astype(np.float32), np.where(deviation > 1e-6, deviation, 1.0).astype(np.float32)


def _linears(inputs: int, outputs: int, hidden: int) -> list[nn.Linear]:
    return [nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)] if hidden else [nn.Linear(inputs, outputs)]


def _head(linears: list[nn.Linear], dropout: float) -> nn.Sequential:
    parts: list[nn.Module] = []
    for linear in linears:
        parts.extend([nn.Dropout(dropout), linear, nn.ReLU()])
    return nn.Sequential(*parts[:-1])


def _layers(linears: list[nn.Linear], mean: NDArray[np.float32], scale: NDArray[np.float32]) -> tuple[Layer, ...]:
    layers = [Layer(_array(linear.weight), _array(linear.bias)) for linear in linears]
    weight = layers[0].weight / scale
    layers[0] = Layer(weight, np.asarray(layers[0].bias - weight @ mean, dtype=np.float32))
    return tuple(layers)


def _array(parameter: Tensor) -> NDArray[np.float32]:
    return np.array(parameter.detach().numpy(), dtype=np.float32)
