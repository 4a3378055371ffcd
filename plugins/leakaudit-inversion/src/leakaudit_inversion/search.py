"""Search for images whose activations are those that were observed: many targets in one batch, each for itself.

He, Zhang and Lee (ACSAC 2019): x = argmin ||f(x) - z||^2 + lambda TV(x), by Adam. Here the squared error of each level is
divided by the spread of what was observed of that target, so that one lambda serves levels of any scale, and the total
variation by the spread of the image (see `Prior`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from leakaudit_inversion.pooling import Pooling
from leakaudit_inversion.prior import smoothed

__all__ = ["Belief", "Goal", "Search", "goals_of", "relative_error", "search"]

Model = Callable[[Tensor], Mapping[str, Tensor]]
"""Images (n, modalities, *spatial) to what their client sends: feature maps by level, for all n targets in their order."""

Belief = Callable[[Tensor], Tensor]
"""Images to the penalty of each, (n,): a `Prior`, or one that knows more of what its channels mean."""

_MEMORY = 0.9
"""Share of the past in the running loss by which the best state is chosen where every send is randomized."""
_MISFIT = 0.01
"""Relative variance of the activations that is left unexplained without any noise."""
_FLOOR = 1e-8


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What one level of one observation must come to.

    Attributes:
        values: Observed feature maps (n, channels, *spatial).
        kept: Which entries were not dropped, zeros and ones of the same shape; None for all.
        weight: (n,), weight of each target's relative error; 0 where it was not observed.
    """

    values: Tensor
    kept: Tensor | None
    weight: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How to search.

    Attributes:
        iterations: Adam steps.
        learning_rate: At the start; it falls to zero by a cosine.
        smoothing: Length in voxels over which gradients are smoothed; 0 for plain Adam.
        betas: Adam's. A shorter memory than usual: what the gradient was a hundred steps ago says little here, and with
            (0.9, 0.999) a search of 200 steps ended at thirty times the error.
        draws: Sends that are averaged at each step.
        steady: Whether the same images are always sent alike: then the lowest loss marks the best state, else a running mean.
        pooling: How sends are averaged.
    """

    iterations: int
    learning_rate: float
    smoothing: float = 0.0
    betas: tuple[float, float] = (0.7, 0.9)
    draws: int = 1
    steady: bool = True
    pooling: Pooling = field(default_factory=Pooling)


def goals_of(
    draws: Sequence[Mapping[str, Tensor]], seen: Tensor, levels: Sequence[str], pooling: Pooling, noise: Mapping[str, float]
) -> list[dict[str, Goal]]:
    """Return what each observation asks for; the weights of a target's goals sum up to 1 over the variance of each.

    Args:
        draws: Observations by level, each (n, channels, *spatial).
        seen: (observations, n), which of them there are.
        levels: Levels to match.
        pooling: Which levels show what was dropped.
        noise: Variance of a defense's noise by level, relative to that of the activations. Levels count in inverse
            proportion to it, as in a Gaussian likelihood; beside it stands a hundredth for what the weights' path leaves open.
    """
    trust = {name: 1 / (_MISFIT + noise.get(name, 0.0)) for name in levels}
    share = {name: weight / sum(trust.values()) for name, weight in trust.items()}
    times = seen / seen.sum(dim=0, keepdim=True).clamp_min(1)
    goals = []
    for draw, there in zip(draws, times, strict=True):
        kept = {name: (draw[name] != 0).float() if name in pooling.masked else None for name in levels}
        spread = {name: _spread(draw[name], kept[name]) for name in levels}
        goals.append({k: Goal(values=draw[k], kept=kept[k], weight=there * share[k] / spread[k]) for k in levels})
    return goals


def _spread(values: Tensor, kept: Tensor | None) -> Tensor:
    """Return the variance of each target's entries, (n,); of those kept."""
    flat = values.flatten(1)
    if kept is None:
        return flat.var(dim=1, correction=0).clamp_min(_FLOOR)
    mask = kept.flatten(1)
    count = mask.sum(dim=1).clamp_min(1)
    mean = (flat * mask).sum(dim=1) / count
    return (((flat - mean[:, None]) * mask).square().sum(dim=1) / count).clamp_min(_FLOOR)


def relative_error(models: Sequence[Model], goals: Sequence[Mapping[str, Goal]], x: Tensor, how: Search) -> Tensor:
    """Return the weighted squared error of the activations of each target, (n,): 0 for images that explain everything.

    Where entries are visibly dropped, only those count that were kept both in the observation and in these sends.
    """
    total = x.new_zeros(len(x))
    for model, goal in zip(models, goals, strict=True):
        sent = how.pooling.merge([model(x) for _ in range(how.draws)])
        for name, wanted in goal.items():
            values, share = how.pooling.split(name, sent[name])
            square = (values - wanted.values).square()
            if wanted.kept is None or share is None:
                error = square.flatten(1).mean(dim=1)
            else:
                both = wanted.kept * (share > 0)
                error = (square * both).flatten(1).sum(dim=1) / both.flatten(1).sum(dim=1).clamp_min(1)
            total = total + wanted.weight * error
    return total


def search(
    models: Sequence[Model], goals: Sequence[Mapping[str, Goal]], start: Tensor, prior: Belief, how: Search
) -> tuple[Tensor, Tensor]:
    """Return the best images found and their losses.

    Losses of targets are summed, Adam works on every voxel alone, and each target keeps its own best state: what is found for
    one does not depend on the others, unless the network or the defense itself mixes the samples of a batch.

    Args:
        models: One per observation.
        goals: One per observation, by level.
        start: Images to start from, (n, modalities, *spatial).
        prior: What is known of images beforehand.
        how: Budget and randomness.

    Returns:
        Images (n, modalities, *spatial) and losses (n,).
    """
    x = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=how.learning_rate, betas=how.betas)
    voxels = x[0].numel()
    best, running = start.clone(), start.new_zeros(len(start))
    lowest = torch.full_like(running, math.inf)
    for step in range(how.iterations + 1):
        last = step == how.iterations
        with torch.set_grad_enabled(not last):
            loss = relative_error(models, goals, x, how) + prior(x)
        with torch.no_grad():
            running = loss.detach() if how.steady or step == 0 else _MEMORY * running + (1 - _MEMORY) * loss.detach()
            better = running <= lowest
            lowest = torch.where(better, running, lowest)
            best = torch.where(better.reshape(-1, *[1] * (x.ndim - 1)), x.detach(), best)
        if last:
            break
        # Times the number of voxels: a mean would leave gradients of the size of Adam's epsilon.
        (gradient,) = torch.autograd.grad(loss.sum() * voxels, x)
        x.grad = smoothed(gradient, how.smoothing)
        for group in optimizer.param_groups:
            group["lr"] = how.learning_rate * 0.5 * (1 + math.cos(math.pi * step / how.iterations))
        optimizer.step()
    return best, lowest
