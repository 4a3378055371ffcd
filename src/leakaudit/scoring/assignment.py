"""Scoring of unordered evidence: the images of one update come in no known order, so each is matched to one truth.

Matching gains by itself: pure noise reaches an NCC of .04 / .24 / .36 among 2 / 8 / 32 images. Chance must therefore go through
the same function.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from leakaudit.scoring.checks import EvidenceError, Floats, finite

__all__ = ["matched_scores", "matching"]


def matched_scores(matrix: ArrayLike, groups: Sequence[Hashable] | None = None) -> Floats:
    """Return the score of each truth under the best one-to-one matching of guesses to truths.

    Args:
        matrix: Score of guess i against truth j, larger is better, shape (guesses, truths).
        groups: Group (for example the update) of each truth, and of the guess with the same index; guesses are matched
            within their group only, and the matrix must be square. None: one group.

    Returns:
        Shape (truths,).

    Raises:
        EvidenceError: A score that may be used is not finite, there are fewer guesses than truths, or groups do not fit.
    """
    scores = np.asarray(matrix, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] < scores.shape[1] or scores.shape[1] == 0:
        raise EvidenceError(f"a score matrix of shape {scores.shape} cannot be matched; at least one guess per truth is needed")
    if groups is None:
        return _match(scores)
    if not scores.shape[0] == scores.shape[1] == len(groups):
        raise EvidenceError(f"{len(groups)} groups for a score matrix of shape {scores.shape}; one group each was expected")
    result = np.empty(scores.shape[1])
    index: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        index.setdefault(group, []).append(place)
    for places in index.values():
        result[places] = _match(scores[np.ix_(places, places)])
    return result


def matching(matrix: ArrayLike) -> list[int]:
    """Return which guess each truth is given by the best one-to-one matching.

    Args:
        matrix: Score of guess i against truth j, larger is better, shape (guesses, truths).

    Raises:
        EvidenceError: A score is not finite, or there are fewer guesses than truths.
    """
    block = finite("the score matrix", matrix, ndim=2)
    if block.shape[0] < block.shape[1]:
        raise EvidenceError(f"{block.shape[0]} guesses cannot be matched to {block.shape[1]} truths, one to each")
    rows, columns = linear_sum_assignment(block, maximize=True)
    return [int(row) for _, row in sorted(zip(columns, rows, strict=True))]


def _match(scores: Floats) -> Floats:
    block = finite("the score matrix", scores)
    return np.asarray(block[matching(block), np.arange(block.shape[1])])
