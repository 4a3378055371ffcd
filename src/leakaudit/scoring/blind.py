"""Who would be called a member by somebody who never saw the model: intensity statistics, and the site, cross-fitted.

Members and non-members that differ before any training (another scanner, another site) make every membership score look good.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leakaudit.scoring.checks import EvidenceError, Floats, finite
from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.membership import stratified_auc
from leakaudit.scoring.rates import newcombe_auc, normalized
from leakaudit.scoring.thresholds import cross_folds

__all__ = ["FOLDS", "blind_advantage", "cross_fitted_scores", "intensity_statistics", "site_indicators"]

FOLDS = 5
_PERCENTILES = (5, 25, 50, 75, 95)
_MOST_VOXELS = 20_000
"""Voxels of a sample that statistics are taken from at most; more are thinned evenly."""
_PENALTY = 0.3


def intensity_statistics(images: ArrayLike, brain: ArrayLike) -> Floats:
    """Return what anybody could measure on an image: mean, spread and percentiles inside the brain, and the brain's share.

    The tumor's volume is left out: whether a tumor is hard to segment is what a membership score may rightly use.

    Args:
        images: Shape (samples, modalities, *spatial).
        brain: Brain masks (samples, *spatial), none empty.

    Returns:
        Shape (samples, 7 x modalities + 1): of each modality mean, standard deviation and the 5th, 25th, 50th, 75th and 95th
        percentile, then the share of the image that is brain.

    Raises:
        EvidenceError: A mask is empty, or shapes differ.
    """
    stack, masks = np.asarray(images), np.asarray(brain, dtype=bool)
    if stack.shape[:1] + stack.shape[2:] != masks.shape:
        raise EvidenceError(f"images {stack.shape} and brain masks {masks.shape} do not belong together")
    rows = []
    for image, inside in zip(stack, masks, strict=True):
        if not inside.any():
            raise EvidenceError("a candidate's brain mask is empty, so it has no intensity statistics")
        values = np.asarray(image[:, inside], dtype=np.float64)
        values = values[:, :: max(1, values.shape[1] // _MOST_VOXELS)]
        found = [values.mean(axis=1), values.std(axis=1), *np.percentile(values, _PERCENTILES, axis=1)]
        rows.append([*np.stack(found, axis=1).ravel(), inside.mean()])
    return finite("the intensity statistics", rows, ndim=2)


def site_indicators(sites: Sequence[Hashable]) -> Floats:
    """Return one column of 0 and 1 for each site, in sorted order of their names, shape (patients, sites)."""
    names = sorted(set(sites), key=str)
    return np.array([[float(site == name) for name in names] for site in sites])


def cross_fitted_scores(
    features: ArrayLike, member: ArrayLike, sites: Sequence[Hashable], *, folds: int = FOLDS
) -> tuple[Floats, NDArray[np.intp]]:
    """Return scores that guess membership from features alone, each patient's from a fit on others.

    Ridge regression of membership on standardized features. Folds hold members and others of each site in equal shares, and
    scores are centered within their fold: a fold with more members leaves fewer for the fit, which would push its scores down
    and the area below one half where nothing can be told.

    Args:
        features: Shape (patients, features).
        member: Whether each patient was a member.
        sites: Site of each patient.
        folds: Number of folds, at least 2.

    Returns:
        Scores, larger means member, and the fold of each patient, both of shape (patients,). Scores are comparable within
        a fold.

    Raises:
        EvidenceError: A feature is not finite, or lengths differ.
    """
    x, inside = finite("the blind features", features, ndim=2), np.asarray(member, dtype=bool)
    if not len(x) == len(inside) == len(sites):
        raise EvidenceError(f"{len(x)} rows of features, {len(inside)} memberships and {len(sites)} sites; one each was expected")
    spread = x.std(axis=0)
    z = (x - x.mean(axis=0)) / np.where(spread > 1e-9, spread, np.inf)
    fold = cross_folds(inside, sites, folds)
    scores = np.zeros(len(x))
    for k in range(folds):
        out = fold == k
        fit = z[~out] - z[~out].mean(axis=0)
        target = inside[~out] - inside[~out].mean()
        ridge = fit.T @ fit + _PENALTY * len(fit) * np.eye(fit.shape[1])
        guess = z[out] @ np.linalg.solve(ridge, fit.T @ target)
        scores[out] = guess - guess.mean() if out.any() else guess
    return scores, fold


def blind_advantage(
    scores: ArrayLike, member: ArrayLike, sites: Sequence[Hashable], *, level: float = 0.95
) -> tuple[float, Interval]:
    """Return 2 AUC - 1 of cross-fitted scores within sites, and its interval.

    The fits of two folds lean on each other's patients: where nothing can be told, the area varies like one of half as many
    patients (sd .08 instead of .06 with 60 members and 40 others), and Newcombe's interval of all of them excluded one half
    in 12 to 18 % of simulated cohorts. Counted as half, it does in 2 to 7 %.

    Args:
        scores: From `cross_fitted_scores`, shape (patients,).
        member: Whether each patient was a member.
        sites: Strata; one and the same for the pooled area.
        level: Confidence level, two-sided.

    Raises:
        EvidenceError: A score is not finite, lengths differ, or no site has both kinds.
    """
    found = stratified_auc(scores, member, sites, level=level)
    inside = np.asarray(member, dtype=bool)
    pairs = [
        (n, m)
        for site in set(sites)
        if (n := sum(inside[i] for i, s in enumerate(sites) if s == site))
        and (m := sum(not inside[i] for i, s in enumerate(sites) if s == site))
    ]
    members, others = ([max(side / 2, 1.0) for side in column] for column in zip(*pairs, strict=True))
    return 2 * found.value - 1, normalized(newcombe_auc(found.value, members, others, level), 0.5)
