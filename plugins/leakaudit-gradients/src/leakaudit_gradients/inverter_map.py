"""Ridge regression from few samples of many features to many values, in the dual form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DualRidge", "fit", "held_out"]

Floats = NDArray[np.float64]

RIDGES = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 100.0, 1e4)
"""Penalties tried, over the mean square of a sample's standardized features. The last one leaves the mean."""
_DEAD = 1e-6
"""Spread of a feature over the largest one below which it is rounding."""
_CLIP = 5.0
"""Standard deviations that a feature may be off: one that hardly ever moves, as many in a step of Adam, would else decide alone."""


@dataclass(frozen=True, kw_only=True)
class DualRidge:
    """A linear map, as weights of the samples it was learned on.

    Attributes:
        center: (d,), mean of the features.
        scale: (d,), their standard deviation; infinite where they never move.
        support: (n, d), the standardized features of the samples, clipped, and centered again.
        shift: (d,), by how much.
        weights: (n, p), what each sample adds to the values.
        intercept: (p,), values at the mean.
        ridge: The penalty, over the mean square of a sample's standardized features.
        explained: Share of the values' variance that is predicted for groups left out; 0 or less where nothing is.
    """

    center: Floats
    scale: Floats
    support: Floats
    shift: Floats
    weights: Floats
    intercept: Floats
    ridge: float
    explained: float

    def __call__(self, features: Floats) -> Floats:
        """Return values (m, p) of features (m, d)."""
        x = np.clip((features - self.center) / self.scale, -_CLIP, _CLIP) - self.shift
        return np.asarray(x @ self.support.T @ self.weights + self.intercept)


def fit(features: Floats, values: Floats, groups: Sequence[int], ridges: Sequence[float] = RIDGES) -> DualRidge:
    """Return the map with the ridge that predicts groups left out best.

    The minimum of |Y - X B|^2 + r |B|^2 is B = X^T (X X^T + r)^-1 Y (Saunders, Gammerman and Vovk 1998, ridge regression in
    dual variables), so that only an (n, n) matrix is decomposed, once for all ridges.

    Args:
        features: (n, d).
        values: (n, p).
        groups: Group of each sample; of all samples of one patient the same, or a ridge is chosen that remembers patients.
        ridges: Penalties to choose from, over the mean square of a sample's standardized features.
    """
    center, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > _DEAD * max(float(scale.max()), 1e-300), scale, np.inf)
    x = features - center
    x /= scale
    np.clip(x, -_CLIP, _CLIP, out=x)
    shift = x.mean(axis=0)
    x -= shift
    intercept = values.mean(axis=0)
    y = values - intercept
    power, basis = np.linalg.eigh(x @ x.T)
    power = np.maximum(power, 0.0)
    unit = max(float(power.mean()), 1e-300)
    # Errors need only inner products of the values: n numbers per sample in place of every voxel.
    square, turned = np.linalg.eigh(y @ y.T)
    short = turned * np.sqrt(np.maximum(square, 0.0))
    errors = [float(np.square(held_out(basis, power / (power + r * unit), short, groups)).sum()) for r in ridges]
    best = int(np.argmin(errors))
    # Without the group the mean is another one, too: the fair base of what is explained.
    base = float(np.square(held_out(basis, np.zeros_like(power), short, groups)).sum())
    weights = basis @ ((basis.T @ y) / (power + ridges[best] * unit)[:, None])
    return DualRidge(
        center=center, scale=scale, support=x, shift=shift, weights=weights, intercept=intercept, ridge=ridges[best],
        explained=1 - errors[best] / max(base, 1e-300),
    )  # fmt: skip


def held_out(basis: Floats, kept: Floats, values: Floats, groups: Sequence[int]) -> Floats:
    """Return the errors (n, p) at the samples of each group of the map learned without that group, in closed form.

    For a linear smoother with hat matrix H that minimizes a penalized square, e_g = (I - H_gg)^-1 (y - H y)_g (Allen 1974, PRESS,
    for single samples). The intercept is part of H and not penalized.

    Args:
        basis: (n, n), eigenvectors of the Gram matrix of centered features.
        kept: (n,), the share of each that the ridge keeps.
        values: (n, p), centered.
        groups: (n,), at least two of them.
    """
    n = len(values)
    hat = (basis * kept) @ basis.T + 1 / n
    residual, of = values - hat @ values, np.asarray(groups)
    errors = np.empty_like(residual)
    for group in np.unique(of):
        rows = np.flatnonzero(of == group)
        errors[rows] = np.linalg.solve(np.eye(len(rows)) - hat[np.ix_(rows, rows)], residual[rows])
    return errors
