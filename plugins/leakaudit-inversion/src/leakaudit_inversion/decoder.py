"""The decoder: feature maps of one or several levels in, images out; 2D and 3D, small enough for one CPU core."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Decoder"]

_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_DIRECT = 8
"""Channels that the last layer reads at full resolution; each costs as much as four at half of it."""
_WIDEST = 4
"""Blocks grow no wider than this many times the width; coarse ones are cheap, and have more to undo."""


def _conv(dims: int, inside: int, outside: int, *, kernel: int = 3) -> nn.Module:
    return _CONV[dims](inside, outside, kernel, padding=kernel // 2)


class _Residual(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        groups = math.gcd(4, width)
        self.body = nn.Sequential(
            nn.GroupNorm(groups, width), nn.SiLU(), _conv(dims, width, width),
            nn.GroupNorm(groups, width), nn.SiLU(), _conv(dims, width, width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.body(x))


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return x if tuple(x.shape[2:]) == size else F.interpolate(x, size=size, mode="nearest")


class Decoder(nn.Module):
    """Inverts feature maps (He et al., ACSAC 2019, with residual blocks and group normalization).

    The work is done at half the image's resolution and below. From the coarsest level upwards, each stage adds what arrives
    at its resolution, refines it with residual blocks and doubles the resolution; a level at full resolution joins half
    resolution through a strided convolution and the last layer through a 1x1 convolution, which keeps fine detail without
    paying for blocks at full resolution. Group normalization treats every image alone, so that a batch of victims
    tells nothing of one another and 1 image gives the same as 100.

    Args:
        examples: What arrives for some auxiliary images, by level: (n, channels, *spatial). Shapes are read from them,
            and their mean and standard deviation per channel become the fixed standardization of each input.
        shape: Spatial shape of the images.
        outputs: Number of modalities to reconstruct.
        width: Channels of the residual blocks at half the image's resolution; twice as many a level below, up to four times.
        blocks: Residual blocks of each stage.
        prior: Mean image of the adversary's own patients, (outputs, *shape), for `mix`.

    Raises:
        ValueError: A level does not hold feature maps, or is finer than the image.
    """

    def __init__(
        self, examples: Mapping[str, Tensor], shape: tuple[int, ...], outputs: int, *, width: int = 32, blocks: int = 2,
        prior: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        dims = len(shape)
        self.shape, self.levels = shape, tuple(examples)
        factors = [_factor(name, z, shape) for name, z in examples.items()]
        self._stages = [2**i for i in range(round(math.log2(max(2, *factors))), 0, -1)]
        self._at = {s: [i for i, f in enumerate(factors) if max(f, 2) == s] for s in self._stages}
        widths = {s: width * min(s // 2, _WIDEST) for s in self._stages}
        self._full = [i for i, f in enumerate(factors) if f == 1]
        self.stems, self.refine = nn.ModuleDict(), nn.ModuleDict()
        for i, z in enumerate(examples.values()):
            axes = (0, *range(2, z.ndim))
            self.register_buffer(f"mean{i}", z.mean(axes, keepdim=True))
            self.register_buffer(f"scale{i}", z.std(axes, keepdim=True, correction=0).clamp_min(1e-3))
            arriving, joined = z.shape[1], widths[max(factors[i], 2)]
            halving = factors[i] == 1
            self.stems[str(i)] = _CONV[dims](arriving, joined, 2, stride=2) if halving else _conv(dims, arriving, joined)
        for s in self._stages:
            self.refine[str(s)] = nn.Sequential(*(_Residual(dims, widths[s]) for _ in range(blocks)))
        self.up = nn.ModuleDict({str(s): _conv(dims, widths[s], widths[s // 2]) for s in self._stages[:-1]})
        self.fine = _conv(dims, width, _DIRECT * 2**dims, kernel=1)
        direct = sum(examples[self.levels[i]].shape[1] for i in self._full)
        self.direct = _conv(dims, direct, _DIRECT, kernel=1) if direct else None
        self.out = _conv(dims, _DIRECT, outputs)
        self.register_buffer("prior", torch.zeros(outputs, *shape) if prior is None else prior.detach().clone().float())
        self.register_buffer("shares", torch.tensor([1.0, 0.0]))

    def forward(self, levels: Mapping[str, Tensor]) -> Tensor:
        """Return images (n, outputs, *shape) for feature maps by level, each (n, channels, *spatial)."""
        z = [(levels[name] - self.get_buffer(f"mean{i}")) / self.get_buffer(f"scale{i}") for i, name in enumerate(self.levels)]
        x: Tensor | None = None
        for s in self._stages:
            size = tuple(-(-side // s) for side in self.shape)
            if x is not None:
                x = self.up[str(2 * s)](_resized(x, size))
            for i in self._at[s]:
                joined = _resized(self.stems[str(i)](z[i]), size)
                x = joined if x is None else x + joined
            x = self.refine[str(s)](x)
        assert x is not None
        fine = _resized(_shuffled(self.fine(x)), self.shape)
        if self.direct is not None:
            fine = fine + self.direct(torch.cat([_resized(z[i], self.shape) for i in self._full], dim=1))
        decoded = cast(Tensor, self.out(F.silu(fine)))
        own, blind = self.get_buffer("shares")
        return decoded if own == 1 and blind == 0 else own * decoded + blind * self.get_buffer("prior")

    def mix(self, own: float, blind: float) -> None:
        """From now on return `own` times what is decoded plus `blind` times the mean image.

        Where the levels tell next to nothing, a decoder alone returns gray, which is worse than the guess that needs no
        messages, and an attack worse than guessing shows nothing.
        """
        self.get_buffer("shares").copy_(torch.tensor([own, blind]))


def _factor(name: str, z: Tensor, shape: tuple[int, ...]) -> int:
    """Return by which power of two a level is coarser than the image."""
    if z.ndim != len(shape) + 2:
        raise ValueError(
            f"level {name!r} arrives with shape {tuple(z.shape)}; the inverter decodes feature maps of shape "
            f"(samples, channels, {', '.join('side' for _ in shape)})"
        )
    ratio = max(side / got for side, got in zip(shape, z.shape[2:], strict=True))
    if ratio < 0.75:
        raise ValueError(f"level {name!r} with {tuple(z.shape[2:])} voxels is finer than the image with {shape}")
    return int(2 ** max(0, round(math.log2(ratio))))


def _shuffled(x: Tensor) -> Tensor:
    """Return (n, c, 2 * spatial) from (n, c * 2**dims, *spatial): each voxel's channels become a block of voxels."""
    n, channels, *spatial = x.shape
    dims = len(spatial)
    x = x.reshape(n, channels // 2**dims, *(2,) * dims, *spatial)
    order = [0, 1]
    for axis in range(dims):
        order += [2 + dims + axis, 2 + axis]
    return x.permute(order).reshape(n, channels // 2**dims, *(2 * side for side in spatial))
