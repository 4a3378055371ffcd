"""The gradient behind the first step of Adam.

With fresh moments Adam's first step is -rate g / (|g| + epsilon): nearly the sign of the gradient, which no search can follow. But
epsilon (1e-8) is no smaller than the rounding of a weight, so that |step| / rate = r differs from 1 by epsilon / |g|, and

    |g| = epsilon r / (1 - r)

is known for all but large entries. Derived here; on U-Nets nearly all entries come out within a percent.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call, grad, replace_all_batch_norm_modules_

from leakaudit.models import Task, Tensors
from leakaudit_gradients.localrun import Simulate

__all__ = ["gradient_behind", "gradient_simulation"]

_EPSILON = 1e-8
_ROUNDING = 3e-7
"""Relative rounding of a step in float32, of a few operations."""
_TRUST = 0.02
"""Relative error at which an entry counts half."""


def gradient_behind(update: Tensor, before: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """Return the gradient behind an update of one step of Adam with fresh moments, and how much each entry is to be trusted.

    Args:
        update: Parameter after the step minus parameter before, in float32.
        before: Parameter before the step, same shape or one that broadcasts.
        rate: Learning rate.

    Returns:
        Gradient and weights in [0, 1], both of the update's shape. The weight is 1 / (1 + (error / 0.02)^2), where the relative
        error follows from the rounding of the weight: large gradients, of which nothing but the sign is left, get 0.
    """
    ratio = update.abs().double() / rate
    rest = 1 - ratio
    after = (before + update).abs()
    grain = (torch.nextafter(after, torch.full_like(after, torch.inf)) - after).double() / rate + _ROUNDING
    known = (rest > grain) & (ratio > 0)
    error = grain / (ratio * rest).clamp_min(1e-300)
    weight = torch.where(known, 1 / (1 + (error / _TRUST).square()), 0.0)
    gradient = torch.where(known, -update.sign().double() * _EPSILON * ratio / rest.clamp_min(1e-300), 0.0)
    return gradient.to(update), weight.to(update)


def gradient_simulation(task: Task, params: Tensors) -> Simulate:
    """Return the gradient that a site's optimizer gets for a target's images and masks, by parameter: mappable over targets.

    That is the gradient of the mean loss, with nothing dropped at random, and the L2 penalty's where the task has one.

    Args:
        task: The task that sites learn.
        params: Where the gradient is taken.
    """
    decay = float(getattr(getattr(task, "training", None), "weight_decay", 0.0))
    with torch.random.fork_rng(devices=[]):
        network = task.build().to(next(iter(params.values())).device).eval()
    # Without running statistics batch normalization takes those of the batch, as in training.
    replace_all_batch_norm_modules_(network)

    def simulate(images: Tensor, masks: Tensor) -> Tensors:
        def objective(values: dict[str, Tensor]) -> Tensor:
            return task.loss(functional_call(network, values, (images,)), masks).mean()

        gradients: dict[str, Tensor] = grad(objective)(dict(params))
        return {name: g + decay * params[name] for name, g in gradients.items()} if decay else gradients

    return simulate
