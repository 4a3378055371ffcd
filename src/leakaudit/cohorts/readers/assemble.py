"""From the voxels of a visit to samples: crop to the brain, resample, normalize. Imports MONAI, so only loading uses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from monai.transforms import CropForeground, Resize, SpatialPad
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from leakaudit.cohorts.readers.visit import Visit

__all__ = ["Samples", "assemble"]


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Samples of one visit.

    Attributes:
        images: float32, (n, modalities, *spatial), z-scored where the modality was imaged inside the brain, else 0.
        labels: uint8, (n, *spatial).
        brain: bool, (n, *spatial).
        spacing: Voxel size in mm along each spatial axis.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.uint8]
    brain: NDArray[np.bool_]
    spacing: tuple[float, ...]


def assemble(visit: Visit, shape: Sequence[int], slices: Sequence[int] | None) -> Samples:
    """Cut samples of one size from a visit.

    The box around the brain is padded to the aspect of `shape` in mm and resampled, so that proportions are kept and about one
    voxel of background remains at each side. Each modality is averaged over its own field only (mean of image over mean of
    field), which keeps rims free of dark background, and each sample is z-scored over that field: where a modality ends short
    of the brain it stays 0.

    Args:
        visit: Checked voxels.
        shape: (rows, columns) for slices, (slices, rows, columns) for volumes.
        slices: Slices to take; None for a volume.
    """
    planes = slice(None) if slices is None else list(slices)
    count, brain = len(visit.images), visit.brain[planes]
    images, labels = visit.images[:, planes], visit.labels[planes] * brain
    stack = _crop(np.concatenate([images, _fields(images, brain), brain[None], labels[None]]), shape, visit.spacing)
    target = tuple(shape) if slices is None else (stack.shape[1], *shape)
    shrinks = all(new <= old for new, old in zip(target, stack.shape[1:], strict=True))
    smooth = np.asarray(Resize(target, mode="area" if shrinks else "trilinear")(stack[:-1]), dtype=np.float32)
    nearest = np.asarray(Resize(target, mode="nearest-exact")(stack[-1:]))[0]
    inside = smooth[-1] >= 0.5
    covered = smooth[count:-1]
    fields = (covered >= 0.5) & inside
    axes = (1, 2, 3) if slices is None else (2, 3)
    scored = _z_score((smooth[:count] / np.maximum(covered, 0.5)).astype(np.float32), fields, axes)
    marked = np.where(inside, np.rint(nearest), 0).astype(np.uint8)
    sides = zip(stack.shape[-len(shape) :], visit.spacing[-len(shape) :], shape, strict=True)
    spacing = tuple(voxels * mm / new for voxels, mm, new in sides)
    if slices is None:
        return Samples(scored[None], marked[None], inside[None], spacing)
    return Samples(scored.swapaxes(0, 1), marked, inside, spacing)


def _fields(images: NDArray[np.float32], brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where in the brain each modality was imaged, (modalities, slices, rows, columns).

    That is where it is above 0, and the holes inside: dark fluid may be exactly 0.
    """
    fields: NDArray[np.bool_] = images > 0
    for field in fields:
        for z in np.flatnonzero((brain & ~field).any(axis=(1, 2))):
            field[z] = binary_fill_holes(field[z]) & brain[z]
    return fields


def _z_score(images: NDArray[np.float32], fields: NDArray[np.bool_], axes: tuple[int, ...]) -> NDArray[np.float32]:
    """Return images with mean 0 and standard deviation 1 over their fields along `axes`, and 0 outside."""
    size = np.maximum(fields.sum(axis=axes, keepdims=True), 1)
    centered = np.where(fields, images - np.where(fields, images, 0).sum(axis=axes, keepdims=True, dtype=np.float64) / size, 0)
    spread = np.sqrt((centered**2).sum(axis=axes, keepdims=True) / size)
    return (centered / np.where(spread > 0, spread, 1)).astype(np.float32)


def _crop(stack: NDArray[np.float32], shape: Sequence[int], spacing: Sequence[float]) -> NDArray[np.float32]:
    """Crop to the brain (last channel but one) and pad with background to the aspect of `shape`.

    Args:
        stack: (channels, slices, rows, columns).
        shape: Aspect wanted along the last axes; axes before them keep their length.
        spacing: Voxel size in mm along slices, rows, columns.
    """
    cropped = np.asarray(CropForeground(select_fn=lambda x: x > 0, channel_indices=stack.shape[0] - 2)(stack))
    keep = 3 - len(shape)
    extent = cropped.shape[1 + keep :]
    inner = [length - 2 for length in shape]  # leaves one voxel of background at each side
    scale = max(n * mm / k for n, mm, k in zip(extent, spacing[keep:], inner, strict=True))
    padded = [round(scale * k / mm) for k, mm in zip(shape, spacing[keep:], strict=True)]
    return np.asarray(SpatialPad([*cropped.shape[1 : 1 + keep], *padded])(cropped), dtype=np.float32)
