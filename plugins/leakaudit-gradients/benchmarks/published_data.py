"""Images and classifiers for `published.py`: what stands in for CIFAR-10, FEMNIST and ImageNet, which no dependency brings along.

Crops of five color photographs that ship with scikit-image take the place of CIFAR-10's images, digits that Pillow's font draws
that of FEMNIST's characters. Networks are of the published kinds, narrower where a processor must do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import skimage
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

__all__ = ["CLASSES", "PHOTOGRAPHS", "Scale", "convnet", "digits", "digit_net", "lenet", "photographs", "trained", "wide"]

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "ihc.png", "motorcycle_left.png")
CLASSES = 10
"""Outputs of every classifier, as for CIFAR-10; of photographs five are used."""
_TILE = 128


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Mean and deviation of images on [0, 1] by channel, both (channels,): networks see z-scores."""

    mean: Tensor
    deviation: Tensor

    @staticmethod
    def of(images: Tensor) -> Scale:
        """Return the scale of images (n, channels, H, W)."""
        flat = images.transpose(0, 1).flatten(1)
        return Scale(mean=flat.mean(dim=1), deviation=flat.std(dim=1))

    def forward(self, images: Tensor) -> Tensor:
        """Return z-scores of images on [0, 1]; channels are third from the end."""
        return (images - self.mean[:, None, None]) / self.deviation[:, None, None]

    def back(self, images: Tensor) -> Tensor:
        """Return images on [0, 1] of z-scores."""
        return (images * self.deviation[:, None, None] + self.mean[:, None, None]).clamp(0, 1)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the z-scores of black and of white, both (channels,)."""
        return -self.mean / self.deviation, (1 - self.mean) / self.deviation


@cache
def photographs(count: int, seed: int, *, attacked: bool, side: int = 32) -> tuple[Tensor, Tensor]:
    """Return crops (count, 3, side, side) on [0, 1] and the photograph of each, (count,).

    Attacked crops come from other tiles of the photographs than those that anybody trains with.

    Args:
        count: Crops, from the photographs in turn.
        seed: Of the places.
        attacked: Which half of a checkerboard of tiles.
        side: Pixels along each side.
    """
    rng = np.random.default_rng(seed)
    labels = torch.arange(count) % len(PHOTOGRAPHS)
    return torch.stack([_crop(_photograph(PHOTOGRAPHS[i]), attacked, rng, side) for i in labels.tolist()]), labels


@cache
def _photograph(name: str) -> Tensor:
    pixels = np.asarray(Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB"), dtype=np.float32)
    return torch.from_numpy(pixels / 255).permute(2, 0, 1)


def _crop(picture: Tensor, attacked: bool, rng: np.random.Generator, side: int) -> Tensor:
    """Cut a square of 64 to 128 pixels with something on it out of a tile of a checkerboard's color, and shrink it."""
    rows, columns = (length // _TILE for length in picture.shape[1:])
    cells = [(r, c) for r in range(rows) for c in range(columns) if (r + c) % 2 == attacked]
    while True:
        row, column = cells[rng.integers(len(cells))]
        width = int(rng.integers(64, _TILE + 1))
        top, left = (int(start * _TILE + rng.integers(0, _TILE - width + 1)) for start in (row, column))
        small = F.interpolate(picture[None, :, top : top + width, left : left + width], size=(side, side), mode="area")[0]
        if small.std(dim=(1, 2)).mean() > 0.1:
            return small


@cache
def digits(count: int, seed: int, side: int = 12) -> tuple[Tensor, Tensor]:
    """Return drawn digits (count, 1, side, side) on [0, 1], turned and moved, and the number of each, (count,)."""
    rng = np.random.default_rng(seed)
    labels = torch.arange(count) % 10
    images = []
    for number in labels.tolist():
        big = Image.new("L", (4 * side, 4 * side))
        font, place = ImageFont.load_default(rng.uniform(3, 3.8) * side), tuple(2 * side + rng.uniform(-4, 4, 2))
        ImageDraw.Draw(big).text(place, str(number), fill=255, font=font, anchor="mm", stroke_width=int(rng.integers(0, 3)))
        turned = np.asarray(big.rotate(rng.uniform(-20, 20), resample=Image.Resampling.BILINEAR), dtype=np.float32) / 255
        images.append(turned.reshape(side, 4, side, 4).mean(axis=(1, 3)))
    return torch.from_numpy(np.stack(images))[:, None], labels


def lenet(activation: Callable[[], nn.Module] = nn.Sigmoid) -> nn.Sequential:
    """Return the LeNet of DLG and iDLG, with PyTorch's own weights; published with sigmoids and `wide` weights."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 5, padding=2, stride=2), activation(), nn.Conv2d(12, 12, 5, padding=2, stride=2), activation(),
        nn.Conv2d(12, 12, 5, padding=2), activation(), nn.Flatten(), nn.Linear(768, CLASSES),
    )  # fmt: skip


def wide(network: nn.Sequential) -> nn.Sequential:
    """Draw all weights anew from -0.5 to 0.5, uniformly, as DLG and iDLG do, and return the network."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.5, 0.5)
    return network


def convnet(width: int = 8) -> nn.Sequential:
    """Return the ConvNet of Inverting Gradients (published width 64), for inputs of 32 x 32, with PyTorch's own weights.

    The published one has batch normalization, which is attacked with its running statistics: where nothing was learned that is
    the identity, so it is left out.

    Args:
        width: Channels of the first convolution.
    """
    layers: list[nn.Module] = []
    channels = 3
    for number, times in enumerate((1, 2, 2, 4, 4, 4, 4, 4)):
        layers += [nn.Conv2d(channels, times * width, 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(3)] if number in (5, 7) else []
        channels = times * width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(36 * width, CLASSES))


def digit_net(width: int = 24) -> nn.Sequential:
    """Return a small smooth network for digits of 12 x 12, with PyTorch's own weights."""
    return nn.Sequential(
        nn.Conv2d(1, width, 5, padding=2, stride=2), nn.Sigmoid(), nn.Conv2d(width, width, 5, padding=2, stride=2), nn.Sigmoid(),
        nn.Flatten(), nn.Linear(9 * width, CLASSES),
    )  # fmt: skip


def trained(network: nn.Sequential, steps: int, scale: Scale) -> float:
    """Train a network to tell the photographs apart, by Adam with batches of 32 of 800 crops; return its accuracy on others."""
    x, labels = photographs(1000, 1, attacked=False)
    x = scale.forward(x)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(steps):
        rows = torch.randint(800, (32,))
        optimizer.zero_grad()
        F.cross_entropy(network(x[rows]), labels[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        return float((network(x[800:]).argmax(dim=1) == labels[800:]).float().mean())
