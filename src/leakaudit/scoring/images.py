"""Image similarity inside the brain: SSIM, MSE, PSNR, NMI and MS-SSIM, one value per sample.

SSIM of a skull-stripped slice is mostly background: a window that is 0 in both images scores 1, so that independent texture
reaches .75 over the whole slice and .28 inside the brain. Everything here is therefore averaged inside the brain mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from leakaudit.scoring.checks import EvidenceError, Floats, finite

__all__ = [
    "eroded", "local_terms", "masked_mse", "masked_nmi", "masked_psnr", "masked_ssim", "ms_ssim", "ms_ssim_scales", "ssim_map",
]  # fmt: skip

_K1, _K2 = 0.01, 0.03
_MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_MS_WIN = 11
_PSNR_CAP = 100.0
_BLOCK = 8_000_000
"""Most voxels filtered at once, to bound memory on volumes."""


def ssim_map(guess: ArrayLike, truth: ArrayLike, data_range: ArrayLike, *, win: int = 7) -> Floats:
    """Return the local SSIM of each sample (Wang et al. 2004; uniform window, sample covariance).

    Equal to `skimage.metrics.structural_similarity(..., full=True)`, for stacks.

    Args:
        guess: Shape (samples, *spatial), two or three spatial axes.
        truth: The same shape.
        data_range: Range of the data, one number or one per sample; the same for every guess of a truth.
        win: Odd side of the window in voxels.

    Raises:
        EvidenceError: Shapes differ, a value is not finite, or the window does not fit.
    """
    x, y = _pair(guess, truth)
    if win % 2 == 0 or win > min(x.shape[1:]):
        raise EvidenceError(f"an SSIM window of {win} does not fit images of {x.shape[1:]}; it must be odd and no larger")
    size = (1, *(win,) * (x.ndim - 1))
    points = win ** (x.ndim - 1)
    limits = _ranges(data_range, x)
    step = max(1, _BLOCK // int(np.prod(x.shape[1:])))
    parts = [slice(start, start + step) for start in range(0, len(x), step)]

    def smooth(a: Floats) -> Floats:
        return np.asarray(ndimage.uniform_filter(a, size))

    return np.concatenate([np.prod(_terms(x[p], y[p], limits[p], smooth, points / (points - 1)), axis=0) for p in parts])


def masked_ssim(guess: ArrayLike, truth: ArrayLike, mask: ArrayLike, data_range: ArrayLike, win: int = 7) -> Floats:
    """Return the mean SSIM inside the brain.

    The map is computed on the full image and averaged over the mask eroded by half a window, so that no averaged window
    reaches outside the brain; over the whole mask where nothing is left.

    Args:
        guess: Shape (samples, *spatial).
        truth: The same shape.
        mask: Brain masks of the same shape, none empty.
        data_range: Range of the data, one number or one per sample.
        win: Odd side of the window in voxels.

    Raises:
        EvidenceError: Shapes differ, a value is not finite, or a mask is empty.
    """
    local = ssim_map(guess, truth, data_range, win=win)
    return _inside(local, eroded(_masks(mask, local.shape), win // 2))


def masked_mse(guess: ArrayLike, truth: ArrayLike, mask: ArrayLike) -> Floats:
    """Return the mean squared error inside the brain, shape (samples,). Arguments and errors as in `masked_ssim`."""
    x, y = _pair(guess, truth)
    return _inside((x - y) ** 2, _masks(mask, x.shape))


def masked_psnr(guess: ArrayLike, truth: ArrayLike, mask: ArrayLike, data_range: ArrayLike) -> Floats:
    """Return the peak signal-to-noise ratio inside the brain in dB, at most 100 (for display; it depends on the range)."""
    x, y = _pair(guess, truth)
    error = _inside((x - y) ** 2, _masks(mask, x.shape))
    peak = _ranges(data_range, x).reshape(len(x)) ** 2
    return np.asarray(np.minimum(10 * np.log10(peak / np.maximum(error, 1e-300)), _PSNR_CAP))


def masked_nmi(guess: ArrayLike, truth: ArrayLike, mask: ArrayLike, *, bins: int = 100) -> Floats:
    """Return the normalized mutual information (H(X) + H(Y)) / H(X, Y) inside the brain, 1 to 2 (for display).

    Studholme et al. 1999, with `bins` equal bins over each image's range inside the mask. Two constant images share nothing: 1.
    """
    x, y = _pair(guess, truth)
    brain = _masks(mask, x.shape)
    values = np.empty(len(x))
    for i, inside in enumerate(brain):
        joint = np.histogram2d(x[i][inside], y[i][inside], bins=bins)[0]
        together = _entropy(joint)
        values[i] = (_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / together if together > 0 else 1.0
    return values


def ms_ssim_scales(shape: Sequence[int]) -> int:
    """Return how many scales of `ms_ssim` images of this spatial shape allow, 0 to 5: every side must exceed 10 * 2^(s - 1)."""
    return sum(min(shape) > (_MS_WIN - 1) * 2**s for s in range(len(_MS_WEIGHTS)))


def ms_ssim(guess: ArrayLike, truth: ArrayLike, mask: ArrayLike, data_range: ArrayLike, *, scales: int = 5) -> Floats:
    """Return multi-scale SSIM inside the brain (Wang, Simoncelli and Bovik 2003; Gaussian window of 11, sigma 1.5).

    Images and masks are averaged 2 x 2 (x 2) between scales; a negative contrast-structure term counts as 0. With fewer than
    five scales the first weights are used, rescaled to sum 1: state the number of scales beside the value.

    Args:
        guess: Shape (samples, *spatial).
        truth: The same shape.
        mask: Brain masks of the same shape, none empty.
        data_range: Range of the data, one number or one per sample.
        scales: 1 to 5. Every side must exceed 10 * 2^(scales - 1) voxels (160 for five).

    Raises:
        EvidenceError: The images are too small for the scales, or as in `masked_ssim`.
    """
    x, y = _pair(guess, truth)
    brain = _masks(mask, x.shape)
    need, most = (_MS_WIN - 1) * 2 ** (scales - 1), ms_ssim_scales(x.shape[1:])
    if not 1 <= scales <= most:
        raise EvidenceError(
            f"MS-SSIM with {scales} scales needs more than {need} voxels a side; images of {x.shape[1:]} allow {most} scales"
        )
    weights = np.array(_MS_WEIGHTS[:scales]) / sum(_MS_WEIGHTS[:scales])
    limits = _ranges(data_range, x)
    sigma = (0.0, *(1.5,) * (x.ndim - 1))

    def smooth(a: Floats) -> Floats:
        return np.asarray(ndimage.gaussian_filter(a, sigma, truncate=3.5))

    result = np.ones(len(x))
    for scale, weight in enumerate(weights):
        light, structure = _terms(x, y, limits, smooth, 1.0)
        local = light * structure if scale == scales - 1 else structure
        result *= np.maximum(_inside(local, eroded(brain, _MS_WIN // 2)), 0.0) ** weight
        if scale < scales - 1:
            x, y = _halved(x), _halved(y)
            half = _halved(brain.astype(np.float64))
            # A thin mask may vanish at half resolution; then any touched voxel counts.
            kept = half >= 0.5
            brain = np.where(kept.any(axis=tuple(range(1, x.ndim)), keepdims=True), kept, half > 0)
    return result


def _terms(x: Floats, y: Floats, limits: Floats, smooth: Callable[[Floats], Floats], correction: float) -> tuple[Floats, Floats]:
    """Return luminance and contrast-structure maps; `limits` broadcasts over the spatial axes."""
    ux, uy = smooth(x), smooth(y)
    vx = correction * (smooth(x * x) - ux * ux)
    vy = correction * (smooth(y * y) - uy * uy)
    vxy = correction * (smooth(x * y) - ux * uy)
    return local_terms(ux, uy, vx, vy, vxy, limits)


def local_terms(ux: Floats, uy: Floats, vx: Floats, vy: Floats, vxy: Floats, limits: Floats) -> tuple[Floats, Floats]:
    """Return luminance and contrast-structure maps from local means, variances and covariance (Wang et al. 2004).

    Args:
        ux: Local means of the guess.
        uy: Local means of the truth.
        vx: Local variances of the guess.
        vy: Local variances of the truth.
        vxy: Local covariances.
        limits: Range of the data; all arrays broadcast against each other.
    """
    c1, c2 = (_K1 * limits) ** 2, (_K2 * limits) ** 2
    return (2 * ux * uy + c1) / (ux**2 + uy**2 + c1), (2 * vxy + c2) / (vx + vy + c2)


def _pair(guess: ArrayLike, truth: ArrayLike) -> tuple[Floats, Floats]:
    x, y = finite("the guessed images", guess), finite("the true images", truth)
    if x.shape != y.shape or x.ndim not in (3, 4):
        raise EvidenceError(
            f"guessed images of shape {x.shape} and true images of shape {y.shape}; both must be (samples, *spatial), 2D or 3D"
        )
    return x, y


def _masks(mask: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    brain = np.asarray(mask, dtype=bool)
    if brain.shape != shape:
        raise EvidenceError(f"brain masks of shape {brain.shape} for images of shape {shape}")
    empty = np.flatnonzero(~brain.reshape(len(brain), -1).any(axis=1))
    if len(empty):
        raise EvidenceError(f"sample {empty[0]} has an empty brain mask; a sample without brain cannot be scored")
    return brain


def _ranges(data_range: ArrayLike, x: Floats) -> Floats:
    limits = np.broadcast_to(finite("the data range", data_range), (len(x),))
    if limits.min() <= 0:
        raise EvidenceError("the data range must be positive")
    return limits.reshape(len(x), *(1,) * (x.ndim - 1))


def eroded(brain: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Return masks (samples, *spatial) without the voxels whose window reaches outside; a mask that would vanish stays whole."""
    spatial = tuple(range(1, brain.ndim))
    box: Sequence[int] = (1, *(2 * radius + 1,) * len(spatial))
    core = ndimage.minimum_filter(brain, box, mode="constant", cval=0)
    return np.where(core.any(axis=spatial, keepdims=True), core, brain)


def _inside(values: Floats, brain: NDArray[np.bool_]) -> Floats:
    spatial = tuple(range(1, values.ndim))
    return np.asarray((values * brain).sum(axis=spatial) / brain.sum(axis=spatial))


def _entropy(counts: Floats) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def _halved(a: Floats) -> Floats:
    for axis in range(1, a.ndim):
        even = a.shape[axis] // 2 * 2
        shape = (*a.shape[:axis], even // 2, 2, *a.shape[axis + 1 :])
        a = a.take(range(even), axis=axis).reshape(shape).mean(axis=axis + 1)
    return a
