"""Layers in 2 or 3 dimensions, and how far a feature map lies from the image."""

from __future__ import annotations

import math
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PlainBlock", "ResidualBlock", "conv", "halvings", "resized", "transposed"]

_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def conv(dims: int, inside: int, outside: int, *, kernel: int = 3, stride: int = 1) -> nn.Module:
    """Return a convolution that keeps the size, or divides it by `stride`, rounding up."""
    return _CONV[dims](inside, outside, kernel, stride=stride, padding=kernel // 2)


def transposed(dims: int, inside: int, outside: int) -> nn.Module:
    """Return a transposed convolution that doubles the size."""
    return _TRANSPOSED[dims](inside, outside, 3, stride=2, padding=1, output_padding=1)


def halvings(fine: tuple[int, ...], coarse: tuple[int, ...]) -> int:
    """Return how often `fine` must be halved to come to `coarse`.

    Raises:
        ValueError: `coarse` has other dimensions or is finer.
    """
    if len(fine) != len(coarse):
        raise ValueError(f"feature maps with {len(coarse)} spatial axes cannot come from images with {len(fine)}")
    ratio = max(f / c for f, c in zip(fine, coarse, strict=True))
    if ratio < 0.75:
        raise ValueError(f"feature maps of {coarse} voxels are finer than the image with {fine}")
    return max(0, round(math.log2(ratio)))


def resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return `x` (n, channels, *spatial) with spatial shape `size`, by nearest neighbors."""
    return x if tuple(x.shape[2:]) == size else F.interpolate(x, size=size, mode="nearest")


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))); group normalization treats every image alone."""

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        groups = math.gcd(4, width)
        self.body = nn.Sequential(
            nn.GroupNorm(groups, width), nn.SiLU(), conv(dims, width, width),
            nn.GroupNorm(groups, width), nn.SiLU(), conv(dims, width, width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return x + cast(Tensor, self.body(x))


class PlainBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))) without normalization, which a gradient penalty on each sample forbids."""

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.ReLU(), conv(dims, width, width), nn.ReLU(), conv(dims, width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return x + cast(Tensor, self.body(x))
