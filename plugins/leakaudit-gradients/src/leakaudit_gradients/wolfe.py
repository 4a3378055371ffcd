"""Line searches of many targets side by side, one evaluation each at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["Lines"]

_DECREASE, _SLOPE = 1e-4, 0.9
"""Constants of the strong Wolfe conditions, as usual for quasi-Newton methods."""
_TRIES, _ENOUGH = 20, 10
"""Evaluations after which a line is given up, and after which mere decrease is enough."""


class Lines:
    """For each target the line f(x + alpha d): where it starts, what brackets a good step, and the step to try next.

    The lower end of a bracket decreases f enough and still descends; the upper end does not decrease f enough, or ascends.

    Args:
        value: (targets,), f at the start of each line.
        slope: (targets,), its derivative there, negative.
        alpha: (targets,), first steps to try.
    """

    def __init__(self, value: Tensor, slope: Tensor, alpha: Tensor) -> None:
        self.slope, self.alpha = slope.clone(), alpha.clone()
        self._value, self._tries = value.clone(), torch.zeros_like(value, dtype=torch.long)
        self._low, self._low_value, self._low_slope = torch.zeros_like(value), value.clone(), slope.clone()
        self._high, self._high_value = torch.full_like(value, math.inf), torch.full_like(value, math.inf)
        self._high_slope = torch.zeros_like(value)

    def begin(self, rows: Tensor, value: Tensor, slope: Tensor, alpha: Tensor) -> None:
        """Start new lines for some targets."""
        self._value[rows], self.slope[rows], self.alpha[rows], self._tries[rows] = value, slope, alpha, 0
        self._low[rows], self._low_value[rows], self._low_slope[rows] = 0.0, value, slope
        self._high[rows], self._high_value[rows], self._high_slope[rows] = math.inf, math.inf, 0.0

    def judge(self, rows: Tensor, value: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Take what was found at `alpha`, and choose the next step where it will not do.

        Args:
            rows: (k,), targets.
            value: (k,), f there.
            slope: (k,), derivative along the line there.

        Returns:
            Which of them are done, and which have to be given up, both (k,).
        """
        alpha, start, first = self.alpha[rows], self._value[rows], self.slope[rows]
        finite = torch.isfinite(value) & torch.isfinite(slope)
        value = torch.where(finite, value, math.inf)
        enough = value <= start + _DECREASE * alpha * first
        # Close to a minimum the decrease drowns in rounding; slopes still tell (Hager and Zhang 2005, "approximate Wolfe").
        rounding = 4 * torch.finfo(value.dtype).eps * start.abs()
        enough |= (value <= start + rounding) & (slope <= (2 * _DECREASE - 1) * first)
        flat = slope.abs() <= -_SLOPE * first
        self._tries[rows] += 1
        tries = self._tries[rows]
        accepted = finite & enough & (flat | (tries >= _ENOUGH))
        lost = ~accepted & (tries >= _TRIES)

        upper = ~finite | ~enough | (slope > 0) | (value > self._low_value[rows])
        up, low = rows[upper & ~accepted], rows[~upper & ~accepted]
        previous = self._low[rows], self._low_value[rows], self._low_slope[rows]
        self._high[up], self._high_value[up], self._high_slope[up] = (t[upper & ~accepted] for t in (alpha, value, slope))
        self._low[low], self._low_value[low], self._low_slope[low] = (t[~upper & ~accepted] for t in (alpha, value, slope))
        self._next(rows, alpha, value, slope, previous)
        return accepted, lost

    def _next(self, rows: Tensor, alpha: Tensor, value: Tensor, slope: Tensor, previous: tuple[Tensor, Tensor, Tensor]) -> None:
        low, high = self._low[rows], self._high[rows]
        inside = _cubic(
            low, self._low_value[rows], self._low_slope[rows], high, self._high_value[rows], self._high_slope[rows]
        )  # fmt: skip
        width = high - low
        inside = torch.where(torch.isfinite(inside), inside, low + width / 2)
        inside = torch.minimum(torch.maximum(inside, low + 0.1 * width), low + 0.9 * width)
        beyond = _cubic(*previous, alpha, value, slope)
        beyond = torch.where(torch.isfinite(beyond), beyond, 2 * alpha)
        beyond = torch.minimum(torch.maximum(beyond, 1.5 * alpha), 8 * alpha)
        self.alpha[rows] = torch.where(torch.isinf(high), beyond, inside)


def _cubic(a: Tensor, fa: Tensor, ga: Tensor, b: Tensor, fb: Tensor, gb: Tensor) -> Tensor:
    """Return where the cubic through two values and slopes is least (Nocedal and Wright, equation 3.59); NaN where nowhere."""
    p = ga + gb - 3 * (fa - fb) / (a - b)
    root = (p * p - ga * gb).sqrt() * torch.sign(b - a)
    return b - (b - a) * (gb + root - p) / (gb - ga + 2 * root)
