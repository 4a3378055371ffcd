"""Planted identity: 32 bits per patient as the presence or absence of small dots, and their reading from any image.

The dots look like perivascular spaces: bright on T2 and dark on FLAIR, 2 mm wide or little more than a voxel, at sites in
white matter. A reader who sees the patient's image, or a good reconstruction of it, finds nearly all bits; a reader who sees
anything else is right half of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from leakaudit.cohorts.phantom.grid import Grid

__all__ = ["BITS", "choose", "decode", "dot_weights", "width"]

BITS = 32
"""Bits planted in a patient's images."""

_AMPLITUDE = 0.9
_REACH = 2
_CLEAR = 0.12
"""A site is quiet where the healthy structure looks like a dot of less than this (in units of the mean T2 signal)."""


def width(spacing: Sequence[float]) -> NDArray[np.float64]:
    """Return the standard deviation of a dot in voxels along each axis: 2 mm full width, but at least 1.2 voxels."""
    return np.maximum(2.0 / np.asarray(spacing, dtype=np.float64), 1.2) / 2.355


def dot_weights(grid: Grid, dots: NDArray[np.floating], bits: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the fraction of each voxel that the dots turn into fluid, shape `grid.shape`.

    Args:
        grid: The sample's voxels.
        dots: Voxel coordinates of all sites, shape (bits, dims).
        bits: Which of them carry a dot.
    """
    weights = np.zeros(grid.shape, dtype=np.float32)
    sigma = width(grid.spacing)
    for center in np.asarray(dots, dtype=np.float64)[bits]:
        low = np.maximum(np.floor(center - 4 * sigma).astype(int), 0)
        high = np.minimum(np.ceil(center + 4 * sigma).astype(int) + 1, grid.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        bump = np.float64(_AMPLITUDE)
        for axis, (a, b) in enumerate(zip(low, high, strict=True)):
            line = np.exp(-(((np.arange(a, b) - center[axis]) / sigma[axis]) ** 2) / 2)
            bump = bump * line.reshape([-1 if i == axis else 1 for i in range(len(grid.shape))])
        weights[box] = np.maximum(weights[box], bump)
    return weights


def decode(
    image: NDArray[np.floating], dots: NDArray[np.floating], *, sigma: NDArray[np.floating] | float = 1.2 / 2.355
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Read the planted bits from one channel of an image, whatever it comes from.

    The amplitude of a dot at each site is fitted by least squares beside a local plane. Dots and empty sites are then two
    groups of amplitudes with a common spread, told apart without a fixed threshold (expectation maximization), so that
    the scale and offset of the image do not matter.

    Args:
        image: T2 channel of the image, z-scored, shape (rows, columns) or (slices, rows, columns). Another channel where the
            dots are bright works too; negate FLAIR.
        dots: Voxel coordinates of the sites, shape (bits, dims), as in `Cohort.dots`.
        sigma: Standard deviation of a dot in voxels, one number or one by axis (`width`).

    Returns:
        The bits, and the log-likelihood ratio of one against zero of each, both of shape (bits,). Where nothing
        distinguishes the sites, as in a constant image, the ratios are zero and the bits are False.

    Raises:
        ValueError: The dots do not have one coordinate for each axis of the image.
    """
    image = np.asarray(image, dtype=np.float64)
    dots = np.asarray(dots, dtype=np.float64)
    if dots.ndim != 2 or dots.shape[1] != image.ndim:
        raise ValueError(f"dots have shape {dots.shape}, expected (bits, {image.ndim}) for one channel of shape {image.shape}")
    index, kernel = _windows(dots, sigma)
    # What a dot of size one at site j adds to the estimate at site i: neighbors are taken out of each other.
    mixing = np.stack([(kernel * _bump(index - dot, sigma)).sum(axis=1) for dot in dots], axis=1)
    ratio = _ratios(np.linalg.lstsq(mixing, amplitudes(image, dots, sigma), rcond=1e-3)[0])
    return ratio > 0, ratio.astype(np.float32)


def amplitudes(image: NDArray[np.floating], dots: NDArray[np.floating], sigma: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """Return the least-squares amplitude of a dot beside a local plane at each site, each by itself, shape (bits,)."""
    index, kernel = _windows(dots, sigma)
    inside = np.clip(index, 0, np.asarray(image.shape) - 1)
    windows = np.asarray(image, dtype=np.float64)[tuple(np.moveaxis(inside, -1, 0))]
    return np.asarray((kernel * windows).sum(axis=1))


def _windows(dots: NDArray[np.floating], sigma: NDArray[np.floating] | float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the voxels around each site, (bits, window, dims), and the weights that estimate its dot, (bits, window)."""
    dims = dots.shape[1]
    offsets = np.stack(np.meshgrid(*[np.arange(-_REACH, _REACH + 1)] * dims, indexing="ij"), axis=-1).reshape(-1, dims)
    index = np.rint(dots).astype(np.intp)[:, None] + offsets
    kernel = _bump(index - dots[:, None], sigma)
    plane = np.concatenate([np.ones((len(offsets), 1)), offsets], axis=1)
    plane /= np.linalg.norm(plane, axis=0)
    kernel -= (kernel @ plane) @ plane.T
    return index, kernel / (kernel * kernel).sum(axis=1, keepdims=True)


def _bump(away: NDArray[np.floating], sigma: NDArray[np.floating] | float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-((away / sigma) ** 2).sum(axis=-1) / 2), dtype=np.float64)


def _ratios(values: NDArray[np.float64], rounds: int = 30) -> NDArray[np.float64]:
    """Return the log-likelihood ratio of the upper against the lower group of two equally likely normal groups."""
    low, high = np.quantile(values, [0.2, 0.8])
    spread = np.std(values)
    if not spread > 1e-9:
        return np.zeros_like(values)
    for _ in range(rounds):
        ratio = np.clip((high - low) / spread**2 * (values - (high + low) / 2), -50, 50)
        share = 1 / (1 + np.exp(-ratio))
        low, high = np.average(values, weights=1 - share + 1e-9), np.average(values, weights=share + 1e-9)
        variance = np.mean(share * (values - high) ** 2 + (1 - share) * (values - low) ** 2)
        spread = max(np.sqrt(variance), 0.05 * np.std(values))
    return np.asarray((high - low) / spread**2 * (values - (high + low) / 2))


def choose(
    rng: np.random.Generator, candidates: NDArray[np.float64], cost: NDArray[np.float64], spacing: float = 3.0
) -> NDArray[np.intp]:
    """Choose `BITS` sites at random among the quiet ones, then the least loud, at least `spacing` voxels apart.

    Args:
        rng: Stream of the patient's canary.
        candidates: Voxel coordinates, shape (n, dims); n is at least `BITS`.
        cost: How much each looks like a dot that is not there, shape (n,).
        spacing: Least distance in voxels along some axis; given up step by step where white matter is scarce.

    Returns:
        Indices of the chosen candidates, shape (BITS,).
    """
    order = np.argsort(np.maximum(cost, _CLEAR) + 1e-3 * rng.uniform(size=len(cost)))
    chosen: list[int] = []
    while len(chosen) < BITS:
        for i in order:
            if len(chosen) == BITS:
                break
            apart = np.abs(candidates[chosen] - candidates[i]).max(axis=1) if chosen else np.array([np.inf])
            if apart.min() >= spacing:
                chosen.append(int(i))
        spacing = max(spacing - 0.5, 0.1)
    return np.array(chosen, dtype=np.intp)
