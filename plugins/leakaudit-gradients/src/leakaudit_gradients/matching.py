"""Gradient matching: images (and masks) whose simulated local run gives the update that was observed.

min over x, y of distance(local(params, x, y) - params, update) + priors(x), for many targets and starts in one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.func import vmap

from leakaudit.models import Tensors
from leakaudit_gradients.adam import descend
from leakaudit_gradients.batchstats import disagreement
from leakaudit_gradients.distances import distance
from leakaudit_gradients.lbfgs import Found, minimize
from leakaudit_gradients.localrun import LocalRun, Simulate
from leakaudit_gradients.merging import merged
from leakaudit_gradients.method import Method
from leakaudit_gradients.priors import Prior, invariants, penalty
from leakaudit_gradients.softmasks import logits_of, soft

__all__ = ["Goal", "Guess", "match"]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What is to be matched.

    Attributes:
        updates: Observed tensors by name, each (targets, *shape of the parameter). Those that are missing are not matched.
        simulate: The update that a target's images and masks would give.
        weights: Trust in [0, 1] in every entry of `updates`, by which both sides are multiplied; None for 1.
        run: The batches behind it.
        statistics: Batch statistics behind each update by name, each (targets, channels), and the function that simulates them
            from a target's images; None where they are not known.
        mapped: Whether `simulate` may be mapped over targets by vmap; else targets are simulated one after another.
        masks: True masks (targets, samples, regions, *spatial) where they are known; None to search for them.
        priors: What auxiliary images taught of images, by the name of its weight in `Method`: `pca`, `autoencoder`.
        bounds: Least and largest value of images, by modality, both (modalities,), for the box.
        at_once: Most targets that are simulated at once.
    """

    updates: Tensors
    simulate: Simulate
    run: LocalRun
    weights: Tensors | None = None
    statistics: tuple[Tensors, Callable[[Tensor], Tensors]] | None = None
    mapped: bool = True
    masks: Tensor | None = None
    priors: Mapping[str, Prior] = field(default_factory=dict)
    bounds: tuple[Tensor, Tensor] | None = None
    at_once: int = 32


@dataclass(frozen=True, kw_only=True)
class Guess:
    """Images and masks of targets: where a search starts, or what it found.

    Attributes:
        images: (targets, samples, modalities, *spatial).
        masks: (targets, samples, regions, *spatial), values in [0, 1].
        loss: (targets,), the objective with its priors; None before a search.
    """

    images: Tensor
    masks: Tensor
    loss: Tensor | None = None


def match(goal: Goal, method: Method, starts: Sequence[Guess]) -> Guess:
    """Search from every start and return the best images and masks of each target.

    Args:
        goal: What is to be matched.
        method: How to search.
        starts: One guess about all targets per start.
    """
    count, problem = len(starts[0].images), _Problem(goal, method, starts[0])
    points = torch.cat([problem.point(start) for start in starts])

    def evaluate(some: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return problem.evaluate(some, rows % count)

    if method.optimizer == "lbfgs":
        found = minimize(evaluate, points, evaluations=method.iterations, history=method.history)
    else:
        found = descend(evaluate, points, method, problem.bounds() if method.box else None)
    return problem.guess(_best(found, count))


def _best(found: Found, count: int) -> Found:
    """Return for each of `count` targets the best of its starts."""
    values = torch.nan_to_num(found.values, nan=torch.inf).reshape(-1, count)
    rows = values.argmin(dim=0) * count + torch.arange(count, device=values.device)
    return Found(points=found.points[rows], values=found.values[rows], evaluations=found.evaluations[rows])


class _Problem:
    """One target's unknowns as a point: images, then logits of masks where these are searched for."""

    def __init__(self, goal: Goal, method: Method, like: Guess) -> None:
        self.goal, self.method = goal, method
        copies = goal.run.copies
        self._images = (copies * like.images.shape[1], *like.images.shape[2:])
        self._masks = (copies * like.masks.shape[1], *like.masks.shape[2:])
        self._split = int(torch.Size(self._images).numel())

    def point(self, start: Guess) -> Tensor:
        """Return a start as points (targets, d): every pass over the data starts alike."""
        copies = self.goal.run.copies
        images = start.images.repeat(1, copies, *[1] * (start.images.ndim - 2)).flatten(1)
        if self.goal.masks is not None:
            return images
        logits = torch.stack([logits_of(masks) for masks in start.masks])
        return torch.cat([images, logits.repeat(1, copies, *[1] * (logits.ndim - 2)).flatten(1)], dim=1)

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Return the box of a point's entries; logits are free."""
        if self.goal.bounds is None:
            return None
        low, high = (b.reshape(1, -1, *[1] * (len(self._images) - 2)).expand(self._images).flatten() for b in self.goal.bounds)
        free = torch.full((0 if self.goal.masks is not None else int(torch.Size(self._masks).numel()),), torch.inf).to(low)
        return torch.cat([low, -free]), torch.cat([high, free])

    def unpack(self, point: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the images and masks of one target."""
        images = point[: self._split].reshape(self._images)
        if known is not None:
            return images, known.repeat(self.goal.run.copies, *[1] * (known.ndim - 1))
        return images, soft(point[self._split :].reshape(self._masks))

    def objective(self, point: Tensor, updates: Tensors, weights: Tensors, statistics: Tensors, known: Tensor | None) -> Tensor:
        """Return the objective of one target, a scalar."""
        x, y = self.unpack(point, known)
        simulated = self.goal.simulate(x, y)
        if weights:
            simulated = {name: simulated[name] * weight for name, weight in weights.items()}
            updates = {name: updates[name] * weight for name, weight in weights.items()}
        loss = distance(simulated, updates, self.method.objective) + penalty(x, self.method, self.goal.priors)
        if statistics and self.goal.statistics is not None:
            loss = loss + self.method.statistics * disagreement(self.goal.statistics[1](x), statistics)
        copies = self.goal.run.copies
        if copies > 1 and self.method.invariance:
            loss = loss + self.method.invariance * (invariants(x, copies) + invariants(y, copies))
        return loss

    def evaluate(self, points: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return values (k,) and gradients (k, d) at points of some targets."""
        values, gradients = [], []
        seen = self.goal.statistics[0] if self.goal.statistics is not None and self.method.statistics else {}
        size = self.goal.at_once if self.goal.mapped else 1
        for some, of in zip(points.split(size), targets.split(size), strict=True):
            z = some.detach().requires_grad_()
            updates = {name: tensor[of] for name, tensor in self.goal.updates.items()}
            weights = {name: tensor[of] for name, tensor in (self.goal.weights or {}).items()}
            statistics = {name: tensor[of] for name, tensor in seen.items()}
            known = None if self.goal.masks is None else self.goal.masks[of]
            if self.goal.mapped:
                axes = (0, 0, 0, 0, None if known is None else 0)
                value = vmap(self.objective, in_dims=axes)(z, updates, weights, statistics, known)
            else:
                first, trust, own = ({name: t[0] for name, t in many.items()} for many in (updates, weights, statistics))
                value = self.objective(z[0], first, trust, own, None if known is None else known[0])[None]
            (gradient,) = torch.autograd.grad(value.sum(), z)
            values.append(value.detach())
            gradients.append(gradient)
        return torch.cat(values), torch.cat(gradients)

    def guess(self, found: Found) -> Guess:
        """Return images and masks at the points found."""
        known = self.goal.masks
        pairs = [
            merged(*self.unpack(point, None if known is None else known[i]), self.goal.run) for i, point in enumerate(found.points)
        ]
        return Guess(
            images=torch.stack([x for x, _ in pairs]), masks=torch.stack([y for _, y in pairs]), loss=found.values
        )  # fmt: skip
