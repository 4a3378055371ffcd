"""Empirical lower bounds on epsilon: one-run (Steinke, Nasr and Jagielski 2023) and two-sample (Clopper-Pearson).

An empirical bound is one-sided: it can refute a claimed epsilon, never confirm one. What an audit with so many canaries could
have shown at most (its ceiling) belongs beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from leakaudit.scoring.checks import EvidenceError, finite
from leakaudit.scoring.rates import clopper_pearson, rate_bounds

__all__ = [
    "Claim", "EpsilonBound", "check_claim", "default_guesses", "leakage_of_epsilon", "one_run", "one_run_bound",
    "one_run_ceiling", "one_run_p_value", "two_sample_bound", "two_sample_ceiling", "two_sample_split",
]  # fmt: skip


def one_run_p_value(epsilon: float, correct: int, guesses: int, canaries: int, delta: float = 0.0) -> float:
    """Return the p-value of "the training is (epsilon, delta)-DP" after `correct` of `guesses` one-sided guesses.

    p = P[B >= v] + 2 m delta max(0, max_i P[v-i <= B < v] / i) with B ~ Bin(r, e^eps / (1 + e^eps)), at most 1.

    Args:
        epsilon: Hypothesized epsilon.
        correct: v, guesses "in" that were right.
        guesses: r, canaries guessed "in".
        canaries: m, all canaries, including those without a guess.
        delta: Hypothesized delta.
    """
    q = float(special.expit(epsilon))
    tail = float(special.betainc(correct, guesses - correct + 1, q)) if correct > 0 else 1.0
    if delta == 0 or correct == 0:
        return min(1.0, tail)
    below = np.arange(correct - 1, -1, -1)
    log_mass = special.gammaln(guesses + 1) - special.gammaln(below + 1) - special.gammaln(guesses - below + 1)
    log_mass += below * special.log_expit(epsilon) + (guesses - below) * special.log_expit(-epsilon)
    mass = np.cumsum(np.exp(log_mass)) / np.arange(1, correct + 1)
    return min(1.0, tail + 2 * canaries * delta * max(0.0, float(mass.max())))


def one_run_bound(
    correct: int, guesses: int, canaries: int, *, delta: float = 0.0, significance: float = 0.05, at_least: float = 0.0
) -> float:
    """Return the largest epsilon that one run refutes, 0 where it refutes none.

    Args:
        correct: Guesses "in" that were right.
        guesses: Canaries guessed "in"; fixed before the coins are seen.
        canaries: All canaries, including those without a guess.
        delta: Delta of the claim.
        significance: Allowed probability of a false bound.
        at_least: A bound known already; 0 is returned unless this one is larger (saves work in a search for the best).

    Raises:
        EvidenceError: The counts do not fit.
    """
    if not 0 <= correct <= guesses <= canaries or canaries < 1:
        raise EvidenceError(f"{correct} correct of {guesses} guesses among {canaries} canaries is impossible")

    def excess(epsilon: float) -> float:
        return one_run_p_value(epsilon, correct, guesses, canaries, delta) - significance

    if guesses == 0 or excess(at_least) >= 0:
        return 0.0
    high = at_least + 1.0
    while excess(high) < 0:
        high += 1.0
    return float(optimize.brentq(excess, at_least, high, xtol=1e-10))


def default_guesses(canaries: int) -> tuple[int, ...]:
    """Return the pre-registered numbers of guesses: m/4 alone below 500 canaries, otherwise m/{2, 4, 8, 16, 32}."""
    if canaries < 500:
        return (max(1, canaries // 4),)
    return tuple(canaries // part for part in (2, 4, 8, 16, 32))


@dataclass(frozen=True, slots=True, kw_only=True)
class EpsilonBound:
    """A lower bound on epsilon.

    Attributes:
        value: The bound, 0 where nothing is refuted. The interval is [value, infinity].
        guesses: Guesses "in" at which it was reached (the first number tried where it is 0).
        correct: Those that were right.
        canaries: All canaries.
        tried: Numbers of guesses tried; the significance was divided by how many they are.
        ceiling: The bound of a perfect attack with the same numbers of guesses.
        delta: Delta of the statement.
        significance: Allowed probability of a false bound.
    """

    value: float
    guesses: int
    correct: int
    canaries: int
    tried: tuple[int, ...]
    ceiling: float
    delta: float
    significance: float


def one_run(
    scores: ArrayLike,
    included: ArrayLike,
    *,
    delta: float = 0.0,
    significance: float = 0.05,
    guesses: Sequence[int] | None = None,
) -> EpsilonBound:
    """Bound epsilon from one training run in which each canary was included by an independent fair coin.

    The r canaries with the highest scores are guessed "in". Among equal scores at the border those that were not included are
    taken first, which can only lower the bound.

    Args:
        scores: Larger means included, shape (canaries,).
        included: The coins, shape (canaries,).
        delta: Delta of the claim.
        significance: Allowed probability of a false bound.
        guesses: Numbers of guesses fixed before the coins are seen; None for `default_guesses`. Bonferroni over several.

    Raises:
        EvidenceError: Scores are not finite, lengths differ, or a number of guesses does not fit.
    """
    values, coins = finite("the canary scores", scores, ndim=1), np.asarray(included, dtype=bool)
    m = len(values)
    if coins.shape != (m,):
        raise EvidenceError(f"{m} canary scores for coins of shape {coins.shape}; one each was expected")
    tried = tuple(guesses) if guesses is not None else default_guesses(m)
    hits = np.cumsum(coins[np.lexsort((coins, -values))])
    each = significance / len(tried)
    best, at = 0.0, tried[0]
    for r in tried:
        bound = one_run_bound(int(hits[r - 1]) if 0 < r <= m else 0, r, m, delta=delta, significance=each, at_least=best)
        if bound > best:
            best, at = bound, r
    return EpsilonBound(
        value=best,
        guesses=at,
        correct=int(hits[at - 1]),
        canaries=m,
        tried=tried,
        ceiling=max(one_run_ceiling(m, guesses=r, delta=delta, significance=each) for r in tried),
        delta=delta,
        significance=significance,
    )


def one_run_ceiling(canaries: int, *, guesses: int | None = None, delta: float = 0.0, significance: float = 0.05) -> float:
    """Return the bound that a perfect attack reaches when all its guesses are right; None guesses every canary."""
    r = canaries if guesses is None else guesses
    return one_run_bound(r, r, canaries, delta=delta, significance=significance)


def two_sample_bound(
    true_positives: int,
    members: int,
    false_positives: int,
    others: int,
    *,
    delta: float = 0.0,
    significance: float = 0.05,
    copies: int = 1,
) -> float:
    """Bound epsilon from runs with and runs without a canary at one threshold that was fixed on other runs.

    max(ln((TPR_low - delta) / FPR_high), ln((TNR_low - delta) / FNR_high), 0), each bound Clopper-Pearson at significance / 2;
    divided by `copies` for a canary present so many times (pure DP only).

    Args:
        true_positives: Runs with the canary that were called so.
        members: Runs with the canary.
        false_positives: Runs without it that were called "with".
        others: Runs without it.
        delta: Delta of the claim.
        significance: Allowed probability of a false bound.
        copies: Copies of the canary in a run.

    Raises:
        EvidenceError: The counts do not fit, or copies are combined with a delta.
    """
    if copies > 1 and delta > 0:
        raise EvidenceError("several copies of a canary can be divided out for pure DP only (delta 0)")
    level = 1 - significance
    tpr_low = clopper_pearson(true_positives, members, level).low
    fpr_high = clopper_pearson(false_positives, others, level).high
    ratios = ((tpr_low - delta) / fpr_high, (1 - fpr_high - delta) / (1 - tpr_low))
    return math.log(max(*ratios, 1.0)) / copies


def two_sample_split(
    choose: tuple[ArrayLike, ArrayLike],
    use: tuple[ArrayLike, ArrayLike],
    *,
    delta: float = 0.0,
    significance: float = 0.05,
) -> float:
    """Bound epsilon with the threshold chosen on one half of the runs and used on the other.

    Args:
        choose: Scores with and without the canary of the half that chooses.
        use: The same of the half that counts.
        delta: Delta of the claim.
        significance: Allowed probability of a false bound.

    Raises:
        EvidenceError: A score is not finite.
    """
    first, second = ([finite("the canary scores", side, ndim=1) for side in half] for half in (choose, use))
    cuts = np.unique(np.concatenate(first))
    tp, fp = (len(side) - np.searchsorted(np.sort(side), cuts) for side in first)
    low, high = rate_bounds(tp, len(first[0]), 1 - significance)[0], rate_bounds(fp, len(first[1]), 1 - significance)[1]
    threshold = cuts[np.argmax(np.maximum((low - delta) / high, (1 - high - delta) / (1 - low)))]
    hits = [int((side >= threshold).sum()) for side in second]
    return two_sample_bound(hits[0], len(second[0]), hits[1], len(second[1]), delta=delta, significance=significance)


def two_sample_ceiling(runs: int, *, delta: float = 0.0, significance: float = 0.05) -> float:
    """Return the bound of a perfect attack with `runs` runs on each side."""
    return two_sample_bound(runs, runs, 0, runs, delta=delta, significance=significance)


def leakage_of_epsilon(epsilon: float) -> float:
    """Return tanh(epsilon / 2), the largest membership advantage under pure DP: 0 at 0, .46 at 1, .96 at 4."""
    return math.tanh(epsilon / 2)


Claim = Literal["REFUTED", "NOT REFUTED", "UNTESTABLE"]


def check_claim(bound: float, claim: float, *, ceiling: float, control: float | None) -> Claim:
    """Compare a claimed epsilon with the empirical bound; same delta, unit and adjacency are the caller's duty.

    Args:
        bound: Lower bound on epsilon under the defense.
        claim: Claimed epsilon.
        ceiling: The most that this audit could have shown.
        control: Lower bound of the same audit without noise, None where it was not run.

    Returns:
        REFUTED: the bound exceeds the claim. NOT REFUTED: the audit could have exceeded it (ceiling above the claim) and
        does so without noise. UNTESTABLE: otherwise.
    """
    if bound > claim:
        return "REFUTED"
    return "NOT REFUTED" if ceiling > claim and control is not None and control > claim else "UNTESTABLE"
