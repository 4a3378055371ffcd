"""NoPeek: activations that are less correlated with the image (Vepakomma et al. 2020, arXiv 2008.09161)."""

from __future__ import annotations

import torch
from torch import Tensor

from leakaudit.defenses import Defense
from leakaudit.wire import Message
from leakaudit_cut.params_learned import NoPeekParams

__all__ = ["NoPeek", "distance_correlation"]

_TINY = 1e-12


def distance_correlation(x: Tensor, z: Tensor, *, squared: bool = False) -> Tensor:
    """Return the sample distance correlation R of two sets of vectors (Szekely, Rizzo and Bakirov 2007).

    With a and b the pairwise distances, A and B these after taking out row and column means: dCov^2 = mean(A B), and
    R = sqrt(dCov^2(x, z) / sqrt(dCov^2(x, x) dCov^2(z, z))); 0 where a side is constant.

    Args:
        x: Shape (n, ...).
        z: Shape (n, ...).
        squared: Use squared distances; R is then not a distance correlation in the strict sense and not comparable.

    Returns:
        Scalar in [0, 1], differentiable.
    """
    a, b = _centered(x, squared), _centered(z, squared)
    shared, own = (a * b).mean(), (a * a).mean() * (b * b).mean()
    return torch.sqrt((shared / torch.sqrt(own + _TINY)).clamp(min=0) + _TINY)


def _centered(points: Tensor, squared: bool) -> Tensor:
    flat = points.flatten(1).float()
    # Differences, not inner products: these lose all digits for points that lie close together.
    gaps = (flat[:, None] - flat[None]).square().sum(dim=-1)
    distance = gaps if squared else torch.sqrt(gaps + _TINY)
    return distance - distance.mean(dim=0, keepdim=True) - distance.mean(dim=1, keepdim=True) + distance.mean()


class NoPeek(Defense[NoPeekParams]):
    """Adds the distance correlation between a batch's images and what is sent for them to the client's loss."""

    def penalty(self, x: Tensor, sent: Message) -> Tensor | None:
        """Return the weighted mean over the chosen levels; None for a batch of one, which has no correlation."""
        if self.params.weight == 0 or len(x) < 2:
            return None
        chosen = [t for name, t in sent.tensors.items() if self.params.levels is None or name in self.params.levels]
        terms = [distance_correlation(x, t, squared=self.params.distances == "squared") for t in chosen]
        return self.params.weight * torch.stack(terms).mean() if terms else None
