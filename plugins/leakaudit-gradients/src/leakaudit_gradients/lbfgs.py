"""L-BFGS for many targets at once: each has its own curvature, its own line search and its own pace.

Limited-memory BFGS by the two-loop recursion (Nocedal and Wright, Numerical Optimization, 2nd ed., algorithm 7.4) with a line
search for the strong Wolfe conditions by bracketing and cubic interpolation (chapter 3.5). Nobody waits: every evaluation of the
batch moves each target on, whether that one is still searching along its line or already on the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from leakaudit_gradients.curvature import Curvature
from leakaudit_gradients.wolfe import Lines

__all__ = ["Evaluate", "Found", "minimize"]

Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Points (k, d) and which targets they belong to (k,) -> values (k,) and gradients (k, d)."""

_RETRIES = 2
"""How often in a row a target whose line search fails starts again from the bare gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search ended with.

    Attributes:
        points: (targets, d), the best point of each.
        values: (targets,), its value.
        evaluations: (targets,), evaluations that each took until it converged or the budget was spent.
    """

    points: Tensor
    values: Tensor
    evaluations: Tensor


def minimize(evaluate: Evaluate, start: Tensor, *, evaluations: int, history: int = 50, tolerance: float = 0.0) -> Found:
    """Minimize one function per target.

    A target's path depends on its own function alone, up to rounding: others of the batch only share the evaluation.

    Args:
        evaluate: Values and gradients of some targets at some points.
        start: (targets, d).
        evaluations: Budget of every target.
        history: Pairs of steps and gradient differences that are remembered.
        tolerance: A target is done when no entry of its gradient exceeds this.

    Returns:
        The best points.
    """
    targets = torch.arange(len(start), device=start.device)
    x = start.detach().clone()
    f, g = evaluate(x, targets)
    used = torch.ones_like(targets)
    alive = torch.isfinite(f) & torch.isfinite(g).all(dim=1) & (g.abs().amax(dim=1) > tolerance)
    curvature = Curvature(start, history)
    d = -g
    lines = Lines(f, (g * d).sum(dim=1), _first_step(g))
    failed = torch.zeros_like(targets)
    for _ in range(evaluations - 1):
        rows = targets[alive]
        if not len(rows):
            break
        alpha = lines.alpha[rows]
        trial = x[rows] + alpha[:, None] * d[rows]
        value, gradient = evaluate(trial, rows)
        used[rows] += 1
        accepted, lost = lines.judge(rows, value, (gradient * d[rows]).sum(dim=1))

        some = rows[accepted]
        if len(some):
            curvature.remember(some, trial[accepted] - x[some], gradient[accepted] - g[some])
            x[some], f[some], g[some] = trial[accepted], value[accepted], gradient[accepted]
            failed[some] = 0
            alive[some] = g[some].abs().amax(dim=1) > tolerance
            d[some] = -curvature.times(some, g[some])
            slope = (g[some] * d[some]).sum(dim=1)
            lines.begin(some, f[some], slope, torch.ones_like(slope))
        again = torch.cat([rows[lost], some[lines.slope[some] >= 0]])
        if len(again):
            curvature.forget(again)
            failed[again] += 1
            alive[again] &= failed[again] <= _RETRIES
            d[again] = -g[again]
            lines.begin(again, f[again], (g[again] * d[again]).sum(dim=1), _first_step(g[again]) * 0.1 ** (failed[again] - 1))
    return Found(points=x, values=f, evaluations=used)


def _first_step(gradient: Tensor) -> Tensor:
    """Return the length of a first step along the bare gradient: at most 1, and no entry moves by more than 1."""
    total = gradient.abs().sum(dim=1).clamp_min(math.sqrt(torch.finfo(gradient.dtype).tiny))
    return (1 / total).clamp_max(1.0)
