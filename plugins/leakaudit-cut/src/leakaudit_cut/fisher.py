"""Diagonal Fisher information leakage: how well an unbiased attacker can do against noise at the cut.

Maeng et al., NeurIPS 2023: with noise of Fisher information 1/s^2 for each entry (Gaussian of standard deviation s, or Laplace
of scale s) on z = f(x), I = J^T J / s^2 and dFIL = Tr(I) / d. Any unbiased estimate of x from z has a mean squared error of at
least 1 / dFIL for each voxel (Cramer-Rao and Jensen). An attacker with a prior is biased and may do better: the bound says what
the messages alone carry, not what an attacker with images of other patients can guess.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["dfil", "jacobian_trace", "mse_bound"]


def jacobian_trace(
    encode: Callable[[Tensor], Tensor], x: Tensor, generator: torch.Generator, *, probes: int = 8, inside: Tensor | None = None
) -> Tensor:
    """Estimate Tr(J^T J) = sum of squared singular values of each sample's Jacobian by Hutchinson's method.

    Args:
        encode: Maps images (n, ...) to flat activations (n, m), each sample by itself, differentiably and without noise.
        x: Images.
        generator: Randomness of the probes.
        probes: Random sign vectors averaged; the error falls with their root.
        inside: Which entries of x are traced over, of its shape; all by default.

    Returns:
        Shape (n,).
    """
    x = x.detach().requires_grad_()
    z = encode(x)
    total = torch.zeros(len(x), device=x.device)
    for _ in range(probes):
        signs = torch.randint(0, 2, z.shape, generator=generator, device=z.device, dtype=torch.int8).to(z.dtype) * 2 - 1
        (pulled,) = torch.autograd.grad(z, x, signs, retain_graph=True)
        total += (pulled if inside is None else pulled * inside).flatten(1).square().sum(dim=1)
    return total / probes


def dfil(
    encode: Callable[[Tensor], Tensor], x: Tensor, scale: float, generator: torch.Generator, *, probes: int = 8,
    inside: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Return each sample's dFIL, in 1 / (image units)^2, for noise of scale `scale`; arguments as in `jacobian_trace`."""
    counted = torch.full((len(x),), x[0].numel()) if inside is None else inside.flatten(1).sum(dim=1)
    return jacobian_trace(encode, x, generator, probes=probes, inside=inside) / scale**2 / counted.to(x.device).clamp(min=1)


def mse_bound(leakage: Tensor) -> Tensor:
    """Return the least mean squared error of an unbiased attacker, 1 / dFIL; infinite where nothing is sent."""
    return 1 / leakage
