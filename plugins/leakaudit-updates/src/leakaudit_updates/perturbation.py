"""Gaussian noise on updates, and their norm clipped."""

from __future__ import annotations

import torch
from torch import Tensor

from leakaudit_updates.params import UpdateClippingParams, UpdateNoiseParams
from leakaudit_updates.update import UpdateDefense, flat, magnitude_at

__all__ = ["UpdateClipping", "UpdateNoise"]


class UpdateNoise(UpdateDefense[UpdateNoiseParams]):
    """Adds N(0, s^2) to every entry.

    Relative noise is that of NVFlare's `GaussianPrivacy` (Hatamizadeh et al. 2023, arXiv 2202.06924): s is sigma times a
    percentile of the magnitudes other than 0 of the same update. Nothing bounds how far one patient moves the update, and
    that scale is itself a release, so no epsilon can be stated; `guarantee()` is None for absolute noise too.
    """

    def change(self, update: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the noised update; with sigma 0, or where a relative scale has nothing but zeros, exactly what came."""
        scale = self._scale(update)
        if scale == 0:
            return update
        generator = self.seat.rng("update-noise")
        return {
            name: t + scale * torch.randn(t.shape, generator=generator, device=t.device, dtype=t.dtype)
            for name, t in update.items()
        }

    def _scale(self, update: dict[str, Tensor]) -> float:
        if self.params.scale == "absolute" or self.params.sigma == 0:
            return self.params.sigma
        values = flat(update.values())
        moved = values[values != 0]
        return self.params.sigma * magnitude_at(moved, self.params.percentile / 100).item() if len(moved) else 0.0


class UpdateClipping(UpdateDefense[UpdateClippingParams]):
    """Scales an update down so that its L2 norm, over all its tensors together, is at most `norm`.

    Without noise no guarantee follows (McMahan et al., ICLR 2018, arXiv 1710.06963, add it at the aggregator).
    """

    def change(self, update: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the clipped update; one within the bound is exactly what came."""
        if not update:
            return update
        norms = torch.stack([torch.linalg.vector_norm(t, dtype=torch.float32) for t in update.values()])
        factor = self.params.norm / torch.linalg.vector_norm(norms).clamp(min=self.params.norm)
        return {name: t * factor.to(t.dtype) for name, t in update.items()}
