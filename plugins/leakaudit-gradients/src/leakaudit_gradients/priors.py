"""What is held of images before any update is seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from leakaudit_gradients.method import Method

__all__ = ["Prior", "Span", "invariants", "penalty", "span_of", "total_variation"]

_SMOOTH = 1e-6
"""Added under the root of the total variation, whose gradient does not exist where an image is flat."""


class Prior(Protocol):
    """A penalty of images."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the penalty of images (n, modalities, *spatial), a scalar."""


def total_variation(x: Tensor) -> Tensor:
    """Return the isotropic total variation of images (n, modalities, *spatial) as a mean over all voxels (Rudin et al. 1992)."""
    square = torch.zeros_like(x)
    for axis in range(2, x.ndim):
        step = x.diff(dim=axis).square()
        # Padding instead of in-place addition: it goes through vmap and higher derivatives.
        pad = [0, 0] * (x.ndim - 1 - axis) + [0, 1]
        square = square + torch.nn.functional.pad(step, pad)
    return (square + _SMOOTH).sqrt().mean()


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Principal components of auxiliary images: a linear model of what an image can be.

    Attributes:
        mean: (d,), the mean image.
        axes: (k, d), orthonormal directions.
        spread: (k,), standard deviation of auxiliary images along each.
    """

    mean: Tensor
    axes: Tensor
    spread: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return the squared distance of images to the span plus their Mahalanobis distance within it, a mean over voxels."""
        flat = x.flatten(1) - self.mean
        inside = flat @ self.axes.T
        outside = flat - inside @ self.axes
        return (outside.square().sum() + (inside / self.spread).square().sum() * self.spread.square().mean()) / x.numel()


def span_of(images: Tensor, most: int = 64) -> Span:
    """Return the principal components of images (n, modalities, *spatial), at most `most` of them."""
    flat = images.flatten(1)
    mean = flat.mean(dim=0)
    _, values, axes = torch.linalg.svd(flat - mean, full_matrices=False)
    count = min(most, max(len(flat) - 1, 1))
    spread = (values[:count] / max(len(flat) - 1, 1) ** 0.5).clamp_min(1e-3 * float(values[0]) + 1e-6)
    return Span(mean=mean, axes=axes[:count], spread=spread)


def penalty(x: Tensor, method: Method, priors: Mapping[str, Prior]) -> Tensor:
    """Return the weighted priors of a target's images (n, modalities, *spatial), a scalar.

    Args:
        x: The images.
        method: The weights.
        priors: What auxiliary images taught, by the name of its weight in `method`.
    """
    total = x.new_zeros(())
    if method.tv:
        total = total + method.tv * total_variation(x)
    if method.l2:
        total = total + method.l2 * x.square().mean()
    for name, prior in priors.items():
        weight = getattr(method, name)
        if weight:
            total = total + weight * prior(x)
    return total


def invariants(samples: Tensor, passes: int) -> Tensor:
    """Return how much passes over the same data differ in what does not depend on the order of samples, a scalar.

    The invariants are the mean and the mean square over the samples at every voxel (Dimitrov et al. 2022 use several such
    functions). Zero if every pass holds the same samples in whatever order.

    Args:
        samples: (passes * n, channels, *spatial), pass by pass.
        passes: Number of passes.
    """
    grouped = samples.unflatten(0, (passes, -1))
    moments = torch.stack([grouped.mean(dim=1), grouped.square().mean(dim=1)])
    return (moments - moments.mean(dim=1, keepdim=True)).square().mean()
