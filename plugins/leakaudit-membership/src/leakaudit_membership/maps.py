"""What a segmentation model's answer says of membership beyond its mean loss: where it errs, by how much, and how sure it is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["loss_map"]

_FLOOR = 1e-4
"""Losses below it are taken for equal: logarithms of smaller ones would be mostly rounding."""


def loss_map(logits: Tensor, masks: Tensor, brain: Tensor, *, grid: int, confidence: bool) -> Tensor:
    """Return the structured loss of every sample (He et al., ECCV 2020), pooled, as logarithms, shape (n, features).

    The features are the mean cross-entropy of every cell of a grid over the image (a cell without brain takes the sample's
    mean); the mean and the spread of the cross-entropy over the brain; and its mean inside and outside each region. All are
    of brain voxels alone.

    Args:
        logits: (n, regions, *spatial).
        masks: Region masks of the same shape, zeros and ones.
        brain: Brain masks (n, 1, *spatial), zeros and ones.
        grid: Cells along each side.
        confidence: Whether to append the model's doubt, 1 - |2 p - 1|, pooled to the same grid.
    """
    loss = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    every = loss.mean(1, keepdim=True)
    mean = _mean(every, brain)
    spread = _mean((every - mean.view(-1, *[1] * (every.dim() - 1))) ** 2, brain).sqrt()
    inside, outside = (_mean(loss, brain * side, fallback=_mean(loss, brain)) for side in (masks, 1 - masks))
    parts = [_pooled(every, brain, grid), mean, spread, inside, outside]
    if confidence:
        doubt = (1 - (2 * logits.sigmoid() - 1).abs()).mean(1, keepdim=True)
        parts.append(_pooled(doubt, brain, grid))
    return torch.log(torch.cat(parts, dim=1) + _FLOOR)


def _mean(values: Tensor, weight: Tensor, fallback: Tensor | None = None) -> Tensor:
    """Return the weighted mean over voxels, (n, channels); `fallback` where there is no weight."""
    weight = weight.expand_as(values).flatten(2)
    total = weight.sum(-1)
    mean = (values.flatten(2) * weight).sum(-1) / total.clamp_min(1)
    return mean if fallback is None else mean.where(total > 0, fallback)


def _pooled(values: Tensor, brain: Tensor, grid: int) -> Tensor:
    """Return the mean over the brain voxels of every cell, (n, cells); the mean of the whole brain where a cell has none."""
    pool = F.adaptive_avg_pool3d if values.dim() == 5 else F.adaptive_avg_pool2d
    share = pool(brain, grid).flatten(1)
    mean = pool(values * brain, grid).flatten(1) / share.clamp_min(1e-6)
    return mean.where(share > 0, _mean(values, brain).expand_as(mean))
