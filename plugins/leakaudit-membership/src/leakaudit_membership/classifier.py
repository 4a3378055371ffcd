"""A classifier for few examples: logistic regression with a quadratic penalty that shadow models held out decide on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leakaudit_membership.calibration import Floats

__all__ = ["Logistic", "fit_over_shadows"]

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""Tried, from the least shrinkage to the most."""
_FOLDS, _STEPS, _ENOUGH = 4, 50, 1e-8


@dataclass(frozen=True, kw_only=True)
class Logistic:
    """A fitted logistic regression on standardized features.

    Attributes:
        center: Mean of each feature, (features,).
        scale: Spread of each feature, (features,).
        weights: (features + 1,); the last is the intercept.
    """

    center: Floats
    scale: Floats
    weights: Floats

    @classmethod
    def fit(cls, x: Floats, y: NDArray[np.bool_], penalty: float) -> Logistic:
        """Minimize the mean logistic loss plus half the penalty times the squared weights (but the intercept's) by Newton steps.

        Args:
            x: (examples, features).
            y: (examples,).
            penalty: More than 0.
        """
        center, scale = x.mean(axis=0), x.std(axis=0)
        scale = np.where(scale > 1e-9, scale, 1.0)
        z = _with_one((x - center) / scale)
        ridge = np.full(z.shape[1], penalty)
        ridge[-1] = 1e-9
        weights = np.zeros(z.shape[1])
        objective = _objective(z, y, weights, ridge)
        for _ in range(_STEPS):
            p = 1 / (1 + np.exp(-np.clip(z @ weights, -500, 500)))
            gradient = z.T @ (p - y) / len(y) + ridge * weights
            curvature = (z.T * (p * (1 - p))) @ z / len(y) + np.diag(ridge)
            step = np.linalg.solve(curvature, gradient)
            size = 1.0
            while (after := _objective(z, y, weights - size * step, ridge)) > objective and size > 1e-6:
                size /= 2
            if after >= objective - _ENOUGH:
                break
            weights, objective = weights - size * step, after
        return cls(center=center, scale=scale, weights=weights)

    def __call__(self, x: Floats) -> Floats:
        """Return the log odds of each example, (examples,)."""
        return np.asarray(_with_one((x - self.center) / self.scale) @ self.weights)


def fit_over_shadows(x: Floats, inside: NDArray[np.bool_]) -> Logistic:
    """Return a classifier of shadow models' members, with the penalty under which shadow models held out are told best.

    Args:
        x: Features of each shadow model's answer on each patient, (shadows, patients, features).
        inside: Whether the shadow model was trained on the patient, (shadows, patients).

    Raises:
        ValueError: The shadow models were trained on all patients, or on none.
    """
    if inside.all() or not inside.any():
        raise ValueError("the shadow models were trained on all candidates or on none; there is nothing to tell apart")
    # Two consecutive shadow models are dealt complementary patients: they are held out together.
    fold = np.arange(len(x)) // 2 % _FOLDS
    losses = [sum(_held_out(x, inside, fold == f, penalty) for f in np.unique(fold)) for penalty in PENALTIES]
    best = PENALTIES[int(np.argmin(losses))]
    return Logistic.fit(x.reshape(-1, x.shape[-1]), inside.ravel(), best)


def _held_out(x: Floats, inside: NDArray[np.bool_], held: NDArray[np.bool_], penalty: float) -> float:
    """Return the logistic loss summed over the examples of the shadow models held out."""
    if held.all():
        return 0.0
    fitted = Logistic.fit(x[~held].reshape(-1, x.shape[-1]), inside[~held].ravel(), penalty)
    return float(np.logaddexp(0, np.where(inside[held].ravel(), -1, 1) * fitted(x[held].reshape(-1, x.shape[-1]))).sum())


def _objective(z: Floats, y: NDArray[np.bool_], weights: Floats, ridge: Floats) -> float:
    return float(np.logaddexp(0, np.where(y, -1, 1) * (z @ weights)).mean() + (ridge * weights**2).sum() / 2)


def _with_one(z: Floats) -> Floats:
    return np.concatenate([z, np.ones((len(z), 1))], axis=1)
