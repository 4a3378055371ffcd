"""Gradient canaries: units that are nothing but a gradient, by which an audit sees how well noise hides one unit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["GradientCanary", "add_canaries", "canary_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientCanary:
    """A unit whose gradient is one number at one place and zero elsewhere: the Dirac canary.

    Nasr et al. (USENIX Security 2023, arXiv 2302.07956) and Steinke, Nasr and Jagielski (NeurIPS 2023, arXiv 2305.08846). Whether
    it was in a batch can be read off one weight, which no other unit's gradient need touch much: the worst case that a
    guarantee speaks of, and cheap to keep.

    Attributes:
        parameter: Name of the parameter, as the task's network has it.
        index: Place in the flattened parameter.
        value: Its gradient there; its absolute value is the gradient's norm, which a clipping defense cuts down.
    """

    parameter: str
    index: int
    value: float

    def check(self, network: nn.Module) -> None:
        """Check that a network has the place.

        Raises:
            ValueError: It has not, or the value is no number to train on.
        """
        parameters = dict(network.named_parameters())
        if self.parameter not in parameters:
            raise ValueError(f"a gradient canary names the parameter {self.parameter!r}, which the network does not have")
        size = parameters[self.parameter].numel()
        if not 0 <= self.index < size:
            raise ValueError(f"a gradient canary names entry {self.index} of {self.parameter!r}, which has {size}")
        if not math.isfinite(self.value) or self.value == 0:
            raise ValueError(f"a gradient canary has the value {self.value}; expected a finite number other than 0")


def canary_rows(canaries: Iterable[GradientCanary], module: nn.Module) -> list[dict[str, Tensor]]:
    """Return the gradients of canaries, one row each, by the parameter that has one; other parameters' are zero.

    Args:
        canaries: Those of one batch.
        module: The module in training; wrappers may have prefixed its names.
    """
    named = _named(module)
    rows = []
    for canary in canaries:
        row = torch.zeros_like(named[canary.parameter])
        row.view(-1)[canary.index] = canary.value
        rows.append({canary.parameter: row})
    return rows


def add_canaries(canaries: Iterable[GradientCanary], module: nn.Module, share: float) -> None:
    """Add canaries to the gradients of a module, as rows of a batch whose loss is a mean.

    Args:
        canaries: Those of the batch.
        module: The module, after its backward pass.
        share: Weight of one row in the batch, 1 / its expected number of rows.
    """
    named = _named(module)
    for canary in canaries:
        parameter = named[canary.parameter]
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad.view(-1)[canary.index] += share * canary.value


def _named(module: nn.Module) -> Mapping[str, nn.Parameter]:
    return {name.removeprefix("_module."): p for name, p in module.named_parameters()}
