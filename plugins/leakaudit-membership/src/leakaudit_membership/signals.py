"""Signals of membership: one loss per sample from a model's answer and the true masks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["cross_entropy", "dice_loss"]


def cross_entropy(logits: Tensor, masks: Tensor, brain: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over regions and brain voxels, shape (n,).

    Background is left out: it is easy for every patient, and the share of it differs between them.

    Args:
        logits: (n, regions, *spatial).
        masks: Region masks of the same shape, zeros and ones.
        brain: Brain masks (n, 1, *spatial), zeros and ones.
    """
    loss = F.binary_cross_entropy_with_logits(logits, masks, reduction="none") * brain
    voxels = brain.flatten(1).sum(1).clamp_min(1)
    return loss.flatten(1).sum(1) / (voxels * logits.shape[1])


def dice_loss(logits: Tensor, masks: Tensor, brain: Tensor) -> Tensor:
    """Return 1 - soft Dice inside the brain, averaged over the regions that the patient has, shape (n,).

    A region that is absent from a sample says nothing about overlap and is left out; a sample without any region counts as
    the mean probability that the model gives the brain. Arguments as in `cross_entropy`.
    """
    p, t = (logits.sigmoid() * brain).flatten(2), (masks * brain).flatten(2)
    present = (t.sum(-1) > 0).float()
    dice = 2 * (p * t).sum(-1) / (p.sum(-1) + t.sum(-1)).clamp_min(1e-8)
    regions = present.sum(1)
    empty = p.sum((1, 2)) / (brain.flatten(1).sum(1).clamp_min(1) * p.shape[1])
    loss = ((1 - dice) * present).sum(1) / regions.clamp_min(1)
    return loss.where(regions > 0, empty)
