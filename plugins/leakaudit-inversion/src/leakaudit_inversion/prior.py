"""What is held of an image before anything is observed: it is piecewise smooth, and as bright and contrasted as others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

__all__ = ["Prior", "smoothed", "total_variation"]

_SMOOTH = 1e-6
"""Added under the root of the total variation, whose gradient does not exist where the image is flat."""
_FLAT = 1e-3
"""Added to the variance by which the total variation is divided: a gray image has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """The penalty of a search.

    Networks with instance normalization hardly tell the scale of an image. A total variation in absolute units would then
    shrink the image at no cost, so it is taken relative to the image's own spread; and what scale and shift remain open are
    settled by a weak pull towards those of the images that the adversary knows.

    Attributes:
        tv: (n,), weight of the relative total variation of each target.
        mean: (modalities,), expected mean over all voxels; None to leave brightness and contrast alone.
        spread: (modalities,), expected standard deviation over all voxels.
        pull: Weight of brightness and contrast.
    """

    tv: Tensor
    pull: float = 0.0
    mean: Tensor | None = None
    spread: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the penalty of each image, (n,), for images (n, modalities, *spatial)."""
        flat = x.flatten(2)
        spread = (flat.var(dim=2, correction=0) + _FLAT).sqrt()
        penalty = self.tv * (total_variation(x) / spread).mean(dim=1)
        if not self.pull or self.mean is None or self.spread is None:
            return penalty
        off = ((spread / self.spread - 1).square() + ((flat.mean(dim=2) - self.mean) / self.spread).square()).mean(dim=1)
        return penalty + self.pull * off


def total_variation(x: Tensor) -> Tensor:
    """Return the isotropic total variation, (n, modalities), as a mean over voxels.

    The differences to the next voxel along each axis, squared, summed and rooted (Rudin, Osher and Fatemi 1992; beta = 1 in
    He, Zhang and Lee 2019).

    Args:
        x: Images (n, modalities, *spatial).
    """
    square = torch.zeros_like(x)
    for axis in range(2, x.ndim):
        step = x.diff(dim=axis)
        square.narrow(axis, 0, step.shape[axis]).add_(step.square())
    return (square + _SMOOTH).sqrt().flatten(2).mean(dim=2)


def smoothed(gradient: Tensor, length: float) -> Tensor:
    """Return a gradient in the Sobolev space H1 (Neuberger 1997): divided by 1 + length^2 |k|^2 at each wave vector k.

    Steps along it change an image smoothly first, where plain gradients spend their steps on single voxels. Stationary
    points stay the same.

    Args:
        gradient: (n, modalities, *spatial).
        length: Smoothing length in voxels; 0 returns the gradient as it is.
    """
    if length == 0:
        return gradient
    axes = tuple(range(2, gradient.ndim))
    shape = gradient.shape[2:]
    waves = [torch.fft.fftfreq(side, device=gradient.device) for side in shape[:-1]]
    waves.append(torch.fft.rfftfreq(shape[-1], device=gradient.device))
    square = torch.stack(torch.meshgrid(*waves, indexing="ij")).square().sum(dim=0) * (2 * math.pi) ** 2
    spectrum = torch.fft.rfftn(gradient, dim=axes) / (1 + length**2 * square).to(gradient.dtype)
    return cast(Tensor, torch.fft.irfftn(spectrum, s=shape, dim=axes))
