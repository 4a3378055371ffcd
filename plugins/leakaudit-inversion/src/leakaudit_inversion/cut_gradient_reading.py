"""How gradients are read, so that those of any batch compare and a decoder sees what is in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from leakaudit.models import Trunk
from leakaudit_inversion.cut_gradient_exchange import Exchange

__all__ = ["Read", "Reader", "compressed", "reader_of", "unit"]

_TINY = 1e-30
_RANK = 1e-3
"""Singular values of the fusing layer below this share of the largest are taken for zero."""


class Read:
    """An exchange whose gradients are read through a function.

    Args:
        exchange: The exchange.
        how: Makes of a level's name and gradients (n, channels, *spatial) what is compared or decoded.
    """

    def __init__(self, exchange: Exchange, how: Callable[[str, Tensor], Tensor]) -> None:
        self._exchange, self._how = exchange, how

    @property
    def moves(self) -> bool:
        """Whether any party's weights before and after the round differ."""
        return self._exchange.moves

    def go(self, place: float) -> None:
        """Set all weights to those at `place` of the round."""
        self._exchange.go(place)

    def send(self, x: Tensor) -> dict[str, Tensor]:
        """Return what is read of the gradients of samples `x`, by level."""
        return {name: self._how(name, g) for name, g in self._exchange.send(x).items()}


class Reader:
    """Makes of gradients what a decoder is given: those of the fused features, on a logarithmic scale, and their size.

    What clients receive is W^T g: the server's last step backwards is a 1x1 convolution W that fuses their levels. Behind it,
    g is a product of the slopes of the server's activations, which tell the signs of the fused features, and of what comes
    from the loss. W^T is undone first, because slopes show channel by channel, and the logarithm of a size next, because there
    a product is a sum.

    Args:
        unmixing: By level the pseudo-inverse of W^T, (fused channels, received channels); levels without one stay as they are.
    """

    def __init__(self, unmixing: Mapping[str, Tensor]) -> None:
        self._unmixing = unmixing

    def __call__(self, name: str, g: Tensor) -> Tensor:
        """Return what is read of a level's gradients (n, channels, *spatial): signed logarithms, then their sizes."""
        inverse = self._unmixing.get(name)
        if inverse is not None and inverse.shape[1] == g.shape[1]:
            g = torch.einsum("ij,nj...->ni...", inverse.to(g), g)
        u = compressed(g)
        return torch.cat([u, u.abs()], dim=1)


def reader_of(exchange: Exchange, clients: Sequence[str], receivers: Sequence[str]) -> Reader:
    """Return the reader for a server whose trunk is a `leakaudit.models.Trunk`; for another, one that undoes nothing.

    Args:
        exchange: The exchange, whose server's weights are looked at.
        clients: All image clients, in the order in which the server takes them.
        receivers: Those whose gradients are seen.
    """
    parts = [] if exchange.server is None else list(exchange.server.modules())
    found: dict[str, Tensor] = {}
    for trunk in (part for part in parts if isinstance(part, Trunk)):
        for level in trunk.levels:
            (conv,) = [m for m in trunk.fuse[str(level)].modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
            blocks = conv.weight.detach().cpu().flatten(1).chunk(len(clients), dim=1)
            mixing = torch.cat([blocks[clients.index(c)] for c in receivers], dim=1).T
            found[f"level{level}"] = torch.linalg.pinv(mixing, rtol=_RANK)
    return Reader(found)


def unit(g: Tensor) -> Tensor:
    """Return gradients (n, channels, *spatial) divided by the root mean square of each sample's.

    The size of the batch, which the adversary need not know, scales all gradients alike and is divided out.
    """
    square = g.flatten(1).square().mean(dim=1).clamp_min(_TINY)
    return g / square.sqrt().reshape(-1, *[1] * (g.ndim - 1))


def compressed(g: Tensor) -> Tensor:
    """Return asinh(g / s), s the geometric mean of |g| over a sample's gradients (n, channels, *spatial) that are not 0.

    Gradients at the border of a tumor are hundreds of times those elsewhere. A decoder that standardizes them sees nothing of
    the rest of the brain; on a logarithmic scale, signs kept, all of it counts. Like `unit` it divides out the batch size.
    """
    size = g.flatten(1).abs()
    some = size > 0
    logs = torch.where(some, size, 1.0).log().sum(dim=1) / some.sum(dim=1).clamp_min(1)
    return torch.asinh(g / logs.exp().reshape(-1, *[1] * (g.ndim - 1)))
