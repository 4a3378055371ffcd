"""Mislabeled canaries: the adversary's own patients with masks that are not theirs, and what a model's answers tell of them.

A model learns a wrong mask only by heart, so that few steps on it show (Steinke, Nasr and Jagielski 2023 find mislabeled canaries
stronger than natural ones). What is compared is the model's logits where the wrong mask says tumor with those where the true one
does: the difference of the two masks' cross-entropies, in which everything that the model knows of such images cancels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from leakaudit.cohorts import Cohort, regions
from leakaudit.errors import UserError

__all__ = ["craft", "origins", "score"]

Flip = tuple[int, ...]
_ALIKE = 0.5
"""Overlap (Dice) from which on a mirrored mask is not wrong enough."""


def craft(auxiliary: Cohort, count: int) -> Cohort:
    """Return so many patients of one sample each: images turned over where they are used again, with wrong masks.

    Args:
        auxiliary: The adversary's own patients.
        count: Canaries.

    Raises:
        UserError: There are too few patients of its own.
    """
    rows, flips = _rows(auxiliary), _flips(auxiliary)
    most = len(rows) * len(flips)
    if count > most:
        raise UserError(
            f"epsilon-audit: {count} mislabeled canaries were asked for, and {len(rows)} patients of the adversary's own give at "
            f"most {most}. Lower `canaries`, or give the adversary more patients (data split)."
        )
    plan = [(row, flip) for flip in flips for row in rows][:count]
    owned = auxiliary.take([row for row, _ in plan])
    images, brain, labels = (
        np.stack([np.flip(a, f) for a, (_, f) in zip(array, plan, strict=True)])
        for array, plan in ((owned.images, _channels(plan)), (owned.brain, plan), (owned.labels, plan))
    )
    wrong = np.stack([_wrong(labels, brain, i) for i in range(count)]).astype(labels.dtype)
    samples = tuple(replace(s, patient=f"own-{i}") for i, s in enumerate(owned.samples))
    return replace(owned, images=np.ascontiguousarray(images), brain=np.ascontiguousarray(brain), labels=wrong, samples=samples)


def origins(auxiliary: Cohort, candidates: Cohort) -> NDArray[np.uint8]:
    """Return the true labels of canaries, found again by their images.

    Args:
        auxiliary: The adversary's own patients.
        candidates: The canaries, under other names and in another order.

    Raises:
        UserError: One is no patient of its own.
    """
    known: dict[bytes, NDArray[np.uint8]] = {}
    for row, flip in itertools.product(_rows(auxiliary), _flips(auxiliary)):
        image = np.flip(auxiliary.images[row], tuple(axis + 1 for axis in flip))
        known[np.ascontiguousarray(image).tobytes()] = np.flip(auxiliary.labels[row], flip)
    found = [known.get(np.ascontiguousarray(image).tobytes()) for image in candidates.images]
    missing = sum(labels is None for labels in found)
    if missing:
        raise UserError(f"epsilon-audit: {missing} of {len(found)} canaries are none of the adversary's own patients")
    return np.stack([labels for labels in found if labels is not None])


def score(logits: NDArray[np.float32], wrong: NDArray[np.uint8], true: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return by how much the model fits the wrong masks better than the true ones: mean over the voxels that differ.

    The cross-entropy of a logit l with a label y is softplus(l) - l y, so the difference of both masks' is l (wrong - true).

    Args:
        logits: (canaries, regions, *spatial).
        wrong: Labels that were trained on, (canaries, *spatial).
        true: Labels of the images, of the same shape.
    """
    difference = regions(wrong).astype(np.float64) - regions(true).astype(np.float64)
    axes = tuple(range(1, difference.ndim))
    there = np.maximum(np.abs(difference).sum(axis=axes), 1.0)
    total: NDArray[np.float64] = (logits * difference).sum(axis=axes) / there
    return total


def _rows(auxiliary: Cohort) -> list[int]:
    """Return the sample with the largest tumor of every patient that has one."""
    best: dict[str, tuple[int, int]] = {}
    for i, sample in enumerate(auxiliary.samples):
        size = int(np.count_nonzero(auxiliary.labels[i]))
        if size > best.get(sample.patient, (0, -1))[0]:
            best[sample.patient] = (size, i)
    return [row for _, row in best.values()]


def _flips(auxiliary: Cohort) -> list[Flip]:
    axes = range(auxiliary.labels.ndim - 1)
    return [flip for k in range(len(axes) + 1) for flip in itertools.combinations(axes, k)]


def _channels(plan: list[tuple[int, Flip]]) -> list[tuple[int, Flip]]:
    return [(row, tuple(axis + 1 for axis in flip)) for row, flip in plan]


def _wrong(labels: NDArray[np.uint8], brain: NDArray[np.bool_], i: int) -> NDArray[np.uint8]:
    """Return a mask that is not that of image i: its own mirrored, or else another canary's."""
    for candidate in _others(labels, i):
        wrong = np.where(brain[i], candidate, 0)
        if wrong.any() and _dice(wrong > 0, labels[i] > 0) < _ALIKE:
            return wrong
    return np.where(brain[i] & (labels[i] == 0), labels[i].max(), 0)  # no tumor where there is one, and one everywhere else


def _others(labels: NDArray[np.uint8], i: int) -> Iterator[NDArray[np.uint8]]:
    for axis in range(labels.ndim - 2, -1, -1):
        yield np.flip(labels[i], axis)
    for k in range(1, len(labels)):
        yield labels[(i + k) % len(labels)]


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))
