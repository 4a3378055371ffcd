"""Chance of a colluding client: its own modalities already tell much of the target's (FLAIR can be translated into T1)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from leakaudit.scoring.checks import EvidenceError, Floats, finite

__all__ = ["Translation", "fit_translation"]


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
