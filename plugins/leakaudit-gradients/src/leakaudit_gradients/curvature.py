"""What a quasi-Newton method remembers of each target, and the inverse Hessian that follows."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Curvature"]


class Curvature:
    """The last steps s and gradient differences y of every target, in a ring of its own.

    Args:
        like: (targets, d), for sizes, type and device.
        history: Pairs that are kept for each target.
    """

    def __init__(self, like: Tensor, history: int) -> None:
        n, d = like.shape
        self._history = history
        self._s, self._y = like.new_zeros(n, history, d), like.new_zeros(n, history, d)
        self._rho = like.new_zeros(n, history)
        self._scale = like.new_ones(n)
        self._count = torch.zeros(n, dtype=torch.long, device=like.device)
        self._head = torch.zeros_like(self._count)

    def remember(self, rows: Tensor, s: Tensor, y: Tensor) -> None:
        """Add one pair to each of some targets; a pair without positive curvature is dropped.

        Args:
            rows: (k,), targets.
            s: (k, d), steps.
            y: (k, d), differences of gradients.
        """
        product, square = (s * y).sum(dim=1), (y * y).sum(dim=1)
        good = (product > torch.finfo(s.dtype).eps * square) & (product > 0)
        rows, s, y, product, square = rows[good], s[good], y[good], product[good], square[good]
        place = self._head[rows]
        self._s[rows, place], self._y[rows, place] = s, y
        self._rho[rows, place] = 1 / product
        self._scale[rows] = product / square
        self._head[rows] = (place + 1) % self._history
        self._count[rows] = (self._count[rows] + 1).clamp_max(self._history)

    def forget(self, rows: Tensor) -> None:
        """Start some targets anew."""
        self._count[rows] = 0
        self._scale[rows] = 1.0

    def times(self, rows: Tensor, gradient: Tensor) -> Tensor:
        """Return the inverse Hessian of each of some targets times its gradient, (k, d)."""
        count, head = self._count[rows], self._head[rows]
        q = gradient.clone()
        steps: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for age in range(1, (int(count.max()) if len(rows) else 0) + 1):
            place = (head - age) % self._history
            s, y = self._s[rows, place], self._y[rows, place]
            rho = self._rho[rows, place] * (age <= count)
            a = rho * (s * q).sum(dim=1)
            q -= a[:, None] * y
            steps.append((s, y, rho, a))
        q *= self._scale[rows][:, None]
        for s, y, rho, a in reversed(steps):
            b = rho * (y * q).sum(dim=1)
            q += (a - b)[:, None] * s
        return q
