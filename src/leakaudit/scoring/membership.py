"""Membership: was this patient in the training set? Scores are oriented so that larger means member."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from leakaudit.scoring.checks import EvidenceError, Floats, finite
from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.permutation import ShuffleTest, shuffle_test
from leakaudit.scoring.rates import newcombe_auc, normalized

__all__ = ["StratifiedAuc", "auc", "membership_test", "stratified_auc"]


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


def membership_test(
    scores: Sequence[ArrayLike], member: Sequence[ArrayLike], sites: Sequence[Hashable], *, seed: int
) -> ShuffleTest:
    """Test "members do not score above others of their site" by exchanging memberships within sites.

    The statistic is the area within sites, averaged over training repeats; an exchange is the same in all repeats, because
    the candidates are.

    Args:
        scores: Scores of each repeat, larger means member, each of shape (patients,).
        member: Memberships of each repeat, each of shape (patients,).
        sites: Site of each patient.
        seed: Seed of the permutations.

    Raises:
        EvidenceError: A score is not finite, or lengths differ.
    """
    labels = [np.asarray(m, dtype=bool) for m in member]
    groups = list(sites)
    # The area within a site is its members' sum of ranks, up to constants that exchanges within the site leave as they are.
    matrix = np.zeros((len(groups), len(groups)))
    for values, inside in zip(scores, labels, strict=True):
        matrix += np.outer(_ranks_within(finite("the membership scores", values, ndim=1), groups), inside)
    found = shuffle_test(matrix / len(labels), seed=seed, groups=groups)
    ways = 1
    for group in set(groups):
        here = np.array([g == group for g in groups])
        ways *= max(math.comb(int(here.sum()), int((m & here).sum())) for m in labels)
    return replace(found, floor=1 / ways, possible=1 / ways <= 0.05)


def _ranks_within(values: Floats, groups: Sequence[Hashable]) -> Floats:
    ranks = np.empty(len(values))
    for group in set(groups):
        here = np.array([g == group for g in groups])
        ranks[here] = stats.rankdata(values[here])
    return ranks
