"""A whole network whose encoders hand on what their clients would send: activations, changed by the clients' defenses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from leakaudit.models.task import Tensors
from leakaudit.models.unet import SegmentationNet
from leakaudit.protocols.base import Guard
from leakaudit.protocols.split import defended
from leakaudit.wire.messages import Message

__all__ = ["Penalties", "learned_state", "restored", "send_through"]

_LEARNED = "defense:"
"""What the names of learned state begin with; no weight's name has a colon."""


class Penalties:
    """What the clients' defenses add to the loss of a batch, kept from a pass of the network until it is taken."""

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    def add(self, penalty: Tensor | None) -> None:
        """Keep a penalty, if there is one."""
        self._kept += [] if penalty is None else [penalty]

    def take(self) -> Sequence[Tensor]:
        """Return the penalties since they were last taken."""
        kept, self._kept = self._kept, []
        return kept


def send_through(network: nn.Module, clients: Sequence[tuple[str, Guard]], penalties: Penalties | None = None) -> nn.Module:
    """Return the same network, with each encoder's levels passed through its client's defenses on their way to the trunk.

    Encoders become what the defenses make of them (`adapt`). Where these add no layers, parameters keep their names, so that
    weights of the undefended network fit.

    Args:
        network: A `SegmentationNet`.
        clients: Id and defense of each encoder's client, in the order of the encoders; none leave the network as it is.
        penalties: Where the defenses' penalties go at every pass; None does not ask for them.

    Raises:
        TypeError: The network is of another kind, or has another number of encoders.
    """
    if not clients:
        return network
    if not isinstance(network, SegmentationNet) or len(network.encoders) != len(clients):
        raise TypeError(f"the network has no encoder for each of the clients {', '.join(c for c, _ in clients)}")
    names = {i: f"level{i}" for i in network.levels}

    def passed_by(client: str, guard: Guard) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], levels: list[Tensor]) -> list[Tensor]:
            sent = defended(guard, client, [levels[i] for i in names], list(names.values()))
            if penalties is not None:
                penalties.add(guard.penalty(inputs[0], _message(client, sent)))
            return [sent[names[i]].to(t.dtype) if i in names else t for i, t in enumerate(levels)]

        return hook

    for i, (client, guard) in enumerate(clients):
        network.encoders[i] = guard.adapt(network.encoders[i])
        network.encoders[i].register_forward_hook(passed_by(client, guard))
    return network


def learned_state(clients: Sequence[tuple[str, Guard]]) -> dict[str, Tensor]:
    """Return what the clients' defenses learned beside the weights, by names that no weight has, on the CPU."""
    return {
        f"{_LEARNED}{client}:{name}": tensor.detach().cpu().clone()
        for client, guard in clients
        for name, tensor in guard.public_state().items()
    }


def restored(network: nn.Module, state: Tensors, clients: Sequence[tuple[str, Guard]]) -> nn.Module:
    """Return a network that answers as a trained one did whose encoders sent through defenses.

    Args:
        network: A fresh network of the task.
        state: Weights, and what `learned_state` gave.
        clients: As in `send_through`; the defenses take up what they learned.
    """
    for client, guard in clients:
        prefix = f"{_LEARNED}{client}:"
        if mine := {k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)}:
            guard.load_public_state(mine)
    network = send_through(network, clients)
    network.load_state_dict({k: t for k, t in state.items() if not k.startswith(_LEARNED)})
    return network


def _message(client: str, sent: Tensors) -> Message:
    return Message(channel="activation", sender=client, receiver="server", round=-1, step=-1, tensors=dict(sent))
