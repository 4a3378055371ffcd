"""Takes what is no sign of membership out of scores: differences between sites, and how hard a tumor is by its size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "without_site", "without_volume"]

Floats = NDArray[np.float64]
"""One number per patient."""

_SMALLEST = 3
"""Fewer candidates than this have neither a spread nor a slope worth the name."""


def without_site(scores: Floats, sites: Sequence[str]) -> Floats:
    """Return z-scores within each site, shape (patients,).

    A site of fewer than three candidates, or whose scores are all equal, is only centered.
    """
    result = scores.astype(np.float64, copy=True)
    names = np.asarray(sites)
    for site in set(sites):
        here = names == site
        inside = result[here] - result[here].mean()
        spread = inside.std()
        result[here] = inside / spread if here.sum() >= _SMALLEST and spread > 0 else inside
    return result


def without_volume(scores: Floats, volumes: Floats) -> Floats:
    """Return the residuals of a least-squares line of the scores on the logarithm of 1 + tumor volume (in voxels)."""
    x = np.log1p(volumes)
    x = x - x.mean()
    centered: Floats = scores - scores.mean()
    if len(scores) < _SMALLEST or not x.any():
        return centered
    residual: Floats = centered - x * (x @ centered) / (x @ x)
    return residual
