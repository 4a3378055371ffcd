"""The adversary's copy of the honest server's network, and where the head is elsewhere, a simulated one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from leakaudit.wire import Replica

__all__ = ["ServerCopy"]

_HOLDER = "labels"
"""Seat that holds the head of a U-shaped split."""


class ServerCopy:
    """What the server computes, from weights that are its own to know.

    The replica of a server takes inputs named `"<client>.<level>"` and gives `"logits"`, or in a U-shaped split
    `"features"` for the head of the label holder, which the adversary then simulates.

    Args:
        replica: Gives a replica of a seat.
        server: The server's seat.
    """

    def __init__(self, replica: Callable[[str], Replica], server: str) -> None:
        self._ask, self._replica = replica, replica(server)
        self._head: Replica | None = None

    def follow(self, state: Mapping[str, Tensor]) -> None:
        """Take weights, which stay frozen here."""
        if self._replica.module is not None:
            self._replica.module.load_state_dict(dict(state))
            self._replica.module.requires_grad_(False).eval()

    def simulate_head(self, state: Mapping[str, Tensor] | None = None) -> None:
        """Put a head of the adversary's own behind the network, with weights it has learned before or fresh ones."""
        self._head = self._ask(_HOLDER)
        if state is not None and self._head.module is not None:
            self._head.module.load_state_dict(dict(state))

    def predict(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return logits (n, regions, *spatial) from features by `"client.level"`."""
        found = self._replica.send(**features)
        return found["logits"] if self._head is None else self._head.send(features=found["features"])["logits"]

    @property
    def has_simulated_head(self) -> bool:
        """Whether the head is a simulated one."""
        return self._head is not None

    @property
    def _module(self) -> nn.Module | None:
        return None if self._head is None else self._head.module

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the simulated head's parameters; none where the head is the server's."""
        return [] if self._module is None else list(self._module.parameters())

    def head_state(self) -> dict[str, Tensor]:
        """Return the simulated head's weights; none where the head is the server's."""
        return {} if self._module is None else dict(self._module.state_dict())
