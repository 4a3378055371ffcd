"""Chance of an adversary that has something of the targets: other modalities (FLAIR can be translated into T1), or masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from leakaudit.scoring.chance import position_mean
from leakaudit.scoring.checks import EvidenceError, Floats, finite

__all__ = ["MaskTranslation", "Translation", "fit_masks", "fit_translation", "painted"]

_VOXELS = 2**18
"""Voxels that a translation of masks is fitted on, roughly: 200 images of 32x32 in place of 64 gained .001 of SSIM."""
_IMAGES = (8, 64)
"""Fewest and most images that it is fitted on, where there are so many."""
_LESION = {"t1": -1.0, "t1ce": 1.0, "t1gd": 1.0, "t2": 2.0, "flair": 2.0}
"""How a lesion looks by textbook, in standard deviations of the brain: dark on T1, bright on all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A ridge regression from held modalities to others that are not held, voxel by voxel.

    Attributes:
        weights: Coefficients of the features, shape (features, targets).
        radius: Half side of the neighborhood in voxels.
        channels: Number of held modalities.
    """

    weights: Floats
    radius: int
    channels: int

    def apply(self, held: ArrayLike) -> Floats:
        """Return the guess of the target modalities, 0 where all held modalities are 0 (background).

        Args:
            held: The colluder's own images of the targets, shape (samples, channels, *spatial).

        Returns:
            Shape (samples, targets, *spatial).

        Raises:
            EvidenceError: A value is not finite, or the number of modalities differs.
        """
        images = finite("the held images", held)
        if images.ndim not in (4, 5) or images.shape[1] != self.channels:
            raise EvidenceError(f"held images of shape {images.shape}; {self.channels} modalities were expected")
        return np.stack([(x != 0).any(axis=0) * np.moveaxis(_features(x, self.radius) @ self.weights, -1, 0) for x in images])


def fit_translation(held: ArrayLike, target: ArrayLike, *, radius: int = 1, penalty: float = 1e-3) -> Translation:
    """Fit a translation on auxiliary patients by ridge regression on neighborhood features.

    Features of a voxel: every held modality in its neighborhood, the squares of its own values, and 1; only voxels where some
    held modality is not 0 (brain) count.

    Args:
        held: Auxiliary images of the held modalities, shape (samples, channels, *spatial).
        target: Auxiliary images of the target modalities, shape (samples, targets, *spatial).
        radius: Half side of the neighborhood in voxels.
        penalty: Ridge penalty relative to the mean square of the features.

    Raises:
        EvidenceError: A value is not finite, shapes differ, or all held images are 0.
    """
    x, y = finite("the held images", held), finite("the target images", target)
    if x.ndim not in (4, 5) or y.ndim != x.ndim or (len(y), *y.shape[2:]) != (len(x), *x.shape[2:]):
        raise EvidenceError(f"held images of shape {x.shape} and target images of shape {y.shape} do not belong together")
    size = x.shape[1] * ((2 * radius + 1) ** (x.ndim - 2) + 1) + 1
    square, cross, count = np.zeros((size, size)), np.zeros((size, y.shape[1])), 0
    for image, goal in zip(x, y, strict=True):
        inside = (image != 0).any(axis=0)
        rows = _features(image, radius)[inside]
        square += rows.T @ rows
        cross += rows.T @ goal[:, inside].T
        count += len(rows)
    if count == 0:
        raise EvidenceError("all held auxiliary images are 0, so nothing can be translated")
    ridge = penalty * float(np.trace(square)) / size * np.eye(size)
    return Translation(weights=np.linalg.solve(square + ridge, cross), radius=radius, channels=x.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskTranslation:
    """What masks tell of images: a translation of the mean image at a position and of the masks.

    Attributes:
        translation: From mean image and masks to images.
        images: The auxiliary images that means are taken of, shape (samples, modalities, *spatial).
        positions: Slice position of each.
    """

    translation: Translation
    images: Floats
    positions: Sequence[int]

    def apply(self, known: ArrayLike, targets: Sequence[int]) -> Floats:
        """Return the guess of targets whose masks are known, shape (targets, modalities, *spatial).

        Args:
            known: Masks of the targets, 0 and 1, shape (targets, regions, *spatial).
            targets: Slice position of each target.

        Raises:
            EvidenceError: A value is not finite, or shapes or lengths differ.
        """
        masks = finite("the known masks", known)
        if len(masks) != len(targets) or masks.shape[2:] != self.images.shape[2:]:
            raise EvidenceError(f"masks of shape {masks.shape} and {len(targets)} positions do not belong together with the images")
        return self.translation.apply(np.concatenate([position_mean(self.images, self.positions, targets), masks], axis=1))


def fit_masks(images: ArrayLike, masks: ArrayLike, positions: Sequence[int]) -> MaskTranslation:
    """Fit what masks tell of images: in and around a lesion what lesions look like, elsewhere about the mean image.

    On phantoms this explains about an eighth of what lies between the mean image and the truth (SSIM), and finds most patients
    among 50.

    Args:
        images: Auxiliary images, shape (samples, modalities, *spatial).
        masks: Their region masks, 0 and 1, shape (samples, regions, *spatial).
        positions: Slice position of each auxiliary image.

    Raises:
        EvidenceError: A value is not finite, or shapes or lengths differ.
    """
    x, y = finite("the auxiliary images", images), finite("the auxiliary masks", masks)
    if y.ndim != x.ndim or (len(y), *y.shape[2:]) != (len(x), *x.shape[2:]):
        raise EvidenceError(f"images of shape {x.shape} and masks of shape {y.shape} do not belong together")
    least, most = _IMAGES
    count = min(len(x), max(least, min(most, _VOXELS // x[0, 0].size)))
    some = np.unique(np.linspace(0, len(x) - 1, count).round().astype(int))
    held = np.concatenate([position_mean(x, positions, [positions[i] for i in some]), y[some]], axis=1)
    # A neighborhood in a volume has 27 voxels for each of the channels, which adds little and costs much memory.
    translation = fit_translation(held, x[some], radius=1 if x.ndim == 4 else 0)
    return MaskTranslation(translation=translation, images=x, positions=tuple(positions))


def painted(masks: ArrayLike, modalities: Sequence[str]) -> Floats:
    """Return masks as images of who owns none: lesions as textbooks have them, and nothing else.

    Args:
        masks: Region masks, 0 and 1, the whole tumor first, shape (targets, regions, *spatial).
        modalities: Names of the modalities to paint.

    Returns:
        Shape (targets, modalities, *spatial).
    """
    whole = finite("the known masks", masks)[:, 0]
    return np.stack([_LESION.get(name, 1.0) * whole for name in modalities], axis=1)


def _features(image: Floats, radius: int) -> Floats:
    """Return the features of every voxel, shape (*spatial, features); the image is continued by 0."""
    spatial = image.shape[1:]
    padded = np.pad(image, [(0, 0)] + [(radius, radius)] * len(spatial))
    columns = [
        padded[(slice(None), *(slice(o, o + s) for o, s in zip(offset, spatial, strict=True)))]
        for offset in product(range(2 * radius + 1), repeat=len(spatial))
    ]
    stack = np.concatenate([*columns, image**2, np.ones((1, *spatial))])
    return np.moveaxis(stack, 0, -1)
