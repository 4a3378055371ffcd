"""How several observations of a sample become one input, with what was dropped told apart from what is zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Pooling"]

_VISIBLE = 1e-3
"""Least share of entries that are zero in one of two sends and not in the other, for zeros to be taken as dropped entries."""


@dataclass(frozen=True)
class Pooling:
    """Averages observations; where a defense drops entries visibly, over those that were kept.

    Under dropout the mean of k draws mixes values and zeros: its spread falls with k only because zeros are averaged in. The
    mean over the kept draws has no such noise, and together with the share of draws that were kept it loses nothing.

    Attributes:
        masked: Levels at which exact zeros mark what was dropped.
    """

    masked: frozenset[str] = frozenset()

    @staticmethod
    def of(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Pooling:
        """Return the pooling that fits a client, from what it sends twice for the same images."""
        moved = {name: ((first[name] == 0) ^ (second[name] == 0)).float().mean().item() for name in first}
        return Pooling(frozenset(name for name, share in moved.items() if share > _VISIBLE))

    def merge(self, draws: Sequence[Mapping[str, Tensor]], seen: Tensor | None = None) -> dict[str, Tensor]:
        """Return one input by level.

        Args:
            draws: Observations by level, each (n, channels, *spatial).
            seen: (observations, n), which of them there are; default all.

        Returns:
            The means over the observations, (n, channels, *spatial); at masked levels (n, 2 * channels, *spatial), the
            means over what was kept and then the share of observations in which it was kept.
        """
        return {name: self._merged(name, [draw[name] for draw in draws], seen) for name in draws[0]}

    def _merged(self, name: str, draws: Sequence[Tensor], seen: Tensor | None) -> Tensor:
        masked = name in self.masked
        if len(draws) == 1 and not masked:
            return draws[0]
        total, kept = torch.zeros_like(draws[0]), torch.zeros_like(draws[0])
        there = torch.ones(len(draws), len(draws[0]), device=total.device) if seen is None else seen.to(total)
        for draw, row in zip(draws, there, strict=True):
            weight = row.reshape(-1, *[1] * (draw.ndim - 1))
            total += draw * weight
            kept += (draw != 0) * weight if masked else weight
        mean = total / kept.clamp_min(1)
        return torch.cat([mean, kept / len(draws)], dim=1) if masked else mean

    def split(self, name: str, merged: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the means of a level and the share of observations kept, None where nothing is visibly dropped."""
        if name not in self.masked:
            return merged, None
        mean, share = merged.chunk(2, dim=1)
        return mean, share
