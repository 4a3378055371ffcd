"""Intervals over patients and training repeats: bootstrap-t united with t, and the MOVER combination with repeats.

The patient is the unit. Slices as units covered 45-59 % of the time; BCa is not used because it covers worse on skewed scores
and yields NaN on constant ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from leakaudit.scoring.checks import EvidenceError, Floats, finite

__all__ = ["Interval", "difference_interval", "leakage_interval", "patient_interval", "ratio_interval", "with_repeats"]

_BLOCK = 4_000_000
"""Most resampled values held in memory at once."""
_KEPT = 1_000_000
"""Most indices of one set of resamples that are kept for the next endpoint: a run asks for few sets, very often."""


_FLAT = 0.01
"""Share of the sample's standard error below which a resample counts as having no spread."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval.

    Attributes:
        low: Lower bound.
        high: Upper bound.
        method: How it was computed, in words for the report.
        level: Confidence level.
    """

    low: float
    high: float
    method: str
    level: float = 0.95


def _draws(n: int, level: float, seed: int, resamples: int) -> Iterator[NDArray[np.intp]]:
    """Yield blocks of resampled patient indices: the same for every endpoint and defense with the same n, level and seed."""
    # At least 20 resamples lie beyond each bound, whatever the (multiplicity-corrected) level.
    left = max(resamples, math.ceil(40 / (1 - level)))
    if left * n <= min(_KEPT, _BLOCK):
        yield _kept(n, left, seed)
        return
    rng = np.random.default_rng(seed)
    while left > 0:
        size = min(left, max(1, _BLOCK // n))
        yield rng.integers(0, n, size=(size, n))
        left -= size


@lru_cache(maxsize=8)
def _kept(n: int, count: int, seed: int) -> NDArray[np.intp]:
    draws = np.random.default_rng(seed).integers(0, n, size=(count, n))
    draws.flags.writeable = False
    return draws


def ratio_interval(
    gain: ArrayLike, room: ArrayLike | float = 1.0, *, level: float = 0.95, seed: int, resamples: int = 2000
) -> Interval:
    """Return the interval of sum(gain) / sum(room) over patients, both resampled jointly.

    The union of bootstrap-t and t, both on the linearized values e_i = (gain_i - L room_i) / mean(room). With a constant room
    this is exactly `patient_interval(gain / room)`. Resamples with hardly any spread carry no t value and are left out (of scores
    that are all near 1 but for one, those that miss it would put the lower bound thousands below 0); values without any spread
    have the t interval alone, a point.

    Args:
        gain: S_i - C_i per patient, shape (n,), n >= 2.
        room: A_i - C_i per patient, shape (n,), or one number.
        level: Confidence level, two-sided.
        seed: Seed of the resampling.
        resamples: Smallest number of resamples; raised where `level` needs more.

    Raises:
        EvidenceError: Fewer than two patients, values that are not finite, or a mean room that is not positive.
    """
    top = finite("the patients' values", gain, ndim=1)
    bottom = np.broadcast_to(finite("the room above chance", room), top.shape)
    n = len(top)
    if n < 2:
        raise EvidenceError("an interval over patients needs at least 2 patients; there is 1")
    if bottom.mean() <= 0:
        raise EvidenceError("full recovery does not score above chance on average, so leakage has no interval")
    value, spread = _ratio(top[None], bottom[None])
    center, se = float(value[0]), float(spread[0])
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * se
    low, high = center - half, center + half
    if se <= _tiny(top, bottom):
        return Interval(center, center, "t (no spread)", level)
    t_values = []
    constant = bottom.min() == bottom.max()  # a room that is the same in every resample need not be drawn
    for draw in _draws(n, level, seed, resamples):
        ratio, error = _ratio(top[draw], bottom[None] if constant else bottom[draw])
        usable = error > max(_tiny(top, bottom), _FLAT * se)
        t_values.append((ratio[usable] - center) / error[usable])
    quantiles = np.quantile(np.concatenate(t_values), [(1 - level) / 2, (1 + level) / 2])
    low, high = min(low, center - float(quantiles[1]) * se), max(high, center - float(quantiles[0]) * se)
    return Interval(low, high, "bootstrap-t united with t over patients", level)


def _ratio(top: Floats, bottom: Floats) -> tuple[Floats, Floats]:
    """Return ratio and linearized standard error along the last axis; the error is NaN where the mean room is not positive."""
    n = top.shape[-1]
    scale = bottom.mean(axis=-1)
    scale = np.where(scale > 0, scale, np.nan)
    ratio = top.mean(axis=-1) / scale
    residual = ratio[..., None] * bottom
    np.square(np.subtract(top, residual, out=residual), out=residual)
    return ratio, np.sqrt(residual.sum(axis=-1) / (n - 1) / n) / scale


def _tiny(top: Floats, bottom: Floats) -> float:
    return 1e-12 * (1.0 + float(np.abs(top).max())) / float(bottom.mean())


def patient_interval(values: ArrayLike, *, level: float = 0.95, seed: int, resamples: int = 2000) -> Interval:
    """Return the interval of a mean over patients: the union of bootstrap-t and t.

    Args:
        values: One value per patient, shape (n,), n >= 2.
        level: Confidence level, two-sided.
        seed: Seed of the resampling.
        resamples: Smallest number of resamples.

    Raises:
        EvidenceError: Fewer than two patients, or values that are not finite.
    """
    return ratio_interval(values, level=level, seed=seed, resamples=resamples)


def with_repeats(means: ArrayLike, patients: Interval) -> Interval:
    """Widen an interval over patients by the spread of training repeats (MOVER).

    U = m + sqrt((U_p - m)^2 + t(R - 1)^2 s^2 / R) and likewise below, with m and s the mean and standard deviation of the
    repeats' means. With one repeat nothing is known about other trainings: the interval is returned as it is, with the scope
    "this trained model" in its method.

    Args:
        means: Mean of each training repeat, shape (R,).
        patients: Interval over patients of the values averaged over the repeats.

    Raises:
        EvidenceError: A mean is not finite.
    """
    repeats = finite("the repeats' means", means, ndim=1)
    count = len(repeats)
    if count == 1:
        return Interval(patients.low, patients.high, f"{patients.method}; this trained model", patients.level)
    center = float(repeats.mean())
    extra = float(stats.t.ppf((1 + patients.level) / 2, count - 1)) * float(repeats.std(ddof=1)) / math.sqrt(count)
    return Interval(
        center - math.hypot(center - patients.low, extra),
        center + math.hypot(patients.high - center, extra),
        f"{patients.method}; {count} training repeats by MOVER",
        patients.level,
    )


def leakage_interval(
    gain: ArrayLike, room: ArrayLike | float = 1.0, *, level: float = 0.95, seed: int, resamples: int = 2000
) -> Interval:
    """Return the interval of leakage over patients and training repeats.

    Args:
        gain: S - C, shape (patients,) or (repeats, patients).
        room: A - C of the same shape, or one number.
        level: Confidence level, two-sided.
        seed: Seed of the resampling.
        resamples: Smallest number of resamples.

    Raises:
        EvidenceError: As in `ratio_interval`.
    """
    top = np.atleast_2d(finite("the patients' values", gain))
    bottom = np.broadcast_to(finite("the room above chance", room), top.shape)
    patients = ratio_interval(top.mean(axis=0), bottom.mean(axis=0), level=level, seed=seed, resamples=resamples)
    # One denominator for all repeats keeps the mean over repeats equal to the pooled ratio.
    return with_repeats(top.mean(axis=1) / bottom.mean(), patients)


def difference_interval(
    values: ArrayLike, reference: ArrayLike, *, level: float = 0.9, seed: int, resamples: int = 2000
) -> Interval:
    """Return the interval of the mean of `values - reference`, paired by patient (and by training repeat).

    Used for Dice with and without a defense. The default level of .9 gives one-sided bounds of 95 %.

    Args:
        values: Shape (patients,) or (repeats, patients).
        reference: The same shape.
        level: Confidence level, two-sided.
        seed: Seed of the resampling.
        resamples: Smallest number of resamples.

    Raises:
        EvidenceError: Shapes differ, fewer than two patients, or values that are not finite.
    """
    left, right = finite("the values", values), finite("the reference values", reference)
    if left.shape != right.shape:
        raise EvidenceError(f"paired values have shapes {left.shape} and {right.shape}; they must be the same patients")
    return leakage_interval(left - right, level=level, seed=seed, resamples=resamples)
