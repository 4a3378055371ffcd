"""Adam for many targets at once, as published gradient inversions use it: signs, decay, warm-up, box."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from leakaudit_gradients.lbfgs import Evaluate, Found
from leakaudit_gradients.method import Method

__all__ = ["descend"]

_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8


def descend(evaluate: Evaluate, start: Tensor, method: Method, bounds: tuple[Tensor, Tensor] | None = None) -> Found:
    """Minimize one function per target by Adam; each keeps its own best point.

    Args:
        evaluate: Values and gradients of targets at points.
        start: (targets, d).
        method: Iterations, learning rate, signs, decay and warm-up.
        bounds: Least and largest value of each entry, both (d,), where points are kept in a box.
    """
    x = start.detach().clone()
    rows = torch.arange(len(x), device=x.device)
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    best, lowest = x.clone(), x.new_full((len(x),), math.inf)
    for step in range(method.iterations):
        value, gradient = evaluate(x, rows)
        better = value < lowest
        best, lowest = torch.where(better[:, None], x, best), torch.where(better, value, lowest)
        done = step / method.iterations
        g = _signed(torch.nan_to_num(gradient), method, done)
        m, v = _FIRST * m + (1 - _FIRST) * g, _SECOND * v + (1 - _SECOND) * g * g
        hat = (v / (1 - _SECOND ** (step + 1))).sqrt() + _TINY
        x = x - _rate(method, step) * m / (1 - _FIRST ** (step + 1)) / hat
        if bounds is not None:
            x = torch.minimum(torch.maximum(x, bounds[0]), bounds[1])
    return Found(points=best, values=lowest, evaluations=torch.full_like(rows, method.iterations))


def _signed(gradient: Tensor, method: Method, done: float) -> Tensor:
    if method.sign == "hard":
        return gradient.sign()
    if method.sign == "soft":
        # From nearly a sign of gradients of unit size to the gradient itself as the search goes on.
        return torch.tanh(gradient * (1 - done)) / (1 - done)
    return gradient


def _rate(method: Method, step: int) -> float:
    done = step / method.iterations
    rate = method.learning_rate * min(1.0, (step + 1) / (method.warmup + 1))
    if method.decay == "steps":
        return rate * 0.1 ** sum(done >= share for share in (3 / 8, 5 / 8, 7 / 8))
    if method.decay == "cosine":
        return rate * (1 + math.cos(math.pi * done)) / 2
    return rate
