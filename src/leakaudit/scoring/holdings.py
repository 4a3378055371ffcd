"""Chance of an adversary that has something of the targets: other modalities (FLAIR can be translated into T1), or masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from leakaudit.scoring.chance import position_mean
from leakaudit.scoring.checks import EvidenceError, Floats, finite

__all__ = ["Translation", "fit_translation", "images_of_masks"]

_MOST = 64
"""Auxiliary images that a translation of masks is fitted on at most: 200 in their place gained .001 of SSIM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A ridge regression from held modalities to one that is not held, voxel by voxel.

    Attributes:
        weights: Coefficients of the features, shape (features,).
        radius: Half side of the neighborhood in voxels.
        channels: Number of held modalities.
    """

    weights: Floats
    radius: int
    channels: int

    def apply(self, held: ArrayLike) -> Floats:
        """Return the best guess of the target modality, 0 where all held modalities are 0 (background).

        Args:
            held: The colluder's own images of the targets, shape (samples, channels, *spatial).

        Raises:
            EvidenceError: A value is not finite, or the number of modalities differs.
        """
        images = finite("the held images", held)
        if images.ndim not in (4, 5) or images.shape[1] != self.channels:
            raise EvidenceError(f"held images of shape {images.shape}; {self.channels} modalities were expected")
        return np.stack([np.where((x != 0).any(axis=0), _features(x, self.radius) @ self.weights, 0.0) for x in images])


def fit_translation(held: ArrayLike, target: ArrayLike, *, radius: int = 1, penalty: float = 1e-3) -> Translation:
    """Fit a translation on auxiliary patients by ridge regression on neighborhood features.

    Features of a voxel: every held modality in its neighborhood, the squares of its own values, and 1; only voxels where some
    held modality is not 0 (brain) count.

    Args:
        held: Auxiliary images of the held modalities, shape (samples, channels, *spatial).
        target: Auxiliary images of the target modality, shape (samples, *spatial).
        radius: Half side of the neighborhood in voxels.
        penalty: Ridge penalty relative to the mean square of the features.

    Raises:
        EvidenceError: A value is not finite, shapes differ, or all held images are 0.
    """
    x, y = finite("the held images", held), finite("the target images", target)
    if x.ndim not in (4, 5) or y.shape != (len(x), *x.shape[2:]):
        raise EvidenceError(f"held images of shape {x.shape} and target images of shape {y.shape} do not belong together")
    size = x.shape[1] * ((2 * radius + 1) ** (x.ndim - 2) + 1) + 1
    square, cross, count = np.zeros((size, size)), np.zeros(size), 0
    for image, goal in zip(x, y, strict=True):
        inside = (image != 0).any(axis=0)
        rows = _features(image, radius)[inside]
        square += rows.T @ rows
        cross += rows.T @ goal[inside]
        count += len(rows)
    if count == 0:
        raise EvidenceError("all held auxiliary images are 0, so nothing can be translated")
    ridge = penalty * float(np.trace(square)) / size * np.eye(size)
    return Translation(weights=np.linalg.solve(square + ridge, cross), radius=radius, channels=x.shape[1])


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


def images_of_masks(
    images: ArrayLike, masks: ArrayLike, positions: Sequence[int], known: ArrayLike, targets: Sequence[int]
) -> Floats:
    """Return the best guess of targets whose masks are known: a translation of the mean image and the masks, by `fit_translation`.

    In and around a lesion the guess is what lesions look like, elsewhere about the mean image. On phantoms this explains an eighth
    of what lies between the mean and the truth (SSIM), and finds most patients among 50.

    Args:
        images: Auxiliary images, shape (samples, modalities, *spatial).
        masks: Their region masks, 0 and 1, shape (samples, regions, *spatial).
        positions: Slice position of each auxiliary image.
        known: Masks of the targets, shape (targets, regions, *spatial).
        targets: Slice position of each target.

    Returns:
        Shape (targets, modalities, *spatial).

    Raises:
        EvidenceError: A value is not finite, or shapes or lengths differ.
    """
    x, y, of = finite("the auxiliary images", images), finite("the auxiliary masks", masks), finite("the known masks", known)
    if y.shape != (len(x), *of.shape[1:]) or y.shape[2:] != x.shape[2:] or len(of) != len(targets):
        raise EvidenceError(f"images of shape {x.shape}, masks of shape {y.shape} and {of.shape} do not belong together")
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST)).round().astype(int))
    at = [positions[i] for i in some]
    held = np.concatenate([position_mean(x, positions, at), y[some]], axis=1)
    mine = np.concatenate([position_mean(x, positions, targets), of], axis=1)
    # A neighborhood in a volume has 27 voxels for each of the channels, which adds little and costs much memory.
    radius = 1 if x.ndim == 4 else 0
    guesses = [fit_translation(held, x[some, i], radius=radius).apply(mine) for i in range(x.shape[1])]
    return np.stack(guesses, axis=1)
