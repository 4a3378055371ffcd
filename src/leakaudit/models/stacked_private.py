"""Steps of DP-SGD for stacked models: gradients clipped by unit, and noise added to their sum (Abadi et al. 2016, 1607.00133)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Batch", "PrivatePart", "noised"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivatePart:
    """Parameters that take noised steps, clipped as one vector.

    Attributes:
        prefix: What their names begin with; empty for the whole network.
        clip: L2 norm to which each unit's gradient is clipped.
        noise: Standard deviation of the noise over the clip norm.
    """

    prefix: str
    clip: float
    noise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch of every model.

    Attributes:
        rows: Rows of each model's batch, shape (models, batch), padded to one length.
        real: What of them is real, of the same shape.
        units: The unit behind each row, counted from 0 in every batch, of the same shape.
        steps: Which models take a step, shape (models,).
    """

    rows: Tensor
    real: Tensor
    units: Tensor
    steps: Tensor = field(repr=False)

    @staticmethod
    def of(rows: Sequence[Sequence[int] | None], units: Sequence[int] | None, device: torch.device) -> Batch:
        """Return the batch of some models.

        Args:
            rows: Rows of each model's batch; None for a model that takes no step.
            units: Index of the unit behind every row of the data; default every row is its own.
            device: Where it is computed with.
        """
        longest = max([len(r) for r in rows if r is not None] + [1])
        index = torch.zeros(len(rows), longest, dtype=torch.long)
        real, slots = torch.zeros(len(rows), longest, dtype=torch.bool), torch.zeros(len(rows), longest, dtype=torch.long)
        for m, taken in enumerate(rows):
            if taken:
                index[m, : len(taken)] = torch.tensor(taken)
                real[m, : len(taken)] = True
                names = taken if units is None else [units[row] for row in taken]
                slot = {name: i for i, name in enumerate(dict.fromkeys(names))}
                # A row that is drawn twice in one batch counts twice where every row is its own unit.
                slots[m, : len(taken)] = torch.tensor([i if units is None else slot[name] for i, name in enumerate(names)])
        steps = torch.tensor([taken is not None for taken in rows])
        return Batch(**{k: t.to(device) for k, t in {"rows": index, "real": real, "units": slots, "steps": steps}.items()})


def noised(
    part: PrivatePart, each: dict[str, Tensor], batch: Batch, expected: Tensor, sources: Sequence[torch.Generator]
) -> dict[str, Tensor]:
    """Return clipped sums over units with noise, over the expected number of units.

    Args:
        part: The parameters' part.
        each: Gradients of every row, shape (models, batch, *parameter).
        batch: Which rows are real, and the unit behind each.
        expected: Expected number of units in a batch of each model.
        sources: Each model's source of noise, on the CPU.
    """
    models, longest = batch.real.shape
    place = (batch.units + longest * torch.arange(models, device=batch.units.device).unsqueeze(1)).flatten()
    sums = {}
    for name, g in each.items():
        rows = g.where(batch.real.reshape(models, longest, *[1] * (g.dim() - 2)), 0).flatten(0, 1)
        # Added row by row: a matrix of zeros and ones would spread one row's infinity over all units.
        sums[name] = torch.zeros_like(rows).index_add_(0, place, rows).unflatten(0, (models, longest))
    norms = torch.stack([g.reshape(models, longest, -1).norm(dim=2) for g in sums.values()]).norm(dim=0)
    factor = (part.clip / (norms + 1e-6)).clamp(max=1.0)
    finite = torch.isfinite(norms)
    sums = {k: g.where(finite.reshape(models, longest, *[1] * (g.dim() - 2)), 0) for k, g in sums.items()}
    factor = factor.where(finite, 0)
    found = {}
    for name, g in sums.items():
        clipped = torch.einsum("mu,mu...->m...", factor, g)
        total = clipped + part.noise * part.clip * _drawn(clipped, batch.steps, sources)
        found[name] = total / expected.reshape(-1, *[1] * (total.dim() - 1))
    return found


def _drawn(like: Tensor, steps: Tensor, sources: Sequence[torch.Generator]) -> Tensor:
    """Return standard normal noise, each model's from its own stream and only where it takes a step."""
    drawn = [
        torch.randn(like.shape[1:], generator=source) if taken else torch.zeros(like.shape[1:])
        for source, taken in zip(sources, steps.tolist(), strict=True)
    ]
    return torch.stack(drawn).to(like)
