"""Fixed point: updates as integers, whose sums are exact whatever their order."""

from __future__ import annotations

import torch
from torch import Tensor

from leakaudit.errors import UserError

__all__ = ["CAPACITY", "decode", "encode", "scaled"]

CAPACITY = 2**62
"""Bound of the sum of all sites' encoded entries; the masks alone use the whole of int64."""


def scaled(values: Tensor, weight: float, scale_bits: int, clip: float) -> Tensor:
    """Return entries in units of the grid, not yet rounded, differentiably.

    Args:
        values: Of any shape and type. Integers (batch counters) are not clipped.
        weight: By which the site counts in the average.
        scale_bits: Bits after the binary point.
        clip: Bound of the magnitude of floating-point entries.

    Returns:
        The entries, clipped, times weight times 2**scale_bits; float64.
    """
    inside = values.clamp(-clip, clip) if values.is_floating_point() else values
    return inside.double() * (weight * 2.0**scale_bits)


def encode(exact: Tensor, sites: int, generator: torch.Generator, *, upward: bool = False) -> Tensor:
    """Round to integers, each up or down at random such that its expectation is the exact number.

    Args:
        exact: From `scaled`.
        sites: How many add up.
        generator: Where the rounding is drawn.
        upward: Round up instead: a variance must not become negative.

    Returns:
        Of the same shape, int64.

    Raises:
        UserError: A number is so large that the sum of the sites' could wrap around, or is none.
    """
    values = exact.detach()
    if values.numel() and not values.abs().max() < CAPACITY // sites:
        largest = float(values.abs().max())
        raise UserError(
            f"secure-aggregation: an encoded entry of {largest:.3g} does not fit; {sites} sites share {CAPACITY:.3g}, and numbers "
            "must be finite. Lower scale_bits or clip, or find out why the training diverged."
        )
    if upward:
        return values.ceil().long()
    below = values.floor()
    draw = torch.rand(values.shape, generator=generator, device=values.device, dtype=torch.float64)
    return below.long() + (draw < values - below)


def decode(total: Tensor, weight: float, scale_bits: int) -> Tensor:
    """Return the mean behind a sum of encoded entries.

    Args:
        total: int64, of any shape.
        weight: Total weight.
        scale_bits: Bits after the binary point.

    Returns:
        Of the same shape, float64.
    """
    return total.double() / (weight * 2.0**scale_bits)
