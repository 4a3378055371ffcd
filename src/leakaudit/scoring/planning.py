"""How many patients a verdict needs, and how likely it is with those that are there: asked before anything is computed.

All of it is about the best case: nothing leaks, and utility is not lost. What leaks a little needs more patients to pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import stats

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.rates import clopper_pearson, normalized

__all__ = [
    "CANARY_BITS", "DICE_SPREAD", "POWER", "canary_spread", "hits_allowed", "membership_power", "patients_for_hits",
    "patients_for_power", "power_of_mean",
]  # fmt: skip

POWER = 0.8
"""Chance of the wanted verdict that a number of patients is asked to give."""
DICE_SPREAD = 0.08
"""Standard deviation of a patient's difference of Dice: a convention, from BraTS models of equal quality."""
CANARY_BITS = 32
_MOST = 100_000
"""Patients at which the search for a number ends."""


def hits_allowed(n: int, limit: float, gallery: int, level: float = 0.95) -> int | None:
    """Return the most patients found at rank 1 with which identification can still pass; None where not even 0 will do.

    The Clopper-Pearson upper bound of the rate, as leakage between a blind guess (1 in `gallery`) and certainty, must not
    exceed the limit.

    Args:
        n: Attacked patients.
        limit: Largest leakage.
        gallery: Patients that a reconstruction is compared with, at least 2.
        level: Level of the two-sided interval.
    """
    allowed = None
    for hits in range(n + 1):
        if normalized(clopper_pearson(hits, n, level), 1 / gallery).high > limit + 1e-12:
            break
        allowed = hits
    return allowed


def patients_for_hits(hits: int, limit: float, gallery: int, level: float = 0.95) -> int:
    """Return the fewest patients that can pass identification with so many found at rank 1; arguments as in `hits_allowed`.

    Raises:
        EvidenceError: No number of patients is enough.
    """
    return _first(lambda n: normalized(clopper_pearson(hits, n, level), 1 / gallery).high <= limit + 1e-12, max(hits, 1))


def power_of_mean(n: int, spread: float, room: float, level: float = 0.95) -> float:
    """Return the chance that the bound of a mean over n patients stays within `room` of the true value.

    (room - mean) sqrt(n) / s has a noncentral t distribution with noncentrality room sqrt(n) / spread; it must reach the
    quantile of the interval.

    Args:
        n: Patients; below 2 there is no interval, and the chance is 0.
        spread: Standard deviation over patients.
        room: Distance from the true value to the limit.
        level: Level of the two-sided interval; .9 for a one-sided bound of 95 %.
    """
    if n < 2:
        return 0.0
    return float(stats.nct.sf(stats.t.ppf((1 + level) / 2, n - 1), n - 1, room * math.sqrt(n) / spread))


def patients_for_power(spread: float, room: float, level: float = 0.95, power: float = POWER) -> int:
    """Return the fewest patients with which the bound of a mean stays within `room` with a chance of `power`.

    Raises:
        EvidenceError: No number of patients is enough.
    """
    return _first(lambda n: power_of_mean(n, spread, room, level) >= power, 2)


def canary_spread(bits: int = CANARY_BITS) -> float:
    """Return the standard deviation over patients of 2 accuracy - 1 where so many planted bits are guessed."""
    return 1 / math.sqrt(bits)


def membership_power(n: float, limit: float, level: float = 0.95) -> float:
    """Return the chance that 2 AUC - 1 is shown to be below `limit` with n members and n others where nothing leaks.

    Normal approximation with the exact null variance of the AUC, (2n + 1) / (12 n^2), as in `rates.patients_for_auc`.
    """
    if n < 1:
        return 0.0
    spread = 2 * math.sqrt((2 * n + 1) / 12) / n
    return float(stats.norm.cdf(limit / spread - stats.norm.ppf((1 + level) / 2)))


def _first(enough: Callable[[int], bool], least: int) -> int:
    """Return the smallest number from `least` on that is enough, where more is always at least as good."""
    high = least
    while not enough(high):
        if high >= _MOST:
            raise EvidenceError(f"not even {_MOST} patients would be enough")
        high = min(2 * high, _MOST)
    low = least - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
