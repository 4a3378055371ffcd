"""What a decoder minimizes: errors inside the brain, and a little outside it."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["reconstruction_loss", "ssim_loss"]

_OUTSIDE = 0.1
"""Weight of a background voxel. It is always zero and easily learned, so that the brain is what capacity is spent on."""
_WINDOW, _STRIDE = 7, 2
_K1, _K2 = 0.01, 0.03


def reconstruction_loss(guess: Tensor, truth: Tensor, brain: Tensor, kind: Literal["mse", "mse+l1", "mse+ssim"]) -> Tensor:
    """Return the loss of a batch, a scalar.

    Args:
        guess: Reconstructions (n, modalities, *spatial).
        truth: Images of the same shape, z-scored inside the brain.
        brain: Brain masks (n, 1, *spatial), zeros and ones.
        kind: Squared error, alone or with the absolute error or with 1 - SSIM added.
    """
    weight = (brain + _OUTSIDE * (1 - brain)).expand_as(truth)
    error = (guess - truth) * weight.sqrt()
    loss = error.square().sum() / weight.sum()
    if kind == "mse+l1":
        loss = loss + ((guess - truth).abs() * weight).sum() / weight.sum()
    elif kind == "mse+ssim":
        loss = loss + ssim_loss(guess, truth, brain)
    return loss


def ssim_loss(guess: Tensor, truth: Tensor, brain: Tensor) -> Tensor:
    """Return 1 - SSIM (Wang et al. 2004, uniform window of 7) averaged inside the brain; arguments as above.

    The data range of an image is that of its own truth inside the brain. Windows are placed at every second voxel: they
    overlap so much that all of them would cost four times as much and teach the same.
    """
    axes = tuple(range(2, truth.ndim))
    span = (truth * brain).amax(axes, keepdim=True) - (truth * brain).amin(axes, keepdim=True)
    c1, c2 = (_K1 * span).square() + 1e-8, (_K2 * span).square() + 1e-8
    pool = F.avg_pool2d if len(axes) == 2 else F.avg_pool3d
    window = min(_WINDOW, *truth.shape[2:])
    window -= 1 - window % 2
    stack = torch.cat([guess, truth, guess * guess + truth * truth, guess * truth], dim=1)
    local = pool(stack, window, stride=_STRIDE, padding=window // 2, count_include_pad=False)
    mean_g, mean_t, squares, product = local.chunk(4, dim=1)
    both = mean_g * mean_t
    energy = mean_g.square() + mean_t.square()
    ssim = (2 * both + c1) * (2 * (product - both) + c2) / ((energy + c1) * (squares - energy + c2))
    # A window of one voxel picks the voxels on which the windows are centered.
    inside = F.max_pool2d(brain, 1, _STRIDE) if len(axes) == 2 else F.max_pool3d(brain, 1, _STRIDE)
    inside = inside.expand_as(ssim)
    return 1 - (ssim * inside).sum() / inside.sum().clamp_min(1)
