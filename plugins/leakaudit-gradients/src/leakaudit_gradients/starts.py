"""Where searches start, and what auxiliary patients tell about images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from leakaudit.cohorts import Cohort, regions
from leakaudit_gradients.autoencoder import residual_of
from leakaudit_gradients.matching import Guess
from leakaudit_gradients.method import Method
from leakaudit_gradients.priors import Prior, span_of

__all__ = ["Known", "starts"]

_GRAIN = 0.1
"""Standard deviation of the grain by which samples of one update differ at the start: equal ones would stay equal forever."""
_SHARE = 0.1
"""Share of a region where masks are not known, and no patient shows how large it is."""
_LIMIT = 5.0
"""Largest z-score of a box, where no patient shows how bright images are."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the adversary knows of images.

    Attributes:
        shape: (modalities, *spatial) of an image.
        regions: Number of regions of a mask.
        mean: The mean image, `shape`; zeros where nothing is known.
        masks: The mean mask, (regions, *spatial).
        bounds: Least and largest value by modality, both (modalities,).
        images: Auxiliary images (n, *shape), or None.
    """

    shape: tuple[int, ...]
    regions: int
    mean: Tensor
    masks: Tensor
    bounds: tuple[Tensor, Tensor]
    images: Tensor | None

    @staticmethod
    def of(cohort: Cohort, *, noise: bool, device: torch.device) -> Known:
        """Return what a cohort tells; only sizes where its images are `noise`."""
        masks = torch.from_numpy(regions(cohort.labels)).to(device)
        images = torch.from_numpy(cohort.images.copy()).float().to(device)
        shape, count = tuple(images.shape[1:]), masks.shape[1]
        if noise:
            limit = torch.full((shape[0],), _LIMIT, device=device)
            return Known(
                shape=shape, regions=count, mean=torch.zeros(shape, device=device), bounds=(-limit, limit), images=None,
                masks=torch.full((count, *shape[1:]), _SHARE, device=device),
            )  # fmt: skip
        flat = images.transpose(0, 1).flatten(1)
        return Known(
            shape=shape, regions=count, mean=images.mean(dim=0), masks=masks.mean(dim=0), images=images,
            bounds=(flat.amin(dim=1), flat.amax(dim=1)),
        )  # fmt: skip

    def priors(self, method: Method, generator: torch.Generator) -> dict[str, Prior]:
        """Return what auxiliary images teach of images, by the name of its weight: what has one; nothing where there are no images.

        Args:
            method: The weights.
            generator: Source of the randomness by which the autoencoder is trained.
        """
        priors: dict[str, Prior] = {}
        if self.images is not None and method.pca:
            priors["pca"] = span_of(self.images)
        if self.images is not None and method.autoencoder:
            priors["autoencoder"] = residual_of(self.images, generator)
        return priors


def starts(known: Known, method: Method, targets: int, samples: int, restarts: int, generator: torch.Generator) -> list[Guess]:
    """Return one start about all targets per restart; the same ones for every target.

    Args:
        known: What is known of images.
        method: Says where images start.
        targets: Number of targets.
        samples: Images of each target.
        restarts: Number of starts.
        generator: Source of randomness.
    """
    found = []
    for _ in range(restarts):
        images = _images(known, method, samples, plain=samples == restarts == 1, generator=generator)
        masks = known.masks.expand(samples, *known.masks.shape)
        found.append(Guess(images=_each(images, targets), masks=_each(masks, targets)))
    return found


def _each(samples: Tensor, targets: int) -> Tensor:
    return samples.expand(targets, *samples.shape).clone()


def _images(known: Known, method: Method, samples: int, *, plain: bool, generator: torch.Generator) -> Tensor:
    noise = torch.randn((samples, *known.shape), generator=generator, device=known.mean.device)
    match method.start:
        case "noise":
            return noise
        case "pattern":
            return _pattern(noise)
        case "mean":
            base = known.mean
        case _:
            base = torch.zeros_like(known.mean)
    return base.expand(noise.shape) if plain else base + _GRAIN * noise


def _pattern(noise: Tensor, side: int = 4) -> Tensor:
    """Return the first corner of noise (n, modalities, *spatial), repeated along every axis."""
    for axis in range(2, noise.ndim):
        place = torch.arange(noise.shape[axis], device=noise.device) % side
        noise = noise.index_select(axis, place)
    return noise
