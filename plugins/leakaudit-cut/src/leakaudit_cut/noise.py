"""Gaussian and Laplace noise at the cut (Titcombe et al. 2021, arXiv 2104.05743; He et al., ACSAC 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from leakaudit.defenses import Sends
from leakaudit_cut.cut import CutDefense
from leakaudit_cut.fisher import dfil
from leakaudit_cut.params import GaussianNoiseParams, LaplaceNoiseParams

__all__ = ["GaussianNoise", "LaplaceNoise", "clip_samples", "laplace"]

_FLOOR = 1e-6
"""Least spread that relative noise assumes, so that a constant level is not sent in the clear."""


def clip_samples(levels: dict[str, Tensor], norm: float, order: int = 2) -> dict[str, Tensor]:
    """Scale each sample down so that its norm over all `levels` together is at most `norm`.

    Args:
        levels: Activations, each (n, ...).
        norm: Bound, above 0.
        order: 2 for the Euclidean norm, 1 for the sum of absolute values.
    """
    norms = [torch.linalg.vector_norm(t.flatten(1).float(), ord=order, dim=1) for t in levels.values()]
    factor = norm / torch.linalg.vector_norm(torch.stack(norms), ord=order, dim=0).clamp(min=norm)
    return {name: t * factor.to(t.dtype).reshape(-1, *[1] * (t.dim() - 1)) for name, t in levels.items()}


def _information(
    sends: Sends, x: Tensor, inside: Tensor, *, levels: list[str] | None, clip: float | None, order: int, scale: float,
    generator: torch.Generator,
) -> Tensor | None:  # fmt: skip
    """Return dFIL under noise of a fixed scale on every level; None where some level is sent without noise."""
    if scale == 0 or (levels is not None and not set(sends(x[:1])) <= set(levels)):
        return None

    def encode(images: Tensor) -> Tensor:
        sent = dict(sends(images))
        sent = sent if clip is None else clip_samples(sent, clip, order=order)
        return torch.cat([t.flatten(1) for t in sent.values()], dim=1)

    return dfil(encode, x, scale, generator, inside=inside)


class GaussianNoise(CutDefense[GaussianNoiseParams]):
    """Adds N(0, (sigma s)^2) to every entry: s is the level's spread in this message, or 1 after optional clipping."""

    def change(self, levels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the noised levels; with sigma 0, and without clipping, exactly what came."""
        if self.params.clip is not None and levels:
            levels = clip_samples(levels, self.params.clip)
        if self.params.sigma == 0:
            return levels
        generator = self.seat.rng("noise")
        return {name: self._noised(t, generator) for name, t in levels.items()}

    def information(self, sends: Sends, x: Tensor, inside: Tensor) -> Tensor | None:
        """Return dFIL for an absolute scale; one that follows the message's own spread has no such closed form."""
        if self.params.scale == "relative":
            return None
        return _information(
            sends, x, inside, levels=self.params.levels, clip=self.params.clip, order=2, scale=self.params.sigma,
            generator=self.seat.rng("probes"),
        )  # fmt: skip

    def _noised(self, level: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(level.shape, generator=generator, device=level.device, dtype=level.dtype)
        if self.params.scale == "absolute":
            return level + self.params.sigma * noise
        # Detached: otherwise the client could learn to shrink the noise instead of learning the task.
        spread = level.detach().std(correction=0).clamp(min=_FLOOR)
        return level + self.params.sigma * spread * noise


def laplace(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return Laplace noise of scale 1 in the shape of `like`: the difference of two exponential draws."""
    # Not drawn in place, which many shadow models at once (torch.func.vmap) do not allow; 1 - rand is never 0.
    draws = -torch.log1p(-torch.rand((2, *like.shape), generator=generator, device=like.device, dtype=torch.float32))
    return (draws[0] - draws[1]).to(like.dtype)


class LaplaceNoise(CutDefense[LaplaceNoiseParams]):
    """Adds Laplace noise of scale b to every entry, after optional clipping of each sample's L1 norm."""

    def change(self, levels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the noised levels; with scale 0, and without clipping, exactly what came."""
        if self.params.clip is not None and levels:
            levels = clip_samples(levels, self.params.clip, order=1)
        if self.params.scale == 0:
            return levels
        generator = self.seat.rng("laplace")
        return {name: t + self.params.scale * laplace(t, generator) for name, t in levels.items()}

    def information(self, sends: Sends, x: Tensor, inside: Tensor) -> Tensor | None:
        """Return dFIL: Laplace noise of scale b has a Fisher information of 1 / b^2 for each entry."""
        return _information(
            sends, x, inside, levels=self.params.levels, clip=self.params.clip, order=1, scale=self.params.scale,
            generator=self.seat.rng("probes"),
        )  # fmt: skip
