"""Many paired differences at once: the bounds of `intervals.leakage_interval`, with the same resamples for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from leakaudit.scoring.checks import EvidenceError, Floats, finite

__all__ = ["below_zero", "counts", "upper_bounds"]

_BLOCK = 2_000_000
"""Most numbers held in memory at once."""
_MOST = 200_000
"""Resamples that suffice: at a level corrected for 600 comparisons 8 of them are expected beyond the bound."""


def counts(n: int, resamples: int, seed: int, wide: int = 1) -> Iterator[Floats]:
    """Yield blocks of resamples of `n` patients as shares that each patient has of the mean, (block, n).

    Args:
        n: Patients.
        resamples: Resamples in all.
        seed: Seed; the draws are those of `intervals.ratio_interval`.
        wide: Numbers that the caller makes of each resample, so that a block fits into memory.
    """
    rng = np.random.default_rng(seed)
    # An even number of draws in a block: the generator makes them in pairs.
    size = max(2, _BLOCK // max(n, wide) // 2 * 2)
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        draw = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(draw.ravel(), minlength=rows * n).reshape(rows, n) / n


def upper_bounds(values: Floats, *, level: float = 0.95, seed: int, resamples: int = 2000) -> Floats:
    """Return the upper bound of the mean of each difference: the larger of bootstrap-t and t, and MOVER over repeats.

    Args:
        values: Differences, (differences, repeats, patients), at least two patients.
        level: Two-sided level.
        seed: Seed of the resampling.
        resamples: Resamples of the patients.

    Returns:
        Bounds, (differences,); `intervals.leakage_interval(...).high` of each.
    """
    parts = _Parts(values, level)
    worst = np.full(len(values), np.inf)
    t = np.concatenate(list(parts.t_values(resamples, seed, np.arange(len(values)))))
    if t.size:
        usable = ~np.isnan(t).all(axis=0)
        worst[usable] = np.nanquantile(t[:, usable], (1 - level) / 2, axis=0)
    reach = np.where(parts.spread, np.maximum(parts.t_patients, -worst) * parts.se, 0.0)
    return np.asarray(parts.center + np.hypot(reach, parts.repeats))


def below_zero(values: Floats, *, level: float, seed: int) -> NDArray[np.bool_]:
    """Return whether the upper bound of each difference is below zero at a level that is corrected for many comparisons.

    Equal to `upper_bounds(...) < 0` but without a resample where t decides already. MOVER turned around: the bound is below
    zero where t_0 = sqrt(m^2 - repeats^2) / se exceeds both Student's t and the bootstrapped one. The latter is decided by
    counting the resamples beyond -t_0, as (1 + count) / (1 + B) <= (1 - level) / 2.

    Args:
        values: Differences, (differences, repeats, patients).
        level: Two-sided level.
        seed: Seed of the resampling.
    """
    parts = _Parts(values, level)
    tail = (1 - level) / 2
    squared = parts.center**2 - parts.repeats**2
    ratio = np.divide(np.sqrt(np.maximum(squared, 0)), parts.se, out=np.full(len(values), np.inf), where=parts.spread)
    sure = (parts.center < 0) & (squared > 0) & (ratio > parts.t_patients)
    open_ = np.flatnonzero(sure & parts.spread)
    if len(open_):
        resamples = max(2000, min(math.ceil(20 / tail), _MOST), math.ceil(4 / tail))
        beyond, drawn = np.zeros(len(open_)), np.zeros(len(open_))
        for t in parts.t_values(resamples, seed, open_):
            beyond += (t <= -ratio[open_]).sum(axis=0)
            drawn += (~np.isnan(t)).sum(axis=0)
        sure[open_] = (1 + beyond) / (1 + drawn) <= tail
    return np.asarray(sure)


class _Parts:
    """Center, standard error over patients and reach over repeats of each difference."""

    def __init__(self, values: Floats, level: float) -> None:
        table = finite("the paired differences", values, ndim=3)
        repeats, n = table.shape[1:]
        if n < 2:
            raise EvidenceError("a comparison needs at least 2 patients")
        means = table.mean(axis=1)
        self.center = means.mean(axis=1)
        self.around = means - self.center[:, None]
        self.se = np.sqrt((self.around**2).sum(axis=1) / (n - 1) / n)
        self.spread = self.se > 1e-12 * (1.0 + np.abs(means).max(axis=1))
        # Sums of squares by subtraction leave rounding where a resample has no spread: nothing so small is one.
        self.tiny = 1e-5 * np.abs(self.around).max(axis=1)
        self.t_patients = float(stats.t.ppf((1 + level) / 2, n - 1))
        self.repeats = np.zeros(len(table))
        if repeats > 1:
            t = float(stats.t.ppf((1 + level) / 2, repeats - 1))
            self.repeats = t * table.mean(axis=2).std(axis=1, ddof=1) / math.sqrt(repeats)

    def t_values(self, resamples: int, seed: int, chosen: NDArray[np.intp]) -> Iterator[Floats]:
        """Yield bootstrapped t values, (block, chosen); NaN where a resample has no spread."""
        around, n = self.around[chosen].T, self.around.shape[1]
        both = np.concatenate([around, around**2], axis=1)
        for share in counts(n, resamples, seed, both.shape[1]):
            mean, square = np.split(share @ both, 2, axis=1)
            error = np.sqrt(np.maximum(square - mean**2, 0) / (n - 1))
            yield np.divide(mean, error, out=np.full(mean.shape, np.nan), where=error > self.tiny[chosen])
