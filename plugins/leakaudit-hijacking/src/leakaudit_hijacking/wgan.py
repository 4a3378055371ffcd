"""The losses of the hijack: a Wasserstein critic with gradient penalty between private and public features.

Formulas: Pasquini, Ateniese and Bernaschi (CCS 2021, arXiv 2012.02670) and, for the penalty, Gulrajani et al. (NeurIPS 2017,
arXiv 1704.00028). The critic gives private features high scores and the pilot's low ones; the client is taught to lower its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

__all__ = ["client_loss", "critic_loss", "gradient_penalty"]

_TINY = 1e-12
"""Keeps the derivative of a norm finite where all of a gradient is zero."""


def client_loss(private: Tensor) -> Tensor:
    """Return mean D(f(x)), which the client is made to lower, from scores (n,) of private features."""
    return private.mean()


def critic_loss(private: Tensor, public: Tensor) -> Tensor:
    """Return mean D(pilot(x')) - mean D(f(x)), which the critic lowers, from scores (n,) of either."""
    return public.mean() - private.mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], private: Tensor, public: Tensor, mix: Tensor, norm: Literal["image", "channel"]
) -> Tensor:
    """Return mean (||grad D(mixed)|| - 1)^2 at mixed = mix * private + (1 - mix) * public.

    Args:
        critic: Features (n, channels, *spatial) to scores (n,).
        private: Features of the victim, cut off from its graph.
        public: Features of the pilot, likewise.
        mix: Weights in [0, 1], shape (n,).
        norm: Over which axes the norm runs: `"image"`, all of one sample's, as Gulrajani et al. define it; `"channel"`,
            the spatial ones of each channel alone, as in the published code of FSHA. With C channels the latter asks for
            a whole norm of about the square root of C instead of 1, so that the same weight means a steeper critic.
    """
    weights = mix.reshape(-1, *(1,) * (private.ndim - 1))
    mixed = (weights * private + (1 - weights) * public).requires_grad_()
    (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    axes = tuple(range(1 if norm == "image" else 2, slope.ndim))
    return ((slope.square().sum(axes) + _TINY).sqrt() - 1).square().mean()
