"""What the adversary guesses of images without messages: where searches start, and how bright and contrasted images are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from leakaudit.attacks import View
from leakaudit.facts import SeatFacts
from leakaudit_inversion.answers import prior_images
from leakaudit_inversion.prior import Prior
from leakaudit_inversion.setting import image_shape
from leakaudit_inversion.source import Auxiliary
from leakaudit_inversion.span import Track

__all__ = ["Guess"]

_PROBE = 8
_GRAIN = 0.1
"""Standard deviation of the noise on a gray start: of an exactly gray image, instance normalization gives no useful gradient."""
_SPREAD = 0.7
"""Standard deviation of images over all voxels for who owns none: they are z-scored inside the brain, about half of a slice."""


class Guess:
    """What is known of a client's images: auxiliary ones, else only their convention.

    Args:
        view: The adversary's view.
        client: The client.
        track: Its replicas.
        sent: What it sent, by level; only the sizes are looked at, and only where no auxiliary image shows them.
        generator: The adversary's randomness.
    """

    def __init__(self, view: View, client: SeatFacts, track: Track, sent: Mapping[str, Tensor], generator: torch.Generator) -> None:
        self._view, self._client, self._device, self._generator = view, client, view.device, generator
        self.samples: Auxiliary | None = None
        if view.auxiliary is not None:
            own = Auxiliary.of(view.auxiliary, client.modalities)
            self.samples = own.take(torch.arange(len(own)), view.device)
        self.shape = (len(client.modalities), *image_shape(view, client, track.last, sent))
        self._gray = _GRAIN * self._noise(1)[0]

    def _noise(self, count: int) -> Tensor:
        g = self._generator
        return torch.randn(count, *self.shape, generator=g, device=g.device).to(self._device)

    def images(self, tokens: Sequence[str]) -> Tensor:
        """Return the mean auxiliary image at each target's position; grainy gray where the adversary owns none."""
        if self.samples is None:
            return self._gray.expand(len(tokens), *self.shape)
        return torch.from_numpy(prior_images(self._view, self._client, tokens)).to(self._device)

    def prior(self, tv: float, count: int, pull: float) -> Prior:
        """Return the prior for `count` targets, with the weights of the total variation and of brightness and contrast."""
        weights = torch.full((count,), tv, device=self._device)
        if self.samples is None:
            mean = torch.zeros(self.shape[0], device=self._device)
            return Prior(tv=weights, pull=pull, mean=mean, spread=torch.full_like(mean, _SPREAD))
        flat = self.samples.images.flatten(2)
        spread = flat.std(dim=2, correction=0).mean(dim=0).clamp_min(1e-3)
        return Prior(tv=weights, pull=pull, mean=flat.mean(dim=(0, 2)), spread=spread)

    def probe(self) -> Tensor:
        """Return images to find out with how a client sends: auxiliary ones, else white noise."""
        if self.samples is not None:
            return self.samples.images[:_PROBE]
        return self._noise(_PROBE)
