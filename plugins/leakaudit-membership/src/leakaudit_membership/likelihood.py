"""Membership scores from signals of a target model and of shadow models, by formula alone.

LiRA: Carlini et al., S&P 2022, arXiv 2112.03570. RMIA: Zarifzadeh, Liu and Shokri, ICML 2024, arXiv 2312.03262.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from leakaudit_membership.calibration import Floats

__all__ = ["expected_probability", "lira", "pairwise"]

Inside = NDArray[np.bool_]

_SMALLEST = 1e-6
"""Least spread: of shadow models that all say the same."""


def lira(target: Floats, shadows: Floats, inside: Inside, *, online: bool, variance: Literal["fixed", "each"]) -> Floats:
    """Return how much likelier a candidate's signal is for a member, shape (candidates,); higher means member.

    Signals of shadow models with (in) and without (out) a candidate are taken for normal, with the median as their center.
    Online: the logarithm of N(target; in) / N(target; out). Offline: how many spreads the target lies above the out models,
    which ranks as the one-sided p-value of the paper.

    Args:
        target: Signal of the target model, (candidates,).
        shadows: Signals of the shadow models, (shadows, candidates).
        inside: Whether a shadow model was trained on a candidate, of the same shape; not read offline.
        online: Whether shadow models with the candidate are compared, too.
        variance: `"each"`: of every candidate by itself; `"fixed"`: pooled over all candidates, for few shadow models.

    Raises:
        ValueError: A candidate has too few shadow models on a side.
    """
    out = ~inside if online else np.ones_like(inside)
    fewest = 1 if variance == "fixed" else 2
    sides = (inside, out) if online else (out,)
    if any(side.sum(axis=0).min() < fewest for side in sides) or any((side.sum(axis=0) - 1).sum() < 1 for side in sides):
        raise ValueError(f"a candidate has fewer than {fewest} shadow models on a side; train more of them")
    center, spread = _normal(shadows, out, variance)
    z_out = (target - center) / spread
    if not online:
        return np.asarray(z_out)
    center_in, spread_in = _normal(shadows, inside, variance)
    z_in = (target - center_in) / spread_in
    return np.asarray((z_out**2 - z_in**2) / 2 + np.log(spread) - np.log(spread_in))


def _normal(shadows: Floats, here: Inside, variance: str) -> tuple[Floats, Floats]:
    """Return center and spread of every candidate's signals over the shadow models `here`, each (candidates,)."""
    seen = np.where(here, shadows, np.nan)
    center = np.nanmedian(seen, axis=0)
    squares = np.nansum((seen - np.nanmean(seen, axis=0)) ** 2, axis=0)
    freedom = here.sum(axis=0) - 1
    of_all = np.full_like(center, squares.sum() / freedom.sum())
    spread = np.sqrt(of_all if variance == "fixed" else squares / freedom)
    return center, np.maximum(spread, _SMALLEST)


def expected_probability(shadows: Floats, inside: Inside, *, online: bool, a: float) -> Floats:
    """Return P(x), the probability of each candidate averaged over models with and without it, shape (candidates,).

    Online: the mean of both means. Offline, only models without x are counted on: P(x) = ((1 + a) P_out(x) + (1 - a)) / 2.

    Args:
        shadows: Probabilities, (shadows, candidates).
        inside: Whether a shadow model was trained on a candidate, of the same shape.
        online: Whether models with the candidate are counted, too.
        a: How much models with and without a candidate are taken to differ, in [0, 1]; 1: not at all.

    Raises:
        ValueError: A candidate has no shadow model on a side.
    """
    if (online and not inside.any(axis=0).all()) or inside.all(axis=0).any():
        raise ValueError("a candidate has no shadow model with it, or none without it; train more of them")
    without = np.nanmean(np.where(~inside, shadows, np.nan), axis=0)
    if not online:
        return np.asarray(((1 + a) * without + (1 - a)) / 2)
    return np.asarray((np.nanmean(np.where(inside, shadows, np.nan), axis=0) + without) / 2)


def pairwise(candidates: Floats, population: Floats, gamma: float) -> Floats:
    """Return the share of population patients whose ratio a candidate's exceeds more than `gamma` times, (candidates,).

    A population of a few dozen patients leaves many candidates with the same share; these are ranked by their ratio, in steps
    too small to reach the next share.

    Args:
        candidates: p(x | target) / P(x) of each candidate, (candidates,).
        population: The same of each population patient, (patients,).
        gamma: The factor.
    """
    share = (candidates[:, None] > gamma * population[None, :]).mean(axis=1)
    return np.asarray(share + candidates / (1 + candidates) / (len(population) + 1))
