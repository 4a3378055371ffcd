"""Updates with few bits, by stochastic rounding."""

from __future__ import annotations

import torch
from torch import Tensor

from leakaudit_updates.params import UpdateQuantizationParams
from leakaudit_updates.update import UpdateDefense

__all__ = ["UpdateQuantization", "round_randomly"]


def round_randomly(tensor: Tensor, bits: int, generator: torch.Generator) -> Tensor:
    """Round every entry to one of its two neighbors on a grid, such that its expectation is the entry.

    The grid has 2**bits - 1 points, evenly spaced from minus to plus the tensor's largest magnitude, 0 among them. Two bits
    are TernGrad (Wen et al., NeurIPS 2017, arXiv 1705.07878); more are QSGD with the maximum norm (Alistarh et al., NeurIPS
    2017, arXiv 1610.02132). The gradient passes as if nothing were rounded.

    Args:
        tensor: Of any shape.
        bits: At least 2.
        generator: Where the rounding is drawn.
    """
    if not tensor.numel():
        return tensor
    values = tensor.detach()
    largest = values.abs().max()
    step = (largest / (2 ** (bits - 1) - 1)).clamp(min=torch.finfo(values.dtype).tiny)
    place = values / step
    below = place.floor()
    up = torch.rand(values.shape, generator=generator, device=values.device, dtype=values.dtype) < place - below
    # The clamp undoes rounding errors of the division, which would leave the grid by a step.
    rounded = ((below + up) * step).clamp(-largest, largest)
    passed: Tensor = rounded + (tensor - values)
    return passed


class UpdateQuantization(UpdateDefense[UpdateQuantizationParams]):
    """Sends each tensor of an update with few bits and without bias.

    Another defense than leakaudit-cut's `quantization`, which rounds activations, to the nearest value.
    """

    def change(self, update: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the rounded update."""
        generator = self.seat.rng("update-quantization")
        return {name: round_randomly(t, self.params.bits, generator) for name, t in update.items()}
