"""What one site can move: its update within an L2 norm, noise on a sum, and what of an update is never released."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["bounded", "counts", "noised", "possible"]

_LOSABLE = 0.999
"""Share of a running variance that one round may take away; all of it could end below 0 by rounding."""


def counts(name: str, tensor: Tensor) -> bool:
    """Return whether a tensor counts something (steps) instead of being learned: integers, and batch counters by their name.

    An average of batch counters is no integer any more, so that their type alone does not tell in later rounds.
    """
    return not tensor.is_floating_point() or name.rpartition(".")[2] == "num_batches_tracked"


def bounded(update: Mapping[str, Tensor], clip: float) -> dict[str, Tensor] | None:
    """Return an update scaled down, differentiably, so that all its tensors together have an L2 norm of at most `clip`.

    The norm is taken in double precision, in which no entries of single precision overflow.

    Args:
        update: Floating-point differences by name, of any shapes.
        clip: The norm.

    Returns:
        The update, as it is where it is within the norm; None where it has entries that are no finite numbers.
    """
    if not update:
        return {}
    norms = torch.stack([torch.linalg.vector_norm(t, dtype=torch.float64) for t in update.values()])
    norm = torch.linalg.vector_norm(norms)
    if not torch.isfinite(norm):
        return None
    factor = clip / norm.clamp(min=clip)
    return {name: t * factor.to(t.dtype) for name, t in update.items()}


def noised(update: Mapping[str, Tensor], scale: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Return an update with N(0, scale^2) added to every entry, tensors in the order of their names."""
    return {
        name: t + scale * torch.randn(t.shape, generator=generator, device=t.device, dtype=t.dtype)
        for name, t in sorted(update.items())
    }


def possible(difference: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a difference that leaves the running variances of batch normalization above 0.

    It uses the model that went round, which everybody has, and the noised difference: no secret enters.
    """
    return {
        name: torch.maximum(t, -_LOSABLE * model[name]) if name.rpartition(".")[2] == "running_var" and name in model else t
        for name, t in difference.items()
    }
