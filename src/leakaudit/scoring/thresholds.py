"""Thresholds of membership: who is called a member, at a threshold that was chosen on other patients.

Where an attack scores members and non-members only, no validation patients are left to choose on. The threshold for each fold
of patients is then chosen on the other folds (`cross_folds`, `cross_fitted_counts`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leakaudit.scoring.checks import EvidenceError, Floats, finite
from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.rates import clopper_pearson

__all__ = [
    "LowRate", "balanced_accuracy", "best_threshold", "cross_fitted_counts", "cross_folds", "resolvable_from", "threshold_at_fpr",
    "tpr_at_fpr",
]  # fmt: skip


def best_threshold(members: ArrayLike, others: ArrayLike) -> float:
    """Return the threshold of best balanced accuracy, for use on *other* patients; "member" is a score >= threshold.

    The middle between two neighboring scores is taken; the lowest threshold among equals.
    """
    x, y = finite("the members' scores", members, ndim=1), finite("the non-members' scores", others, ndim=1)
    values = np.unique(np.concatenate([x, y]))
    candidates = np.concatenate([[values[0]], (values[1:] + values[:-1]) / 2, [np.nextafter(values[-1], np.inf)]])
    below = [np.searchsorted(np.sort(side), candidates, side="left") for side in (x, y)]
    # In whole numbers, so that equals are equal.
    return float(candidates[np.argmax(below[1] * len(x) - below[0] * len(y))])


def balanced_accuracy(members: ArrayLike, others: ArrayLike, threshold: float) -> float:
    """Return the mean of true positive and true negative rate at a threshold that was chosen on other patients."""
    x, y = finite("the members' scores", members, ndim=1), finite("the non-members' scores", others, ndim=1)
    return float(((x >= threshold).mean() + (y < threshold).mean()) / 2)


def cross_folds(member: ArrayLike, sites: Sequence[Hashable], folds: int) -> NDArray[np.intp]:
    """Return a fold for each patient, so that every fold has its share of the members and of the others of every site.

    Args:
        member: Whether each patient was a member.
        sites: Site of each patient.
        folds: Number of folds, at least 2.

    Returns:
        0 to folds - 1, shape (patients,). Patients are dealt out in the order given: sort them by their keys first.

    Raises:
        EvidenceError: Fewer than two folds.
    """
    if folds < 2:
        raise EvidenceError(f"{folds} fold leaves nobody to fit on; at least 2 are needed")
    inside = np.asarray(member, dtype=bool)
    fold = np.empty(len(inside), dtype=np.intp)
    for side in (True, False):
        order = [i for i in sorted(range(len(inside)), key=lambda i: str(sites[i])) if inside[i] == side]
        fold[order] = np.arange(len(order)) % folds
    return fold


def cross_fitted_counts(
    scores: ArrayLike, member: ArrayLike, fold: ArrayLike, choose: Callable[[Floats, Floats], float]
) -> tuple[int, int]:
    """Return how many members and how many others are called members, each by a threshold chosen on the other folds.

    Args:
        scores: Larger means member, shape (patients,).
        member: Whether each patient was a member.
        fold: Fold of each patient (`cross_folds`).
        choose: Makes a threshold of members' and others' scores (`best_threshold`, `threshold_at_fpr`).

    Raises:
        EvidenceError: A score is not finite, or all members or all others are in one fold.
    """
    values, inside, folds = finite("the membership scores", scores, ndim=1), np.asarray(member, dtype=bool), np.asarray(fold)
    hits = false = 0
    for k in np.unique(folds):
        here = folds == k
        threshold = choose(values[~here & inside], values[~here & ~inside])
        called = values >= threshold
        hits += int((called & here & inside).sum())
        false += int((called & here & ~inside).sum())
    return hits, false


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRate:
    """True positive rate at a low false positive rate.

    Attributes:
        asked: False positive rate that the threshold was chosen for.
        tpr: Interval of the true positive rate, with its value.
        fpr: Interval of the false positive rate reached, with its value.
    """

    asked: float
    tpr: tuple[float, Interval]
    fpr: tuple[float, Interval]


def resolvable_from(fpr: float) -> int:
    """Return how many non-members a false positive rate needs: with m of them the smallest rate above 0 is 1 / m."""
    return math.ceil(1 / fpr - 1e-9)


def threshold_at_fpr(others: ArrayLike, fpr: float) -> float:
    """Return the lowest threshold at which at most a share `fpr` of `others` (validation non-members) is called a member."""
    y = np.sort(finite("the non-members' scores", others, ndim=1))[::-1]
    allowed = math.floor(fpr * len(y) + 1e-9)
    # Just above the first non-member that must stay below: a score equal to it is not called a member.
    return float(np.nextafter(y[allowed], np.inf)) if allowed < len(y) else float(y[-1])


def tpr_at_fpr(
    members: ArrayLike, others: ArrayLike, fpr: float, *, threshold: float | None = None, level: float = 0.95
) -> LowRate | None:
    """Return the true positive rate at a false positive rate, or None where it is not resolvable.

    With m non-members the smallest false positive rate above zero is 1 / m: below that there is nothing to print.

    Args:
        members: Scores of members.
        others: Scores of non-members.
        fpr: False positive rate, above 0 and below 1.
        threshold: From validation non-members (`threshold_at_fpr`). None takes it from `others` themselves, for display only.
        level: Confidence level of the Clopper-Pearson intervals.

    Raises:
        EvidenceError: A score is not finite.
    """
    x, y = finite("the members' scores", members, ndim=1), finite("the non-members' scores", others, ndim=1)
    if len(y) < resolvable_from(fpr):
        return None
    cut = threshold_at_fpr(y, fpr) if threshold is None else threshold
    hit, false = int((x >= cut).sum()), int((y >= cut).sum())
    return LowRate(
        asked=fpr,
        tpr=(hit / len(x), clopper_pearson(hit, len(x), level)),
        fpr=(false / len(y), clopper_pearson(false, len(y), level)),
    )
