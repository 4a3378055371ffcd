"""Corrections for many tests: Benjamini-Hochberg for "above chance", Bonferroni for FAIL and for candidate defenses."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from leakaudit.scoring.checks import EvidenceError, Floats, finite

__all__ = ["benjamini_hochberg", "bonferroni_level"]


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Return p-values adjusted to control the false discovery rate (Benjamini and Hochberg 1995), in the given order.

    Args:
        p_values: P-values, shape (tests,).

    Raises:
        EvidenceError: A p-value is not within 0 and 1.
    """
    p = finite("the p-values", p_values, ndim=1)
    if p.min() < 0 or p.max() > 1:
        raise EvidenceError("p-values must lie between 0 and 1")
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def bonferroni_level(level: float, count: int) -> float:
    """Return the confidence level of each of `count` intervals that together hold at `level`."""
    if count < 1:
        raise EvidenceError(f"a correction over {count} tests has no meaning; there must be at least one")
    return 1 - (1 - level) / count
