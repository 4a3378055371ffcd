"""Permutation tests of exchanged evidence: is it about its own patient, and whose lies above what anybody's reaches?"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leakaudit.scoring.checks import EvidenceError, Floats, finite

__all__ = ["PatientLimit", "ShuffleTest", "patient_limit", "shuffle_test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleTest:
    """Evidence-shuffle test of "the mean score is above that of shuffled evidence".

    Attributes:
        p: P-value.
        floor: Smallest p-value that these patients allow.
        exact: Whether all permutations were counted.
        possible: Whether the floor is at most .05; it is not with 3 patients or fewer.
        patients: Patients that were exchanged.
    """

    p: float
    floor: float
    exact: bool
    possible: bool
    patients: int


def shuffle_test(
    matrix: ArrayLike, *, permutations_drawn: int = 999, seed: int, groups: Sequence[Hashable] | None = None
) -> ShuffleTest:
    """Test the mean of the diagonal of M_ij = score(evidence i, truth j) against permutations of the truths.

    All permutations are counted where there are no more than those drawn; otherwise p = (1 + #{>=}) / (B + 1).

    Args:
        matrix: Scores by patient, shape (n, n).
        permutations_drawn: B, at least 999.
        seed: Seed of the permutations.
        groups: Group (site) of each patient; permutations stay within groups. None: one group.

    Raises:
        EvidenceError: The matrix is not square, a score is not finite, or fewer than 999 permutations are asked for.
    """
    scores = finite("the score matrix", matrix, ndim=2)
    n = len(scores)
    if scores.shape[1] != n or permutations_drawn < 999 or (groups is not None and len(groups) != n):
        raise EvidenceError("the shuffle test needs a square matrix, a group for each patient, and at least 999 permutations")
    labels = list(groups) if groups is not None else [0] * n
    blocks = [np.array([i for i, label in enumerate(labels) if label == group]) for group in dict.fromkeys(labels)]
    total = math.prod(math.factorial(len(block)) for block in blocks)
    rows = np.arange(n)
    observed = float(scores[rows, rows].mean())
    # Rounding of sums in another order must not make a tie look smaller.
    bar = observed - 1e-12 * (1 + abs(observed))
    floor = 1 / total
    if total <= permutations_drawn:
        means = _all_means(scores, blocks)
        return ShuffleTest(p=float((means >= bar).mean()), floor=floor, exact=True, possible=floor <= 0.05, patients=n)
    rng = np.random.default_rng(seed)
    order = np.tile(rows, (permutations_drawn, 1))
    for block in blocks:
        order[:, block] = rng.permuted(order[:, block], axis=1)
    hits = int((scores[rows, order].mean(axis=1) >= bar).sum())
    p = (1 + hits) / (permutations_drawn + 1)
    return ShuffleTest(p=p, floor=floor, exact=False, possible=floor <= 0.05, patients=n)


def _all_means(scores: Floats, blocks: list[NDArray[np.intp]]) -> Floats:
    sums = np.zeros(1)
    for block in blocks:
        part = np.array([scores[block, list(order)].sum() for order in permutations(block)])
        sums = (sums[:, None] + part[None]).ravel()
    return np.asarray(sums / len(scores))


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientLimit:
    """Which patients score above what other patients' evidence scores.

    Attributes:
        limit: (1 - alpha / n) quantile of the off-diagonal scores.
        above: Whether each patient's own score exceeds it, shape (n,).
    """

    limit: float
    above: NDArray[np.bool_]


def patient_limit(matrix: ArrayLike, *, alpha: float = 0.05) -> PatientLimit:
    """Compare each patient's own score with the off-diagonal of M_ij = score(evidence i, truth j).

    A permutation test of the maximum would not do: a leaked patient keeps its own cell with probability 1/n (power 1 %).

    Args:
        matrix: Scores by patient, shape (n, n), n >= 2.
        alpha: Share of runs that may flag somebody where nothing leaks (small n: 15 % at n = 10, 6 % at 100).

    Raises:
        EvidenceError: The matrix is not square or too small, or a score is not finite.
    """
    scores = finite("the score matrix", matrix, ndim=2)
    n = len(scores)
    if n < 2 or scores.shape[1] != n:
        raise EvidenceError(f"a score matrix of shape {scores.shape}; it must be square, of at least two patients")
    limit = float(np.quantile(scores[~np.eye(n, dtype=bool)], 1 - alpha / n))
    return PatientLimit(limit=limit, above=np.diagonal(scores) > limit)
