"""The adversarial losses of the simulation, and how a mask comes to a network as a condition."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["conditioned", "deceive", "discriminate"]


def conditioned(x: Tensor, condition: Tensor | None) -> Tensor:
    """Return features or images with a mask as further channels, averaged down (or repeated up) to their size.

    Args:
        x: (n, channels, *spatial).
        condition: (n, outputs, *any spatial), for a class label one-hot with sides of 1; None for no condition.
    """
    if condition is None:
        return x
    return torch.cat([x, F.interpolate(condition.to(x.dtype), size=x.shape[2:], mode="area")], dim=1)


def deceive(scores: Tensor) -> Tensor:
    """Return the loss of who wants its own to be taken for real, BCE(D, 1), from logits (n,)."""
    return F.binary_cross_entropy_with_logits(scores, torch.ones_like(scores))


def discriminate(real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's loss, BCE(D(real), 1) + BCE(D(fake), 0), from logits (n,)."""
    return deceive(real) + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
