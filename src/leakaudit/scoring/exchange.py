"""Exchanged evidence: every patient's evidence scored against every patient's truth, M_ij = score(evidence i, truth j).

What evidence says about other patients shows what it says about nobody in particular. `permutation.shuffle_test` and
`permutation.patient_limit` read the matrices that are made here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from leakaudit.scoring.checks import EvidenceError, Floats, finite
from leakaudit.scoring.images import eroded, local_terms

__all__ = ["by_evidence", "dice_pairs", "gain_matrix", "ssim_pairs"]

_BLOCK = 1 << 18
"""Voxels of all masks that are multiplied at once."""


def ssim_pairs(guesses: ArrayLike, truths: ArrayLike, masks: ArrayLike, data_range: float, *, win: int = 7) -> Floats:
    """Return the masked SSIM of every guess with every truth, inside that truth's brain.

    Entry (i, i) is `masked_ssim` of guess i. Means and squares are filtered once per image, products once per pair, and only
    the box around all brains is looked at.

    Args:
        guesses: Shape (guesses, rows, columns).
        truths: Shape (truths, rows, columns).
        masks: Brain masks of the truths, none empty.
        data_range: Range of the data.
        win: Odd side of the window in voxels.

    Returns:
        Shape (guesses, truths).

    Raises:
        EvidenceError: Shapes differ, or a value is not finite.
    """
    x, y = finite("the guessed images", guesses, ndim=3), finite("the true images", truths, ndim=3)
    brain = np.asarray(masks, dtype=bool)
    if x.shape[1:] != y.shape[1:] or brain.shape != y.shape or not brain.any(axis=(1, 2)).all():
        raise EvidenceError(f"guesses {x.shape}, truths {y.shape} and brain masks {brain.shape} cannot be compared pair by pair")
    box = _box(brain, win // 2)
    x, y = x[:, *box], y[:, *box]
    inside = eroded(brain, win // 2)[:, *box].astype(np.float64)
    inside /= inside.sum(axis=(1, 2), keepdims=True)
    size, correction = (1, win, win), win**2 / (win**2 - 1)
    ux, uy = ndimage.uniform_filter(x, size), ndimage.uniform_filter(y, size)
    vx = correction * (ndimage.uniform_filter(x * x, size) - ux * ux)
    vy = correction * (ndimage.uniform_filter(y * y, size) - uy * uy)
    result = np.empty((len(x), len(y)))
    for i in range(len(x)):
        vxy = correction * (ndimage.uniform_filter(x[i] * y, size) - ux[i] * uy)
        light, structure = local_terms(ux[i], uy, vx[i], vy, vxy, np.asarray(float(data_range)))
        result[i] = np.einsum("jrc,jrc->j", light * structure, inside)
    return result


def _box(brain: NDArray[np.bool_], margin: int) -> tuple[slice, ...]:
    """Return the box around all brains, with room for half a window."""
    found = []
    for axis in range(1, brain.ndim):
        at = np.flatnonzero(brain.any(axis=tuple(a for a in range(brain.ndim) if a != axis)))
        found.append(slice(max(int(at[0]) - margin, 0), int(at[-1]) + margin + 1))
    return tuple(found)


def dice_pairs(guesses: ArrayLike, truths: ArrayLike) -> Floats:
    """Return the Dice of every guessed mask with every true one, shape (guesses, truths).

    Args:
        guesses: Boolean, shape (guesses, *spatial).
        truths: Boolean, shape (truths, *spatial), none empty.

    Raises:
        EvidenceError: Shapes differ, or a true mask is empty.
    """
    a, b = np.asarray(guesses, dtype=bool), np.asarray(truths, dtype=bool)
    if a.shape[1:] != b.shape[1:] or not b.reshape(len(b), -1).any(axis=1).all():
        raise EvidenceError(f"guessed masks {a.shape} and true masks {b.shape} cannot be compared pair by pair; none may be empty")
    left, right = a.reshape(len(a), -1), b.reshape(len(b), -1)
    hits = np.zeros((len(a), len(b)))
    for start in range(0, left.shape[1], _BLOCK):  # volumes as floats would fill the memory
        block = slice(start, start + _BLOCK)
        hits += left[:, block].astype(np.float32) @ right[:, block].astype(np.float32).T
    return np.asarray(2 * hits / (left.sum(axis=1)[:, None] + right.sum(axis=1)[None]))


def gain_matrix(scores: ArrayLike, chance: ArrayLike) -> Floats:
    """Return what each patient's evidence would gain over chance if it were held to be about each other patient.

    G_ij = M_ij - C_j - b (B_ij - C_j), with M_ij = score(evidence i, truth j), B_ij = score(blind guess about i, truth j) and
    C_j = B_jj, so that G_ii = M_ii - C_i is the patient's own gain whatever b is.

    The blind guess knows what is public: the slice position, or a colluder's own holdings. Evidence that repeats it scores
    better on its own patient than on others, who have other positions, without saying anything about that patient. b is the
    slope of M on B over pairs of different patients, row and column means taken out: 1 where the evidence is the guess itself
    (then G is 0), 0 where it has nothing to do with it (then G_ij = M_ij - C_j). With fewer than 4 patients, or a guess that
    is the same for everybody, b is 0.

    Args:
        scores: M, shape (n, n).
        chance: B, shape (n, n).

    Raises:
        EvidenceError: The matrices are not square or not of one shape, or a score is not finite.
    """
    m, b = finite("the scores of exchanged evidence", scores, ndim=2), finite("the scores of exchanged guesses", chance, ndim=2)
    if m.shape != b.shape or m.shape[0] != m.shape[1]:
        raise EvidenceError(f"exchanged evidence {m.shape} and exchanged guesses {b.shape} must be square and of one shape")
    own = np.diagonal(b)
    return np.asarray(m - own - _slope(m, b) * (b - own))


def by_evidence(matrix: ArrayLike) -> Floats:
    """Return each row of exchanged scores in units of its own spread: less its mean over others, by their standard deviation.

    For similarities that ranks are made of. A rank compares one patient's evidence with everybody's images, so what counts is
    how far the right one stands out from the others, not how alike this evidence is to all of them.

    Args:
        matrix: Scores of exchanged evidence, shape (n, n), n >= 2; the diagonal has no part in mean and spread.

    Raises:
        EvidenceError: The matrix is not square or too small, or a score is not finite.
    """
    m = finite("the scores of exchanged evidence", matrix, ndim=2)
    n = len(m)
    if n < 2 or m.shape[1] != n:
        raise EvidenceError(f"exchanged evidence of shape {m.shape}; it must be square, of at least two patients")
    others = m[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    spread = others.std(axis=1, keepdims=True)
    return np.asarray((m - others.mean(axis=1, keepdims=True)) / np.where(spread > 1e-9, spread, 1.0))


def _slope(m: Floats, b: Floats) -> float:
    if len(m) < 4:
        return 0.0
    off = ~np.eye(len(m), dtype=bool)
    left, right = _centered(m, off), _centered(b, off)
    power = float((right**2).sum())
    if power <= 1e-12 * (1 + float((b**2).sum())):
        return 0.0
    return max(float((left * right).sum()) / power, 0.0)


def _centered(values: Floats, off: NDArray[np.bool_]) -> Floats:
    """Return the off-diagonal values without row and column means, 0 on the diagonal; a few sweeps suffice."""
    result = np.where(off, values, 0.0)
    for _ in range(20):
        for axis in (0, 1):
            result = np.where(off, result - result.sum(axis=axis, keepdims=True) / (len(values) - 1), 0.0)
    return result
