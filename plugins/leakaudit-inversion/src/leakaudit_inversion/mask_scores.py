"""Masks from gradients under an unknown network: where they are long, and where they point as at tumor.

Li et al. (Label leakage and protection in two-party split learning, arXiv 2102.08504) tell positives of a rare class by the norm
of their gradients, since a network that expects negatives errs on them, and by the cosine to the gradient of a known positive.
Here both judge voxels, region by region: the core is looked for in the whole tumor, the enhancing part in the core.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from torch import Tensor

__all__ = ["direction_masks", "gradient_norm", "norm_masks"]

_REFINED = 1
"""Times that the voxels found teach the direction anew; a second time changes next to nothing."""
_FEWEST = 4
"""Voxels among which a region within a region is still looked for."""


def gradient_norm(gradient: Tensor) -> Tensor:
    """Return the L2 norm over channels of (n, channels, *spatial), as (n, *spatial)."""
    norm: Tensor = torch.linalg.vector_norm(gradient, dim=1)
    return norm


def norm_masks(gradient: Tensor, shares: Sequence[float] | None, regions: int, within: Tensor | None = None) -> Tensor:
    """Return nested masks (n, regions, *spatial), zeros and ones, of the voxels with the longest gradients.

    Args:
        gradient: (n, channels, *spatial).
        shares: Which share of the image each region takes in the adversary's own patients; None: Otsu's threshold of the
            logarithm of the norm, for each region within the one before.
        regions: How many regions.
        within: Where tumor can be at all, (n, *spatial); None: everywhere.
    """
    norm = gradient_norm(gradient).flatten(1).double()
    # A gradient that vanished has no logarithm; it ranks below all others.
    least = torch.where(norm > 0, norm, torch.inf).amin(dim=1, keepdim=True)
    score = torch.maximum(norm, least.nan_to_num(posinf=1.0)).log()
    inside = norm > 0 if within is None else (norm > 0) & within.flatten(1)
    found = []
    for region in range(regions):
        inside = _otsu(score, inside) if shares is None else _longest(score, inside, shares[region])
        found.append(inside)
    return _masks(found, gradient)


def direction_masks(gradient: Tensor, hints: int, regions: int, within: Tensor | None = None) -> Tensor:
    """Return nested masks (n, regions, *spatial), zeros and ones, of the voxels whose gradients point as at tumor.

    The direction is that in which the gradients of voxels taken for tumor differ from others: first those with the longest
    gradients, then those found.

    Args:
        gradient: (n, channels, *spatial), of some samples of one batch.
        hints: How many voxels of each sample are taken for tumor at first.
        regions: How many regions.
        within: Where tumor can be at all, (n, *spatial); None: everywhere.
    """
    flat = gradient.flatten(2).double()
    norm = torch.linalg.vector_norm(flat, dim=1)
    unit = flat / norm[:, None].clamp_min(torch.finfo(norm.dtype).tiny)
    inside = norm > 0 if within is None else (norm > 0) & within.flatten(1)
    found = []
    for _ in range(regions):
        tumor = _longest_of_each(norm, inside, hints)
        for _ in range(_REFINED + 1):
            tumor = _otsu(_cosine(unit, tumor, inside), inside)
        inside = tumor
        found.append(inside)
    return _masks(found, gradient)


def _masks(found: Sequence[Tensor], like: Tensor) -> Tensor:
    masks: Tensor = torch.stack(list(found), dim=1).to(like)
    shaped: Tensor = masks.unflatten(2, like.shape[2:])
    return shaped


def _cosine(unit: Tensor, tumor: Tensor, inside: Tensor) -> Tensor:
    """Return the cosine (n, voxels) to the mean unit gradient of tumor minus that of other voxels inside."""
    one, other = (tumor & inside).to(unit), (~tumor & inside).to(unit)
    weights = one / one.sum().clamp_min(1) - other / other.sum().clamp_min(1)
    direction = torch.einsum("nv,ncv->c", weights, unit)
    tiny = torch.finfo(unit.dtype).tiny
    cosine: Tensor = torch.einsum("c,ncv->nv", direction / direction.norm().clamp_min(tiny), unit)
    return cosine


def _otsu(score: Tensor, inside: Tensor) -> Tensor:
    """Return where the score is above Otsu's threshold, sample by sample, among the voxels `inside`; (n, voxels)."""
    found = torch.zeros_like(inside)
    for row, (values, among) in enumerate(zip(score, inside, strict=True)):
        some: NDArray[np.float64] = values[among].cpu().numpy()
        if len(some) >= _FEWEST and some.min() < some.max():
            found[row] = among & (values > float(threshold_otsu(some)))
    return found


def _longest(score: Tensor, inside: Tensor, share: float) -> Tensor:
    """Return the voxels inside with the highest scores of all samples together, (n, voxels), as many as make a share of them.

    One threshold for a batch, so that a patient with a large tumor can have more of them than another.
    """
    count = round(share * score.numel())
    order = torch.where(inside, score, -torch.inf).flatten().topk(count).indices
    found = torch.zeros_like(inside)
    found.view(-1)[order] = True
    return found & inside


def _longest_of_each(norm: Tensor, inside: Tensor, hints: int) -> Tensor:
    """Return the `hints` voxels inside with the longest gradients of each sample, (n, voxels)."""
    order = torch.where(inside, norm, -1.0).topk(min(hints, norm.shape[1]), dim=1).indices
    return torch.zeros_like(inside).scatter(1, order, True) & inside
