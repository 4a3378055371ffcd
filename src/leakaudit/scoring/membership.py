"""Membership: was this patient in the training set? Scores are oriented so that larger means member."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from leakaudit.scoring.checks import EvidenceError, finite
from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.rates import clopper_pearson, newcombe_auc, normalized

__all__ = [
    "LowRate", "StratifiedAuc", "auc", "balanced_accuracy", "best_threshold", "stratified_auc", "threshold_at_fpr",
    "tpr_at_fpr",
]  # fmt: skip


def auc(members: ArrayLike, others: ArrayLike) -> float:
    """Return the probability that a member scores above a non-member, ties counting half (Mann-Whitney).

    Args:
        members: Scores of members, shape (n,).
        others: Scores of non-members, shape (m,).

    Raises:
        EvidenceError: A side is empty, or a score is not finite.
    """
    x, y = finite("the members' scores", members, ndim=1), finite("the non-members' scores", others, ndim=1)
    ranks = stats.rankdata(np.concatenate([x, y]))[: len(x)]
    return float((ranks.sum() - len(x) * (len(x) + 1) / 2) / (len(x) * len(y)))


@dataclass(frozen=True, slots=True, kw_only=True)
class StratifiedAuc:
    """AUC within sites.

    Attributes:
        value: Mean over sites, weighted by pairs of a member and a non-member.
        interval: Newcombe's interval of `value`.
        leakage: Interval of 2 AUC - 1.
        members: Members in the sites used.
        others: Non-members in the sites used.
        left_out: Sites that have members only or non-members only, sorted.
    """

    value: float
    interval: Interval
    leakage: Interval
    members: int
    others: int
    left_out: tuple[str, ...]


def stratified_auc(scores: ArrayLike, member: ArrayLike, sites: Sequence[Hashable], *, level: float = 0.95) -> StratifiedAuc:
    """Compare members with non-members of their own site only.

    A score that knows nothing but the site reached a pooled AUC of .651 and .503 within sites.

    Args:
        scores: Larger means member, one per patient, shape (patients,).
        member: Whether each patient was a member.
        sites: Site of each patient.
        level: Confidence level, two-sided.

    Raises:
        EvidenceError: A score is not finite, lengths differ, or no site has both kinds.
    """
    values = finite("the membership scores", scores, ndim=1)
    inside = np.asarray(member, dtype=bool)
    if not len(values) == len(inside) == len(sites):
        raise EvidenceError(f"{len(values)} scores, {len(inside)} memberships and {len(sites)} sites; one each was expected")
    areas, n, m, left_out = [], [], [], []
    for site in sorted(set(sites), key=str):
        here = np.array([s == site for s in sites])
        one, other = values[here & inside], values[here & ~inside]
        if len(one) and len(other):
            areas.append(auc(one, other))
            n.append(len(one))
            m.append(len(other))
        else:
            left_out.append(str(site))
    if not areas:
        raise EvidenceError("no site has both members and non-members, so membership cannot be told from the site")
    weight = np.array(n) * np.array(m)
    value = float((weight * areas).sum() / weight.sum())
    interval = newcombe_auc(value, n, m, level)
    return StratifiedAuc(
        value=value,
        interval=interval,
        leakage=normalized(interval, 0.5),
        members=sum(n),
        others=sum(m),
        left_out=tuple(left_out),
    )


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
    if len(y) * fpr < 1 - 1e-9:
        return None
    cut = threshold_at_fpr(y, fpr) if threshold is None else threshold
    hit, false = int((x >= cut).sum()), int((y >= cut).sum())
    return LowRate(
        asked=fpr,
        tpr=(hit / len(x), clopper_pearson(hit, len(x), level)),
        fpr=(false / len(y), clopper_pearson(false, len(y), level)),
    )
