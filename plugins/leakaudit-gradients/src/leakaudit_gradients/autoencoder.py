"""A denoising autoencoder of auxiliary images, whose error says how unlike them an image is.

A denoiser r that is trained on images with Gaussian noise of spread s approximates r(x) = x + s^2 grad log p_s(x), where p_s is the
density of noisy images (Alain and Bengio 2014, for the denoising autoencoders of Vincent et al. 2008). |x - r(x)|^2 is thus the
squared slope of log p_s, small at its peaks: at images that are common. Bigdeli and Zwicker 2017 (arXiv 1703.09964) restore images
with it as their prior.

Noise alone gives a prior that likes what is flat: a blurred image or a gray one has no noise to be taken out, and costs less than a
true one. A search that lacks details is such an image. So a third of the images are blurred and a third mixed with the mean image,
where searches start, and the autoencoder learns to bring back what was lost. The gray image and the mean itself stay cheap: in them
the network sees no trace of what is missing (VALIDATION.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Autoencoder", "Residual", "residual_of"]

_WIDTHS = (8, 16, 32)
"""Channels at full, half and a quarter of the resolution."""
_STEPS, _RATE = 300, 5e-3
_BATCH, _VOXELS = 16, 2**14
"""Most images of a batch, and most voxels where images are large: a convolution learns from voxels, not from images."""
_NOISE = 0.75
"""Largest noise, in spreads of the modality."""
_BLUR = (0.5, 2.0)
"""Standard deviation of blurs, in voxels."""
_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}


class Autoencoder(nn.Module):
    """A small convolutional network with skips that adds a correction to its input; slices and volumes of any size.

    Smooth and without normalization: every image is treated by itself, and its error can be differentiated and mapped.

    Args:
        scale: (modalities,), the standard deviation of images, in which the network works.
        dims: Spatial axes, 2 or 3.
    """

    def __init__(self, scale: Tensor, dims: int) -> None:
        super().__init__()
        conv, pairs = _CONV[dims], list(pairwise(_WIDTHS))
        self.first = conv(len(scale), _WIDTHS[0], 3, padding=1)
        self.down = nn.ModuleList(conv(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairs)
        self.middle = conv(_WIDTHS[-1], _WIDTHS[-1], 3, padding=1)
        self.up = nn.ModuleList(conv(coarse, fine, 3, padding=1) for fine, coarse in reversed(pairs))
        self.last = conv(_WIDTHS[0], len(scale), 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.zeros_(self.last.weight)
        self.register_buffer("scale", scale.reshape(-1, *[1] * dims))

    def forward(self, x: Tensor) -> Tensor:
        """Return images as they would be without corruption, (n, modalities, *spatial) like `x`."""
        scale = self.get_buffer("scale")
        z, finer = F.silu(self.first(x / scale)), []
        for layer in self.down:
            finer.append(z)
            z = F.silu(layer(z))
        z = z + F.silu(self.middle(z))
        for layer in self.up:
            skip = finer.pop()
            z = skip + F.silu(layer(F.interpolate(z, size=skip.shape[2:], mode="nearest")))
        corrected: Tensor = x + scale * self.last(z)
        return corrected


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """The error of an autoencoder as a penalty of images (Bigdeli and Zwicker 2017).

    Attributes:
        autoencoder: Trained, its weights fixed.
    """

    autoencoder: Autoencoder

    def __call__(self, x: Tensor) -> Tensor:
        """Return the squared distance of images (n, modalities, *spatial) to what is made of them, a mean over voxels."""
        difference: Tensor = x - self.autoencoder(x)
        return difference.square().mean()


def residual_of(images: Tensor, generator: torch.Generator, *, flattened: float = 2 / 3) -> Residual:
    """Return the error of an autoencoder trained on images, by 300 steps of Adam.

    A step sees at most 16 images and about 16,000 voxels, at least one image: seconds on one core for slices of 32x32.

    Args:
        images: (n, modalities, *spatial), float, n at least 1.
        generator: Source of randomness, on the device of `images`. Torch's global generators stay as they are.
        flattened: Share of the images that are blurred or mixed with the mean image, half each, before there is noise.
    """
    axes = (0, *range(2, images.ndim))
    # A modality without any contrast has no spread to divide by.
    scale = images.std(dim=axes, correction=0).clamp_min(1e-3)
    device = images.device
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        autoencoder = Autoencoder(scale, images.ndim - 2).to(device)
    with torch.enable_grad(), torch.autocast(device.type, enabled=False):
        _train(autoencoder, images, generator, flattened)
    return Residual(autoencoder=autoencoder.eval().requires_grad_(False))


def _train(autoencoder: Autoencoder, images: Tensor, generator: torch.Generator, flattened: float) -> None:
    batch = max(1, min(_BATCH, _VOXELS // images[0, 0].numel()))
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=_RATE)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_STEPS)
    mean, scale = images.mean(dim=0), autoencoder.get_buffer("scale")
    for _ in range(_STEPS):
        truth = images[torch.randint(len(images), (batch,), generator=generator, device=images.device)]
        seen = _noised(_flattened(truth, mean, flattened, generator), scale, generator)
        optimizer.zero_grad()
        error = (autoencoder(seen) - truth) / scale
        error.square().mean().backward()
        optimizer.step()
        cycle.step()


def _flattened(x: Tensor, mean: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Return images (n, modalities, *spatial), about a `share` of them blurred or mixed with the mean image."""
    kind, part = _uniform(x, generator), _uniform(x, generator)
    low, high = _BLUR
    blurred = _blurred(x, low + (high - low) * _uniform(x, generator))
    return torch.where(kind < share / 2, part * mean + (1 - part) * x, torch.where(kind < share, blurred, x))


def _noised(x: Tensor, scale: Tensor, generator: torch.Generator) -> Tensor:
    """Return images (n, modalities, *spatial), about half of them with noise, each as strong as chance has it."""
    strength = _NOISE * scale * _uniform(x, generator) * (_uniform(x, generator) < 1 / 2)
    return x + strength * torch.randn(x.shape, generator=generator, device=x.device)


def _uniform(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return a number in [0, 1) for each image, ready to broadcast."""
    return torch.rand((len(x), *[1] * (x.ndim - 1)), generator=generator, device=x.device)


def _blurred(x: Tensor, width: Tensor) -> Tensor:
    """Return images (n, modalities, *spatial) blurred by Gaussians of standard deviation `width` (n, 1, *1s), in voxels."""
    axes = tuple(range(2, x.ndim))
    square = torch.zeros((), device=x.device)
    for axis in axes:
        shape = [-1 if i == axis else 1 for i in range(x.ndim)]
        square = square + torch.fft.fftfreq(x.shape[axis], device=x.device).reshape(shape).square()
    passed = torch.exp(-2 * (torch.pi * width).square() * square)
    blurred: Tensor = torch.fft.ifftn(torch.fft.fftn(x, dim=axes) * passed, dim=axes).real
    return blurred
