"""A whole network whose encoders hand on what their clients would send: activations, changed by the clients' defenses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from leakaudit.models.unet import SegmentationNet
from leakaudit.protocols.base import Guard
from leakaudit.protocols.split import defended

__all__ = ["send_through"]


def send_through(network: nn.Module, clients: Sequence[tuple[str, Guard]]) -> nn.Module:
    """Return the same network, with each encoder's levels passed through its client's defenses on their way to the trunk.

    Parameters keep their names, so that weights of the undefended network fit.

    Args:
        network: A `SegmentationNet`.
        clients: Id and defense of each encoder's client, in the order of the encoders.

    Raises:
        TypeError: The network is of another kind, or has another number of encoders.
    """
    if not isinstance(network, SegmentationNet) or len(network.encoders) != len(clients):
        raise TypeError(f"the network has no encoder for each of the clients {', '.join(c for c, _ in clients)}")
    names = {i: f"level{i}" for i in network.levels}

    def passed_by(client: str, guard: Guard) -> Any:
        def hook(_: nn.Module, __: Any, levels: list[Tensor]) -> list[Tensor]:
            sent = defended(guard, client, [levels[i] for i in names], list(names.values()))
            return [sent[names[i]].to(t.dtype) if i in names else t for i, t in enumerate(levels)]

        return hook

    for (client, guard), encoder in zip(clients, network.encoders, strict=True):
        encoder.register_forward_hook(passed_by(client, guard))
    return network
