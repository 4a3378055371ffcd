"""Upper bounds of leakage and Dice differences between trainings, many at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from leakaudit.scoring.checks import Floats
from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.membership_choice import ByMembership
from leakaudit.scoring.paired import below_zero, upper_bounds
from leakaudit.scoring.strongest import ByPatient, Strongest

__all__ = ["Duel", "dice_bounds", "leakage_bounds"]

Duel = tuple[Strongest, Strongest]
"""A and B, in the order of the claim that A leaks less."""

Side = ByPatient | ByMembership


def leakage_bounds(duels: Sequence[Duel], *, level: float, seed: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Return upper bounds of L_A - L_B, A read upward and B cross-fitted.

    Args:
        duels: Pairs of the same kind, the same patients and the same number of repeats.
        level: Two-sided level corrected for the number of comparisons.
        seed: Seed of the resampling.

    Returns:
        The upper bound of each at the two-sided level of 95 %, and whether the one at `level` is below zero.
    """
    high, sure = np.full(len(duels), np.inf), np.ones(len(duels), dtype=bool)
    groups: dict[tuple[tuple[str, ...], int], list[int]] = {}
    paired: dict[int, Floats] = {}
    for i, (a, b) in enumerate(duels):
        if _smooth(a.upward) and _smooth(b.fair):
            groups.setdefault((a.upward.patients, a.upward.repeats), []).append(i)
            paired[i] = a.upward.values - b.fair.values
    for chosen in groups.values():
        values = np.stack([paired[i] for i in chosen])
        high[chosen] = upper_bounds(values, seed=seed)
        sure[chosen] = below_zero(values, level=level, seed=seed)
    apart = _Apart(seed)
    for i, (a, b) in enumerate(duels):
        if not (_smooth(a.upward) and _smooth(b.fair)):
            high[i], sure[i] = apart.upper(a.upward, b.fair, 0.95), apart.upper(a.upward, b.fair, level) < 0
    return high, sure


def dice_bounds(pairs: Sequence[tuple[Floats, Floats]], *, level: float, seed: int) -> Floats:
    """Return lower bounds of Dice_A - Dice_B.

    Args:
        pairs: Dice of A and of B, each (repeats, patients): the same patients throughout one call.
        level: Two-sided level.
        seed: Seed of the resampling.
    """
    return np.asarray(-upper_bounds(np.stack([b - a for a, b in pairs]), level=level, seed=seed))


def _smooth(side: Side) -> TypeGuard[ByPatient]:
    """Whether resampled patients give a usable interval: not for membership, nor for hits and misses."""
    return isinstance(side, ByPatient) and not side.rate


class _Apart:
    """Differences of two single intervals by MOVER; each interval is computed once."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.known: dict[tuple[int, float], tuple[Side, Interval, Floats]] = {}

    def upper(self, a: Side, b: Side, level: float) -> float:
        (_, one, first), (_, other, second) = self._of(a, level), self._of(b, level)
        means = first - second
        value = float(means.mean())
        reach = math.hypot(one.high - float(first.mean()), float(second.mean()) - other.low)
        count = len(means)
        if count > 1:
            t = float(stats.t.ppf((1 + level) / 2, count - 1))
            reach = math.hypot(reach, t * float(means.std(ddof=1)) / math.sqrt(count))
        return value + reach

    def _of(self, side: Side, level: float) -> tuple[Side, Interval, Floats]:
        # The side is kept beside its interval, so that its id stays its own.
        key = (id(side), level)
        if key not in self.known:
            self.known[key] = (side, side.bounds(level, self.seed), side.means)
        return self.known[key]
