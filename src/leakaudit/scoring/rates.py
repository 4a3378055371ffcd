"""Intervals of rates and areas, the bound on unseen patients, and how many patients an endpoint needs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from leakaudit.scoring.checks import EvidenceError, Floats
from leakaudit.scoring.intervals import Interval

__all__ = [
    "clopper_pearson", "newcombe_auc", "normalized", "patients_for_auc", "patients_for_rate", "rate_bounds", "tail_bound",
]  # fmt: skip


def clopper_pearson(k: float, n: int, level: float = 0.95) -> Interval:
    """Return the exact interval of a rate (Clopper and Pearson 1934).

    Args:
        k: Successes, 0 <= k <= n; fractional where a tie gives part of a credit.
        n: Trials, at least 1.
        level: Confidence level, two-sided.

    Raises:
        EvidenceError: `k` is not within 0 and `n`.
    """
    if n < 1 or not 0 <= k <= n:
        raise EvidenceError(f"a rate of {k} out of {n} is impossible")
    low, high = rate_bounds(k, n, level)
    return Interval(float(low), float(high), "Clopper-Pearson", level)


def rate_bounds(k: ArrayLike, n: int, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return the Clopper-Pearson bounds of many counts `k` out of `n` at once."""
    hits = np.asarray(k, dtype=np.float64)
    tail = (1 - level) / 2
    low = np.where(hits > 0, special.betaincinv(np.where(hits > 0, hits, 1.0), n - hits + 1, tail), 0.0)
    high = np.where(hits < n, special.betaincinv(hits + 1, np.where(hits < n, n - hits, 1.0), 1 - tail), 1.0)
    return low, high


def normalized(interval: Interval, chance: float, anchor: float = 1.0) -> Interval:
    """Return an interval of a raw rate as an interval of leakage, (x - chance) / (anchor - chance), unclipped."""
    room = anchor - chance
    return Interval((interval.low - chance) / room, (interval.high - chance) / room, interval.method, interval.level)


def newcombe_auc(auc: float, n: float | Sequence[float], m: float | Sequence[float], level: float = 0.95) -> Interval:
    """Return Newcombe's interval of an AUC (method 5, Newcombe 2006).

    Solves |A - t| = z sqrt(V(t)) with V(t) = t(1-t) (1 + ((n+m)/2 - 1) ((1-t)/(2-t) + t/(1+t))) / (n m). It covers 94-97 %
    where DeLong's covers 68 % (AUC .9, 5 a side). For an AUC that is the pair-weighted mean over strata, V is the variance
    of that mean.

    Args:
        auc: The AUC, 0 to 1.
        n: Members, or members per stratum; fractional where patients count in part.
        m: Non-members, or non-members per stratum.
        level: Confidence level, two-sided.

    Raises:
        EvidenceError: The AUC is outside 0 and 1, or a side is empty.
    """
    left, right = np.atleast_1d(np.asarray(n, float)), np.atleast_1d(np.asarray(m, float))
    if not 0 <= auc <= 1 or left.shape != right.shape or left.min() < 1 or right.min() < 1:
        raise EvidenceError(f"AUC {auc} of {n} members against {m} non-members has no interval")
    weight = left * right / (left * right).sum()
    z = float(stats.norm.ppf((1 + level) / 2))

    def spread(t: float) -> float:
        bend = (1 - t) / (2 - t) + t / (1 + t)
        variance = t * (1 - t) * (1 + ((left + right) / 2 - 1) * bend) / (left * right)
        return z * math.sqrt(float((weight**2 * variance).sum()))

    def lower(value: float) -> float:
        if value <= 0:
            return 0.0
        # The difference is positive at 0 and negative just below the estimate, also for an estimate of 1.
        return float(optimize.brentq(lambda t: value - t - spread(t), 0.0, value - 1e-12, xtol=1e-13))

    # V(t) = V(1 - t), so that the upper bound mirrors the lower one.
    return Interval(lower(auc), 1 - lower(1 - auc), "Newcombe method 5", level)


def tail_bound(n: int, level: float = 0.95) -> float:
    """Return the largest share of such patients that may be worse than the worst of `n` seen: 1 - (1 - level)^(1/n)."""
    if n < 1:
        raise EvidenceError("a statement about the worst patient needs at least one patient")
    return float(1 - (1 - level) ** (1 / n))


def patients_for_rate(limit: float, level: float = 0.95) -> int:
    """Return the fewest patients of whom none may be hit for a Clopper-Pearson upper bound of at most `limit`."""
    return math.ceil(math.log((1 - level) / 2) / math.log1p(-limit) - 1e-9)


def patients_for_auc(limit: float, power: float = 0.8, level: float = 0.95) -> int:
    """Return how many members (and as many non-members) show 2 AUC - 1 < `limit` with `power` where nothing leaks.

    Normal approximation with the exact null variance of the AUC, (2n + 1) / (12 n^2).
    """
    z = float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))
    # z * 2 * sqrt((2n + 1) / (12 n^2)) = limit, solved for n.
    c = z**2 / (3 * limit**2)
    return math.ceil(c + math.sqrt(c * (c + 1)))
