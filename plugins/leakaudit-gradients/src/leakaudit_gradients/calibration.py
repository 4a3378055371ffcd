"""A map from the update of the last layer to a property of the samples, learned on simulated updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Map", "learn"]

Floats = NDArray[np.float64]

_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_LEAST = 1e-3
_LINKS: dict[str, tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]] = {
    "identity": (lambda v: v, lambda v: v),
    # No share exceeds 1; beyond it a wild extrapolation would overflow.
    "logarithm": (lambda v: np.log(np.maximum(v, _LEAST)), lambda v: np.exp(np.minimum(v, 1.0))),
}


@dataclass(frozen=True, kw_only=True)
class Map:
    """Ridge regression, on the property or its logarithm.

    Attributes:
        center: (d,), mean of the features.
        scale: (d,), their standard deviation.
        coefficients: (d,).
        intercept: Prediction at the mean.
        link: `"identity"` or `"logarithm"`.
        low: Least prediction.
        high: Largest prediction.
    """

    center: Floats
    scale: Floats
    coefficients: Floats
    intercept: float
    link: str
    low: float
    high: float

    def __call__(self, features: Floats) -> Floats:
        """Return the property of updates with features (n, d), within what was seen in learning."""
        linear = ((features - self.center) / self.scale) @ self.coefficients + self.intercept
        return np.clip(_LINKS[self.link][1](linear), self.low, self.high)


def learn(features: Floats, values: Floats) -> Map:
    """Return the map whose leave-one-out error of the logarithm is least.

    Args:
        features: (n, d).
        values: (n,), not negative.
    """
    center, scale = features.mean(axis=0), features.std(axis=0)
    # Where the network is normalized some entries never move.
    scale = np.where(scale > 1e-12 * max(float(scale.max()), 1e-300), scale, np.inf)
    x = (features - center) / scale
    best: tuple[float, Map] | None = None
    truth = np.log(np.maximum(values, _LEAST))
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    for link, (forward, back) in _LINKS.items():
        y = forward(values)
        for ridge in _RIDGES:
            damped = s / (s * s + ridge * len(x))
            fitted = u @ (s * damped * (u.T @ (y - y.mean()))) + y.mean()
            lever = (u * u) @ (s * damped) + 1 / len(x)
            out = y - (y - fitted) / np.maximum(1 - lever, 1e-6)
            error = float(np.abs(np.log(np.maximum(back(out), _LEAST)) - truth).mean())
            if best is None or error < best[0]:
                coefficients = vt.T @ (damped * (u.T @ (y - y.mean())))
                best = error, Map(
                    center=center, scale=scale, coefficients=coefficients, intercept=float(y.mean()), link=link,
                    low=float(values.min()), high=float(values.max()),
                )  # fmt: skip
    assert best is not None
    return best[1]
