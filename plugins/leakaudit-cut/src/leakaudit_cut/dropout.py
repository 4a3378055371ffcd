"""Dropout at the cut (He, Zhang and Lee 2021; Srivastava et al. 2014)."""

from __future__ import annotations

import torch
from torch import Tensor

from leakaudit_cut.cut import CutDefense
from leakaudit_cut.params import DropoutParams

__all__ = ["Dropout"]


class Dropout(CutDefense[DropoutParams]):
    """Sets random entries or channels to zero and scales the rest by 1 / (1 - rate), so that means stay."""

    def change(self, levels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the levels with a fresh mask each; with rate 0 exactly what came."""
        if self.params.rate == 0:
            return levels
        generator = self.seat.rng("dropout")
        return {name: t * self._mask(t, generator) for name, t in levels.items()}

    def _mask(self, level: Tensor, generator: torch.Generator) -> Tensor:
        shape = level.shape if self.params.mode == "element" else (*level.shape[:2], *[1] * (level.dim() - 2))
        kept = torch.rand(shape, generator=generator, device=level.device) >= self.params.rate
        return kept.to(level.dtype) / (1 - self.params.rate)
