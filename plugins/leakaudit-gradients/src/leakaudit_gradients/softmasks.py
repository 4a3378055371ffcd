"""Masks that are not known: searched for together with the images, as numbers between 0 and 1."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["logits_of", "soft"]


def soft(logits: Tensor) -> Tensor:
    """Return soft masks of nested regions: each is a share of the one before it.

    The regions of a tumor are nested (whole tumor, tumor core, enhancing tumor), so masks that are not cannot occur.

    Args:
        logits: (n, regions, *spatial).

    Returns:
        Values in (0, 1), same shape, falling along the regions.
    """
    return torch.sigmoid(logits).cumprod(dim=1)


def logits_of(masks: Tensor, margin: float = 0.02) -> Tensor:
    """Return logits whose soft masks are `masks`, as far as these are nested and keep `margin` from 0 and 1.

    Args:
        masks: (n, regions, *spatial), values in [0, 1].
        margin: Least distance of a share from 0 and 1, where a sigmoid no longer moves.
    """
    before = torch.cat([torch.ones_like(masks[:, :1]), masks[:, :-1]], dim=1)
    share = (masks + margin / 4) / (before + margin / 2)
    return torch.logit(share.clamp(margin, 1 - margin))
