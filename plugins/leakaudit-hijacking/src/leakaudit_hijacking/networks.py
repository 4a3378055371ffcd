"""What the adversary trains: the pilot that stands in for a client, the decoder, and the critic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leakaudit_hijacking.layers import PlainBlock, ResidualBlock, conv, halvings, resized, transposed

__all__ = ["Critic", "LinearDecoder", "Pilot", "ResidualDecoder", "decoder_for"]

_COARSE = 8
"""A critic halves what it sees until no side is longer than this, then stacks its blocks there."""
_DIRECT = 8
"""Channels that the last layer of a decoder reads at full resolution."""


class Pilot(nn.Module):
    """The encoder whose features the victim is taught to imitate (Pasquini et al., CCS 2021).

    One chain of convolutions gives all levels, each from the one above, as in the victim's encoder.

    Args:
        inputs: Channels of the images.
        shape: Spatial shape of the images.
        levels: Shape (channels, *spatial) of each level, shallowest first.
        kind: `"linear"`: convolutions alone, as published; `"normalized"`: with instance normalization and leaky ReLU, in
            whose range U-Net encoders live.
    """

    def __init__(
        self, inputs: int, shape: tuple[int, ...], levels: Mapping[str, tuple[int, ...]], kind: Literal["linear", "normalized"]
    ) -> None:
        super().__init__()
        self.names = tuple(levels)
        self.sizes = [tuple(size[1:]) for size in levels.values()]
        dims, stages = len(shape), []
        channels, at = inputs, shape
        for size, (wide, *_) in zip(self.sizes, levels.values(), strict=True):
            layers: list[nn.Module] = []
            for i in range(max(1, halvings(at, size))):
                stride = 2 if halvings(at, size) else 1
                layers.append(conv(dims, channels if i == 0 else wide, wide, stride=stride))
                if kind == "normalized":
                    layers += [conv(dims, wide, wide), nn.GroupNorm(wide, wide), nn.LeakyReLU(0.1)]
            stages.append(nn.Sequential(*layers))
            channels, at = wide, size
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return features by level for images (n, inputs, *spatial)."""
        found = {}
        for name, stage, size in zip(self.names, self.stages, self.sizes, strict=True):
            x = found[name] = resized(stage(x), size)
        return found


class LinearDecoder(nn.Module):
    """Transposed convolutions from a level to the image, without activations, as published for FSHA.

    Args:
        channels: Channels of the level, the condition's included.
        size: Spatial shape of the level.
        shape: Spatial shape of the images.
        outputs: Channels of the images.
        width: Channels at the level; half as many after each doubling, at least 8.
    """

    def __init__(self, channels: int, size: tuple[int, ...], shape: tuple[int, ...], outputs: int, width: int) -> None:
        super().__init__()
        dims, self.shape = len(shape), shape
        layers: list[nn.Module] = [conv(dims, channels, width)]
        for _ in range(halvings(shape, size)):
            layers.append(transposed(dims, width, max(8, width // 2)))
            width = max(8, width // 2)
        self.layers = nn.Sequential(*layers, conv(dims, width, outputs))

    def forward(self, z: Tensor) -> Tensor:
        """Return images (n, outputs, *shape) for features (n, channels, *size)."""
        *most, last = self.layers
        for layer in most:
            z = layer(z)
        return cast(Tensor, last(resized(z, self.shape)))


class ResidualDecoder(nn.Module):
    """Residual blocks at half the image's resolution and below; a level at full resolution has a direct way to the end.

    Args:
        channels: Channels of the level, the condition's included.
        size: Spatial shape of the level.
        shape: Spatial shape of the images.
        outputs: Channels of the images.
        width: Channels of the blocks at half resolution; twice as many at a quarter and below.
    """

    def __init__(self, channels: int, size: tuple[int, ...], shape: tuple[int, ...], outputs: int, width: int) -> None:
        super().__init__()
        dims, depth, self.shape = len(shape), halvings(shape, size), shape
        at = width * (2 if depth > 1 else 1)
        self.stem = conv(dims, channels, at, stride=1 if depth else 2)
        self.blocks, self.up = nn.ModuleList([ResidualBlock(dims, at)]), nn.ModuleList()
        for level in range(depth - 1, 0, -1):
            below, at = at, width * (2 if level > 1 else 1)
            self.up.append(conv(dims, below, at))
            self.blocks.append(ResidualBlock(dims, at))
        self.fine = conv(dims, at, _DIRECT)
        self.direct = None if depth else conv(dims, channels, _DIRECT, kernel=1)
        self.out = conv(dims, _DIRECT, outputs)

    def forward(self, z: Tensor) -> Tensor:
        """Return images (n, outputs, *shape) for features (n, channels, *size)."""
        x = self.blocks[0](self.stem(z))
        for up, block in zip(self.up, list(self.blocks)[1:], strict=True):
            x = block(F.interpolate(up(x), scale_factor=2, mode="nearest"))
        fine = resized(self.fine(x), self.shape)
        if self.direct is not None:
            fine = fine + self.direct(z)
        return cast(Tensor, self.out(F.silu(fine)))


def decoder_for(
    kind: Literal["linear", "residual"], level: tuple[int, ...], shape: tuple[int, ...], outputs: int, width: int
) -> nn.Module:
    """Return a decoder from a level (channels, *spatial) to images of spatial shape `shape`."""
    made = LinearDecoder if kind == "linear" else ResidualDecoder
    return made(level[0], tuple(level[1:]), shape, outputs, width)


class Critic(nn.Module):
    """Scores feature maps or images one by one; unnormalized, so that no sample's score depends on another's.

    Args:
        channels: Channels of what it sees, a condition included.
        size: Spatial shape of what it sees.
        width: Channels of its blocks (published: 256).
        blocks: Residual blocks (published: 6).
    """

    def __init__(self, channels: int, size: tuple[int, ...], *, width: int, blocks: int) -> None:
        super().__init__()
        dims, layers = len(size), list[nn.Module]()
        while max(size) > _COARSE:
            layers += [conv(dims, channels, width, stride=2), nn.ReLU()]
            channels, size = width, tuple(-(-side // 2) for side in size)
        layers.append(conv(dims, channels, width))
        layers += [PlainBlock(dims, width) for _ in range(blocks)]
        layers += [conv(dims, width, width, stride=2), nn.ReLU(), nn.Flatten()]
        voxels = torch.Size(-(-side // 2) for side in size).numel()
        self.layers = nn.Sequential(*layers, nn.Linear(width * voxels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (n,) for features (n, channels, *size)."""
        return cast(Tensor, self.layers(x)).squeeze(1)
