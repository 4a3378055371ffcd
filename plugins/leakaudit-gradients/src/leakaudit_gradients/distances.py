"""How far a simulated update is from the observed one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from leakaudit_gradients.method import Objective

__all__ = ["distance"]

_NOTHING = 1e-24
"""Square below which an observed tensor says nothing: no direction, and no scale to compare with."""

_TINY = 1e-12
"""Added to a square under a root, relative to the observed one: a simulated tensor can be zero."""


def distance(simulated: Mapping[str, Tensor], observed: Mapping[str, Tensor], objective: Objective) -> Tensor:
    """Return the distance of one update to another, a scalar; 0 where they are the same.

    `euclidean`: Zhu, Liu and Han (DLG, 2019), here in units of the observed update, so that no learning rate matters. `cosine`:
    Geiping et al. (Inverting Gradients, 2020). `relative` and `layer-cosine` put every tensor on its own scale, so that no bias of
    the last layer drowns the rest.

    Args:
        simulated: Tensors by name; those of `observed` must be among them.
        observed: Tensors by name.
        objective: Which distance.
    """
    pairs = [(simulated[name], tensor) for name, tensor in observed.items()]
    squares = torch.stack([o.square().sum() for _, o in pairs])
    counts = (squares > _NOTHING).to(squares.dtype)
    errors = torch.stack([(s - o).square().sum() for s, o in pairs])
    if objective == "euclidean":
        return errors.sum() / (squares.sum() + _NOTHING)
    if objective == "relative":
        return (counts * errors / (squares + _NOTHING)).sum() / counts.sum().clamp_min(1)
    products = torch.stack([(s * o).sum() for s, o in pairs])
    own = torch.stack([s.square().sum() for s, _ in pairs])
    if objective == "cosine":
        return 1 - _cosine(products.sum(), own.sum(), squares.sum())
    cosines = _cosine(products, own, squares)
    return (counts * (1 - cosines)).sum() / counts.sum().clamp_min(1)


def _cosine(product: Tensor, own: Tensor, observed: Tensor) -> Tensor:
    """Return cosines from a product and two squares; everything in units of the observed tensor, since squares can underflow."""
    unit = observed + _NOTHING
    return product / unit / (own / unit + _TINY).sqrt()
