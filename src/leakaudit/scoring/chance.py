"""Chance: the best guess from what an adversary owns without the messages, built from auxiliary patients only.

A target's brain mask is not assumed known. Which baseline counts is chosen on validation patients and frozen: choosing on the
attacked patients turned a true leakage of .100 into .062-.083, and the best per patient into .015 to -.033.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leakaudit.scoring.checks import EvidenceError, Floats, finite

__all__ = ["Choice", "choose", "contrast_mean", "image_baselines", "mask_baselines", "medoid", "position_mean", "stretched"]

MIN_VALIDATION = 20
"""Validation patients from which on the choice is firm."""
CONTRAST = 1.5
"""Factor that beat the plain mean (SSIM .341 against .328): averaging washes out contrast that SSIM rewards."""
_LEAST = 8
"""Fewest images in a mean or medoid, where there are so many."""


def position_mean(images: ArrayLike, positions: Sequence[int], targets: Sequence[int], *, least: int = _LEAST) -> Floats:
    """Return, for each target, the mean auxiliary image at its slice position.

    Args:
        images: Auxiliary images, shape (samples, *rest).
        positions: Slice position of each auxiliary image.
        targets: Slice position of each target.
        least: Neighboring positions are added, nearest first, until this many images are averaged.

    Returns:
        Shape (targets, *rest).

    Raises:
        EvidenceError: A value is not finite, or lengths differ.
    """
    owned = _owned(images, positions)
    return _per_position(targets, lambda at: np.asarray(owned[_near(positions, at, least)].mean(axis=0)))


def contrast_mean(
    images: ArrayLike,
    brain: ArrayLike,
    positions: Sequence[int],
    targets: Sequence[int],
    *,
    factor: float = CONTRAST,
    least: int = _LEAST,
) -> Floats:
    """Return the mean image with its contrast inside the average brain stretched by `factor` around the brain's mean.

    Args:
        images: Auxiliary images, shape (samples, *rest), where rest ends in the spatial axes.
        brain: Their brain masks, shape (samples, *spatial).
        positions: Slice position of each auxiliary image.
        targets: Slice position of each target.
        factor: Stretch of the contrast.
        least: As in `position_mean`.

    Raises:
        EvidenceError: A value is not finite, or lengths differ.
    """
    owned = _owned(images, positions)
    masks = _owned(brain, positions)

    def build(at: int) -> Floats:
        near = _near(positions, at, least)
        return stretched(owned[near].mean(axis=0), masks[near].mean(axis=0) >= 0.5, factor=factor)

    return _per_position(targets, build)


def stretched(image: Floats, inside: NDArray[np.bool_], *, factor: float = CONTRAST) -> Floats:
    """Return an image with its contrast stretched around the mean inside a mask, and unchanged outside.

    Args:
        image: Shape (*rest, *spatial).
        inside: Shape (*spatial).
        factor: Stretch of the contrast.
    """
    axes = tuple(range(-inside.ndim, 0))
    middle = (image * inside).sum(axis=axes, keepdims=True) / max(int(inside.sum()), 1)
    return np.asarray(np.where(inside, middle + factor * (image - middle), image))


def medoid(images: ArrayLike, positions: Sequence[int], targets: Sequence[int], *, least: int = _LEAST) -> Floats:
    """Return, for each target, the auxiliary image nearest to all others at its position (least sum of squared distances).

    A real image has the texture that a mean lacks. Arguments and errors as in `position_mean`.
    """
    owned = _owned(images, positions)

    def build(at: int) -> Floats:
        near = owned[_near(positions, at, least)]
        # The sum of squared distances to all others is least for the image nearest to the mean.
        distance = ((near - near.mean(axis=0)) ** 2).reshape(len(near), -1).sum(axis=1)
        return np.asarray(near[int(np.argmin(distance))])

    return _per_position(targets, build)


def image_baselines(images: ArrayLike, brain: ArrayLike, positions: Sequence[int], targets: Sequence[int]) -> dict[str, Floats]:
    """Return the image baselines by name: `"mean"`, `"contrast-mean"` and `"medoid"`, each of shape (targets, *rest)."""
    return {
        "mean": position_mean(images, positions, targets),
        "contrast-mean": contrast_mean(images, brain, positions, targets),
        "medoid": medoid(images, positions, targets),
    }


def mask_baselines(
    masks: ArrayLike, positions: Sequence[int], targets: Sequence[int], *, thresholds: Sequence[float] = (0.1, 0.2, 0.3)
) -> dict[str, NDArray[np.bool_]]:
    """Return prior masks by name, each boolean of shape (targets, *rest).

    `"empty"`; `"majority"`, the voxels that most auxiliary patients have at the position; `"prior-t"`, those that a share of at
    least t has at the position; `"overall-t"`, the same over all positions.

    Args:
        masks: Auxiliary masks, boolean or 0 and 1, shape (samples, *rest).
        positions: Slice position of each auxiliary mask.
        targets: Slice position of each target.
        thresholds: Shares t; Dice of a rare structure is best well below one half.

    Raises:
        EvidenceError: A value is not finite, or lengths differ.
    """
    share = position_mean(masks, positions, targets)
    overall = np.broadcast_to(finite("the auxiliary masks", masks).mean(axis=0), share.shape)
    result = {"empty": np.zeros(share.shape, dtype=bool), "majority": share > 0.5}
    for threshold in thresholds:
        result[f"prior-{threshold:g}"] = share >= threshold
        result[f"overall-{threshold:g}"] = overall >= threshold
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The baseline that counts as chance for one endpoint and protocol.

    Attributes:
        name: Its name.
        means: Mean validation score of every baseline.
        patients: Validation patients it was chosen on.
        firm: Whether there were at least 20; otherwise the report says so.
    """

    name: str
    means: Mapping[str, float]
    patients: int
    firm: bool


def choose(scores: Mapping[str, ArrayLike]) -> Choice:
    """Choose the baseline with the best mean score on validation patients; the first name in the alphabet among equals.

    Args:
        scores: Score of each baseline per validation patient, shape (patients,), larger is better.

    Raises:
        EvidenceError: There is no baseline, a score is not finite, or the baselines have different numbers of patients.
    """
    if not scores:
        raise EvidenceError("there is no baseline to choose chance from")
    arrays = {name: finite(f"the scores of baseline {name!r}", scores[name], ndim=1) for name in sorted(scores)}
    counts = {len(array) for array in arrays.values()}
    if len(counts) > 1:
        raise EvidenceError(f"baselines were scored on different numbers of validation patients: {sorted(counts)}")
    means = {name: float(array.mean()) for name, array in arrays.items()}
    patients = counts.pop()
    return Choice(name=max(means, key=means.__getitem__), means=means, patients=patients, firm=patients >= MIN_VALIDATION)


def _owned(values: ArrayLike, positions: Sequence[int]) -> Floats:
    array = finite("the auxiliary images", values)
    if len(array) != len(positions):
        raise EvidenceError(f"{len(array)} auxiliary images for {len(positions)} slice positions; one each was expected")
    return array


def _near(positions: Sequence[int], at: int, least: int) -> NDArray[np.bool_]:
    distance = np.abs(np.asarray(positions) - at)
    return np.asarray(distance <= np.sort(distance)[min(least, len(distance)) - 1])


def _per_position(targets: Sequence[int], build: Callable[[int], Floats]) -> Floats:
    built = {at: build(at) for at in dict.fromkeys(targets)}
    return np.stack([built[at] for at in targets])
