"""The experiments of He, Zhang and Lee (ACSAC 2019) by depth, on images that come with the dependencies.

Their MNIST and CIFAR-10 must be downloaded. In their place stand digits that Pillow's font draws, bent and slanted as by hand, and
crops of the color photographs that ship with scikit-image; no tile of a photograph gives both crops that are attacked and
crops that anybody else owns. The networks are theirs in kind: the LeNet as published, and padded as split U-Nets are; the
deeper one at half its width. Attacks are this package's: a client cut at a layer, and images, stand in place of a view.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import skimage
import torch
import torch.nn.functional as F
from leakaudit_inversion.explain import explained, habits_of
from leakaudit_inversion.params import ModelInversionParams, UnsplitParams
from leakaudit_inversion.prior import Prior
from leakaudit_inversion.search import Search
from leakaudit_inversion.source import Auxiliary, Source
from leakaudit_inversion.span import Span
from leakaudit_inversion.training import train_decoders
from leakaudit_inversion.tuning import choose_tv
from leakaudit_inversion.unsplit import alternate
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from leakaudit.wire import Replica

CPU = torch.device("cpu")
TARGETS = 16
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "ihc.png", "motorcycle_left.png")


@dataclass(frozen=True)
class Pictures:
    """Images on [-1, 1], the scale for which the networks were published.

    Attributes:
        learned: What the attacked network learned from.
        labels: Their classes.
        others: As many more of the same kind.
        targets: What is attacked; the network never saw it.
    """

    learned: Tensor
    labels: Tensor
    others: Tensor
    targets: Tensor

    def owned(self, regime: str) -> Tensor:
        """Return what the adversary owns: the `same set`, the `same distribution` or `noise`."""
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(self.learned.shape, generator=generator)
        return {"same set": self.learned, "same distribution": self.others, "noise": noise}[regime]

    @staticmethod
    def of(images: Tensor, labels: Tensor, targets: Tensor) -> Pictures:
        half = len(images) // 2
        return Pictures(images[:half], labels[:half], images[half:], targets)


@cache
def digits(count: int = 1600) -> Pictures:
    """Drawn digits, 28 x 28."""
    rng = np.random.default_rng(0)
    images = np.stack([_digit(i % 10, rng) for i in range(count + TARGETS)]).astype(np.float32)
    x = 2 * torch.from_numpy(images)[:, None] - 1
    return Pictures.of(x[TARGETS:], (torch.arange(count) + TARGETS) % 10, x[:TARGETS])


def _digit(number: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Draw at four times the size, slant, turn and bend, and shrink."""
    big = Image.new("L", (112, 112))
    font = ImageFont.load_default(rng.uniform(84, 104))
    ImageDraw.Draw(big).text((56, 56), str(number), fill=255, font=font, anchor="mm", stroke_width=int(rng.integers(0, 3)))
    turn, slant = rng.uniform(-0.25, 0.25), rng.uniform(-0.3, 0.3)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn) + slant, np.cos(turn)]])
    grid = np.stack(np.mgrid[:112, :112]).reshape(2, -1) - 55.5
    bend = np.stack([ndimage.gaussian_filter(rng.standard_normal((112, 112)), 14) for _ in range(2)]).reshape(2, -1)
    places = matrix @ grid + 55.5 + 3 * bend / bend.std()
    warped = ndimage.map_coordinates(np.asarray(big) / 255, places, order=1).reshape(112, 112)
    return warped.reshape(28, 4, 28, 4).mean(axis=(1, 3))


@cache
def photographs(count: int = 1600) -> Pictures:
    """Crops of photographs, 32 x 32 in color; the label is the photograph."""
    rng = np.random.default_rng(0)
    pictures = [_photograph(name) for name in PHOTOGRAPHS]

    def crops(count: int, parity: int) -> Tensor:
        return torch.stack([_crop(pictures[i % len(pictures)], parity, rng) for i in range(count)])

    return Pictures.of(crops(count, 0), torch.arange(count) % len(pictures), crops(TARGETS, 1))


def _photograph(name: str) -> Tensor:
    pixels = np.asarray(Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB"), dtype=np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)


def _crop(picture: Tensor, parity: int, rng: np.random.Generator, tile: int = 128) -> Tensor:
    """Cut a square of 64 to 128 pixels, with something on it, out of a tile of a checkerboard's color."""
    rows, columns = (side // tile for side in picture.shape[1:])
    cells = [(r, c) for r in range(rows) for c in range(columns) if (r + c) % 2 == parity]
    while True:
        row, column = cells[rng.integers(len(cells))]
        side = int(rng.integers(64, tile + 1))
        top, left = (int(rng.integers(0, tile - side + 1)) for _ in range(2))
        top, left = top + row * tile, left + column * tile
        cut = picture[None, :, top : top + side, left : left + side]
        small = F.interpolate(cut, size=(32, 32), mode="bilinear", antialias=True)[0].clamp(-1, 1)
        if small.std(dim=(1, 2)).mean() > 0.2:
            return small


def lenet(padding: int) -> nn.Sequential:
    """The LeNet of the paper up to ReLU2; published without padding."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=padding), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5, padding=padding), nn.ReLU(),
    )  # fmt: skip


def vgg(width: int = 32) -> nn.Sequential:
    """The network that the paper uses on CIFAR-10 up to ReLU32; published with a width of 64."""
    layers: list[nn.Module] = []
    channels = 3
    for block, wide in enumerate((width, 2 * width, 2 * width)):
        layers += [nn.MaxPool2d(2)] if block else []
        for _ in range(2):
            layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU()]
            channels = wide
    return nn.Sequential(*layers)


NETWORKS: Mapping[str, Callable[[], nn.Sequential]] = {"lenet": lambda: lenet(0), "padded lenet": lambda: lenet(2), "vgg": vgg}
LEVELS: Mapping[str, int] = {"conv1": 1, "ReLU2": 5, "conv11": 1, "ReLU22": 9, "ReLU32": 14}
"""How many layers are before each cut."""


def pictures_for(name: str) -> Pictures:
    return photographs() if name == "vgg" else digits()


@cache
def trained(name: str) -> nn.Sequential:
    """Return the features of a network that has learned to tell the digits, or the photographs, apart."""
    pictures = pictures_for(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        features = NETWORKS[name]()
        network = nn.Sequential(features, nn.MaxPool2d(2), nn.Flatten(), *_head(name))
        network(pictures.learned[:2])
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        for _ in range(150 if name == "vgg" else 200):
            rows = torch.randint(len(pictures.learned), (32,))
            optimizer.zero_grad()
            F.cross_entropy(network(pictures.learned[rows]), pictures.labels[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            right = (network(pictures.learned).argmax(dim=1) == pictures.labels).float().mean()
    print(f"\n{name}: {right:.0%} of its training images right", end="")
    return features.requires_grad_(False).eval()


def _head(name: str) -> list[nn.Module]:
    if name == "vgg":
        return [nn.LazyLinear(512), nn.Sigmoid(), nn.Linear(512, len(PHOTOGRAPHS))]
    return [nn.LazyLinear(120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]


class Cut:
    """A client cut at a layer, in place of the package's `Track` and `Span` of a view."""

    def __init__(self, layers: nn.Sequential, level: str) -> None:
        self.layers, self.level = layers, level

    def last(self, x: Tensor) -> dict[str, Tensor]:
        return {self.level: self.layers(x)}

    def models(self, place: Tensor) -> list[Callable[[Tensor], dict[str, Tensor]]]:
        return [self.last for _ in place]

    def replica(self) -> Replica:
        return Replica(lambda x: self.last(x), module=self.layers)


def cut(name: str, level: str) -> Cut:
    """Return the trained network of that name up to a level."""
    return Cut(trained(name)[: LEVELS[level]], level)


PUBLISHED = Search(iterations=500, learning_rate=2e-2, betas=(0.9, 0.999))
"""The paper's steps for shallow levels, on a scale twice as long; for deep ones it takes 5000 at a tenth of the rate."""
OURS = Search(iterations=200, learning_rate=0.2, smoothing=1.0)
"""The defaults of `likelihood-inversion`."""


def by_likelihood(client: Cut, pictures: Pictures, how: Search, tv: float | None = None, *, gray: bool = False) -> Tensor:
    """Return the targets as `likelihood-inversion` finds them.

    Args:
        client: A `Cut`.
        pictures: What is attacked and owned.
        how: Budget.
        tv: Weight of the total variation; None to choose it on owned images.
        gray: Start at gray, as in the paper, without any pull to the brightness of owned images; else at the mean owned image.
    """
    generator, count = torch.Generator().manual_seed(0), len(pictures.targets)
    samples = Auxiliary(pictures.others, torch.ones_like(pictures.others[:, :1]))
    flat = samples.images.flatten(2)
    prior = Prior(
        tv=torch.zeros(1), pull=0.0 if gray else 1e-2, mean=flat.mean(dim=(0, 2)), spread=flat.std(dim=2, correction=0).mean(dim=0)
    )
    mean = samples.images.mean(dim=0)
    start, level = torch.zeros_like(mean) if gray else mean, client.level
    track: Any = client
    habits = habits_of(track, samples.images[:8])
    if tv is None:
        tv = choose_tv(track, samples, start, prior, {level: (level,)}, 1, how, habits, 64, generator)[level]
    with torch.no_grad():
        sent = client.last(pictures.targets)
    begin, prior = start.expand_as(pictures.targets), dataclasses.replace(prior, tv=torch.full((count,), tv))
    there = torch.ones(1, count)
    return explained(track, [sent], there, 0 * there, (level,), begin, prior, how, habits.noise, 64)


def by_decoder(client: Cut, owned: Tensor, targets: Tensor, iterations: int) -> Tensor:
    """Return the targets as a decoder of `model-inversion` sees them that learned from `owned` images with the published loss."""
    chosen = ModelInversionParams(iterations=iterations, batch_size=16, loss="mse", width=32)
    samples, generator = Auxiliary(owned, torch.ones_like(owned[:, :1])), torch.Generator().manual_seed(0)
    source = Source([Span(client.replica())], samples, randomized=False, device=CPU, generator=generator)
    rows = torch.arange(len(owned))
    (decoder,) = train_decoders(chosen, source, rows[48:], rows[:48], generator).values()
    with torch.no_grad():
        return decoder(client.last(targets))


def by_unsplit(name: str, level: str, pictures: Pictures) -> Tensor:
    """Return the targets as `unsplit` finds them with its default budget, with a clone that starts from other weights."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        goal = cut(name, level).last(pictures.targets)
        torch.manual_seed(1)
        clone = Cut(NETWORKS[name]()[: LEVELS[level]], level)
    return alternate(clone.replica(), goal, torch.zeros_like(pictures.targets), UnsplitParams(), 64)


def scores(guess: Tensor, truth: Tensor) -> tuple[float, float]:
    """Return the mean PSNR in dB and the mean SSIM (uniform window of 7), both of images brought to [0, 1]."""
    a, b = ((x.clamp(-1, 1) + 1) / 2 for x in (guess, truth))
    error = (a - b).square().flatten(1).mean(dim=1).clamp_min(1e-10)
    ssim = [structural_similarity(x, y, data_range=1.0, channel_axis=0) for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    return float((-10 * error.log10()).mean()), float(np.mean(ssim))
