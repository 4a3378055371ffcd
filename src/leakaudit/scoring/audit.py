"""The audit of epsilon by canaries: one bound from all trainings, with its ceiling, and what it says of a claim.

Each training tosses coins of its own, so that a canary of one training takes part in no other: R trainings with m canaries each
are one mechanism on R m canaries that is as private as one of them (parallel composition), and the one-run bound of Steinke,
Nasr and Jagielski (NeurIPS 2023) holds for all of them together. Where a training has one canary alone, its trainings are two
samples, with and without it; a threshold chosen on the first half of them is used on the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from leakaudit.scoring.checks import EvidenceError, finite
from leakaudit.scoring.epsilon import default_guesses, one_run_bound, one_run_ceiling, two_sample_bound, two_sample_split
from leakaudit.scoring.families import fdp_one_run_hull

__all__ = ["AuditBound", "audit_bound", "audit_ceiling", "conditional_bound", "per_run_guesses"]

_MOST_PARTS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditBound:
    """A lower bound on epsilon from all trainings of one audit.

    Attributes:
        value: The bound, 0 where nothing is refuted. The interval is [value, infinity].
        ceiling: What a perfect attack would have shown with the same canaries and the same number of guesses.
        method: `"one-run"` (several canaries in each training) or `"two-sample"` (one).
        canaries: Canaries of all trainings together.
        guesses: Canaries guessed "in" at which the bound was reached.
        correct: Those that were right.
        delta: Delta of the statement.
        significance: Allowed probability of a false bound.
    """

    value: float
    ceiling: float
    method: Literal["one-run", "two-sample"]
    canaries: int
    guesses: int
    correct: int
    delta: float
    significance: float


def per_run_guesses(canaries: int, runs: int = 1) -> tuple[int, ...]:
    """Return how many canaries are guessed "in" in each training: fixed before any coin is seen, `default_guesses` of all."""
    total = canaries * runs
    return tuple(dict.fromkeys(max(1, guesses // runs) for guesses in default_guesses(total)))


def audit_bound(
    scores: Sequence[ArrayLike], included: Sequence[ArrayLike], *, delta: float = 0.0, significance: float = 0.05
) -> AuditBound:
    """Bound epsilon from trainings in which every canary was included by a fair coin of its own.

    In each training the canaries with the highest scores are guessed "in"; at equal scores those that were not included come
    first, which can only lower the bound.

    Args:
        scores: Of each training, larger means included, shape (canaries,).
        included: The coins of each training, shape (canaries,).
        delta: Delta of the claim.
        significance: Allowed probability of a false bound.

    Raises:
        EvidenceError: Scores are not finite, or trainings differ in their number of canaries.
    """
    values = [finite("the canary scores", s, ndim=1) for s in scores]
    coins = [np.asarray(i, dtype=bool) for i in included]
    m = len(values[0]) if values else 0
    if not m or any(len(v) != m or c.shape != (m,) for v, c in zip(values, coins, strict=True)):
        raise EvidenceError("an audit needs the same canaries, at least one, in every training")
    if m == 1:
        return _two_samples(np.concatenate(values), np.concatenate(coins), delta, significance)
    runs, tried = len(values), per_run_guesses(m, len(values))
    hits = np.sum([np.cumsum(c[np.lexsort((c, -v))]) for v, c in zip(values, coins, strict=True)], axis=0)
    each = significance / len(tried)
    best, at = 0.0, tried[0]
    for r in tried:
        bound = one_run_bound(int(hits[r - 1]), r * runs, m * runs, delta=delta, significance=each, at_least=best)
        if bound > best:
            best, at = bound, r
    return AuditBound(
        value=best, ceiling=audit_ceiling(m, runs, delta=delta, significance=significance), method="one-run",
        canaries=m * runs, guesses=at * runs, correct=int(hits[at - 1]), delta=delta, significance=significance,
    )  # fmt: skip


def audit_ceiling(canaries: int, runs: int = 1, *, delta: float = 0.0, significance: float = 0.05) -> float:
    """Return the bound that a perfect attack reaches with so many canaries in each of so many trainings.

    With one canary a training, the coins are taken to fall evenly into both halves of the trainings.
    """
    if canaries == 1:
        side = runs // 4
        return 0.0 if side < 1 else two_sample_bound(side, side, 0, side, delta=delta, significance=significance)
    tried = per_run_guesses(canaries, runs)
    each = significance / len(tried)
    return max(one_run_ceiling(canaries * runs, guesses=r * runs, delta=delta, significance=each) for r in tried)


def conditional_bound(
    scores: Sequence[ArrayLike], included: Sequence[ArrayLike], *, delta: float, significance: float = 0.05
) -> float | None:
    """Return the bound that holds if each training is Gaussian DP (f-DP; Mahloujifar et al. 2024): tighter, and never gating.

    Scores of several trainings are made comparable by their ranks within each.

    Returns:
        None where a side has no canary, or each training has one alone.
    """
    values = [finite("the canary scores", s, ndim=1) for s in scores]
    inside = np.concatenate([np.asarray(i, dtype=bool) for i in included])
    if len(values[0]) < 2 or inside.all() or not inside.any():
        return None
    ranks = np.concatenate([np.searchsorted(np.sort(v), v, side="right") / len(v) for v in values])
    return fdp_one_run_hull(ranks[inside], ranks[~inside], delta=delta, significance=significance)


def _two_samples(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], coins: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    delta: float, significance: float,
) -> AuditBound:  # fmt: skip
    half = len(values) // 2
    first, second = ((values[part][coins[part]], values[part][~coins[part]]) for part in (slice(half), slice(half, None)))
    known = all(len(side) for side in (*first, *second))
    bound = two_sample_split(first, second, delta=delta, significance=significance) if known else 0.0
    return AuditBound(
        value=bound, ceiling=audit_ceiling(1, len(values), delta=delta, significance=significance), method="two-sample",
        canaries=len(values), guesses=len(values) - half, correct=0, delta=delta, significance=significance,
    )  # fmt: skip
